"""`medsharp bench page`: the documentation's pictures of the page, taken anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from medsharp.cli._console import console, note


def page(
    bundles: Annotated[
        list[Path] | None, typer.Argument(help="Bundles to serve; the one in models/ by default.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("docs/images"),
) -> None:
    """Use the page in a browser, with simulated images only, and write pictures of it (needs chromium, playwright)."""
    from medsharp.bundle import default_bundle
    from serve.page.pictures import take_pictures

    written = take_pictures(bundles or [default_bundle()], out, lambda name: note(f"taking {name}"))
    for path in written:
        console.print(f"picture: [bold]{escape(str(path))}[/]", soft_wrap=True)
