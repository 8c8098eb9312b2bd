"""The `medsharp` command: one file a command; each only parses, calls and prints."""

from __future__ import annotations

import errno
import gc
import os
import re
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import typer

from medsharp import __version__
from medsharp.cli._console import drop_unwritten, fail
from medsharp.cli._lazy_group import LazyGroup, Place
from medsharp.cores import wait_asleep
from medsharp.errors import InputError, ToldElsewhereError
from medsharp.files import is_utf8, not_utf8

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


_OBJECTS = 5_000
"""More objects than are freed from which on unreachable cycles are looked for; 700 by default in Python 3.11."""


class _Commands(LazyGroup):
    """Turns wrong input into one sentence and exit code 2, for every command."""

    lazy: ClassVar = {
        "train": Place("medsharp.cli.train", "train", epilog="describe_optimizers"),
        "crossvalidate": Place("medsharp.cli.crossvalidate", "crossvalidate"),
        "export": Place("medsharp.cli.export", "export"),
        "predict": Place("medsharp.cli.predict", "predict"),
        "evaluate": Place("medsharp.cli.evaluate", "evaluate"),
        "robustness": Place("medsharp.cli.robustness", "robustness"),
        "checks": Place("medsharp.cli.checks", "checks"),
        "recalibrate": Place("medsharp.cli.recalibrate", "recalibrate"),
        "score": Place("medsharp.cli.score", "score"),
        "compare": Place("medsharp.cli.compare", "compare"),
        "plan": Place("medsharp.cli.plan", "plan"),
        "sharpness": Place("medsharp.cli.sharpness", "sharpness"),
        "serve": Place("medsharp.cli.serve", "serve"),
        "demo": Place("medsharp.cli.demo", "demo"),
        "access": Place("medsharp.cli.access", "app"),
        "study": Place("medsharp.cli.study", "app"),
        "data": Place("medsharp.cli.data", "app"),
        "bench": Place("medsharp.cli.bench", "app"),
    }

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for option, url in _urls_to_write(args):
            fail(f"{option} {url}: results are written to this machine's disks; give a folder or file there")
            raise typer.Exit(2)
        # One image among many that `predict` is given has a row of its own.
        wrong = [] if args[:1] == ["predict"] else [arg for arg in args if not is_utf8(arg)]
        for arg in wrong[:1]:
            fail(not_utf8(arg))
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
        except UnicodeEncodeError as error:
            # What is left of names that are not in UTF-8: of the working folder, or of what a link leads to.
            if is_utf8(error.object):
                raise
            drop_unwritten()
            fail(not_utf8(_line_of(error)))
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


def _line_of(error: UnicodeEncodeError) -> str:
    """Return what stands on the line of a text that cannot be encoded, near the place."""
    before, after = error.object[: error.start], error.object[error.start :]
    return before.rpartition("\n")[2][-80:] + after.partition("\n")[0][:80]


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
    # Pydantic looks for plug-ins of its own among all packages that are installed, which takes as long as reading a
    # bundle; none of them has a part in what commands do.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # What imports leave lives as long as the process. By default the collector goes through it a hundred times before a
    # first image is predicted, once through all.
    gc.set_threshold(_OBJECTS)
    app()
