"""`medsharp bench page`: the documentation's pictures of the page and of a report, taken anew."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.markup import escape

from medsharp.cli._console import console, note


def page(
    bundles: Annotated[
        list[Path] | None, typer.Argument(help="Bundles to serve; the one in models/ by default.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("docs/images"),
    report: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="HTML",
            help="Report of medsharp demo; by default the demo is run for it, which takes minutes.",
        ),
    ] = None,
) -> None:
    """Use the page in a browser, with simulated images only, and write pictures of it (needs chromium, playwright)."""
    from medsharp.bundle import default_bundle
    from serve.page.pictures import check_browser, take_pictures

    check_browser()
    with TemporaryDirectory() as aside:
        shown = report or _demo_report(Path(aside) / "demo")
        written = take_pictures(bundles or [default_bundle()], out, lambda name: note(f"taking {name}"), shown)
    for path in written:
        console.print(f"picture: [bold]{escape(str(path))}[/]", soft_wrap=True)


def _demo_report(folder: Path) -> Path:
    from medsharp.cli.demo import demo

    demo(folder)
    return folder / "evaluation" / "report.html"
