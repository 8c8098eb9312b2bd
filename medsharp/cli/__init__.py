"""The `medsharp` command: one file a command; each only parses, calls and prints."""

from __future__ import annotations

import errno
import re
from itertools import pairwise
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from medsharp import __version__
from medsharp.cli import (
    access,
    bench,
    checks,
    compare,
    crossvalidate,
    data,
    demo,
    evaluate,
    export,
    plan,
    predict,
    recalibrate,
    robustness,
    score,
    serve,
    sharpness,
    study,
    train,
)
from medsharp.cli._console import fail
from medsharp.cores import wait_asleep
from medsharp.errors import InputError, ToldElsewhereError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells count it: 128 + SIGINT."""

TRAINING_PACKAGES = frozenset({"torch", "monai", "timm", "onnx", "onnxscript", "safetensors"})
"""What only the extra `train` installs."""

STUDY_PACKAGES = frozenset({"optuna"})
"""What only the extra `study` installs."""


CLUSTER_PACKAGES = frozenset({"ray"})
"""What only the extra `cluster` installs."""

CLUSTER_SERVE_PACKAGES = frozenset({"grpc", "uvloop", "httptools", "watchfiles"})
"""What only the extra `cluster-serve` installs, with Ray."""

_EXTRAS = {
    "train": TRAINING_PACKAGES,
    "study": STUDY_PACKAGES,
    "cluster": CLUSTER_PACKAGES,
    "cluster-serve": CLUSTER_SERVE_PACKAGES,
}

_TOLD = frozenset(
    {errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT}
    | {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
)
"""Refusals of the operating system that are told in a sentence."""

_WRITTEN = frozenset({"--out", "--heatmaps", "--json", "--triton", "--disk"})
"""Options that name what is written."""

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)

_ADDRESS = re.compile(r"local|auto|[a-z]+://.*|[^/]+:\d+")
"""What may follow `--ray`; anything else is the next argument."""


class _Commands(TyperGroup):
    """Turns wrong input into one sentence and exit code 2, for every command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _hide_types_of_flags(self, ctx)
        for option, url in _urls_to_write(args):
            fail(f"{option} {url}: results are written to this machine's disks; give a folder or file there")
            raise typer.Exit(2)
        return super().parse_args(ctx, _with_addresses(args))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            if not isinstance(error, ToldElsewhereError):
                fail(str(error))
            raise typer.Exit(2) from error
        except ModuleNotFoundError as error:
            extra = next((name for name, packages in _EXTRAS.items() if error.name in packages), None)
            if extra is None:
                raise
            fail(f"this command needs {error.name}; install what {extra} needs: pip install 'medsharp[{extra}]'")
            raise typer.Exit(2) from error
        except OSError as error:
            # What is left of the operating system's refusals: a disk that is full, a folder that may not be read, no
            # process or memory left.
            if error.errno not in _TOLD:
                raise
            where = f"{error.filename}: " if error.filename else ""
            fail(f"{where}{error.strerror}")
            raise typer.Exit(2) from error
        except KeyboardInterrupt as interrupt:
            fail(str(interrupt) or "interrupted")
            raise typer.Exit(INTERRUPTED) from interrupt


def _urls_to_write(args: list[str]) -> list[tuple[str, str]]:
    """Return options that name what is written, with values that are URLs; as a path one would be a folder `s3:`."""
    end = args.index("--") if "--" in args else len(args)
    given = [tuple(arg.split("=", 1)) if "=" in arg else (arg, follows) for arg, follows in pairwise([*args[:end], ""])]
    return [(option, value) for option, value in given if option in _WRITTEN and _URL.match(value)]


def _with_addresses(args: list[str]) -> list[str]:
    """Give `--ray` the address `local` where none follows it: an option of Typer's takes a value always."""
    end = args.index("--") if "--" in args else len(args)
    lone = {
        place
        for place in range(end)
        if args[place] == "--ray" and not (place + 1 < end and _ADDRESS.fullmatch(args[place + 1]))
    }
    return ["--ray=local" if place in lone else one for place, one in enumerate(args)]


def _hide_types_of_flags(command: Any, ctx: Any) -> None:
    """Leave `<bool>` out of the help of flags, which take no value."""
    for option in command.get_params(ctx):
        if getattr(option, "is_flag", False) and option.metavar is None:
            option.metavar = ""
    for below in getattr(command, "commands", {}).values():
        _hide_types_of_flags(below, ctx)


app = typer.Typer(
    cls=_Commands,
    name="medsharp",
    help="Train breast-ultrasound classifiers with sharpness-aware optimizers, and measure honestly how they hold up "
    "on hospitals they never saw. Research software: [bold]not for diagnostic use[/bold].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train", epilog=train.describe_optimizers())(train.train)
app.command("crossvalidate")(crossvalidate.crossvalidate)
app.command("export")(export.export)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("robustness")(robustness.robustness)
app.command("checks")(checks.checks)
app.command("recalibrate")(recalibrate.recalibrate)
app.command("score")(score.score)
app.command("compare")(compare.compare)
app.command("plan")(plan.plan)
app.command("sharpness")(sharpness.sharpness)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.add_typer(access.app, name="access")
app.add_typer(study.app, name="study")
app.add_typer(data.app, name="data")
app.add_typer(bench.app, name="bench")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"medsharp {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options that come before a command."""


def main() -> None:
    """Run the command line."""
    wait_asleep()
    app()
