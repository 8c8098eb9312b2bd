"""`medsharp serve`: a bundle behind a web page and an HTTP API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medsharp.cli._console import LIMIT_HELP, RANGE_HELP, console
from medsharp.errors import InputError


def serve(
    bundle: Annotated[
        Path | None, typer.Argument(help="Bundle folder; without it the one that ships in models/.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need --auth.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 7860,
    auth: Annotated[
        str | None, typer.Option(metavar="USER:PASSWORD", envvar="MEDSHARP_AUTH", help="Ask visitors for this.")
    ] = None,
    limit: Annotated[list[str] | None, typer.Option(help=LIMIT_HELP)] = None,
    value_range: Annotated[str | None, typer.Option("--range", metavar="LOW,HIGH", help=RANGE_HELP)] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Open a page that takes an image and shows probability, operating point and heat map, and the API."""
    from medsharp.bundle import default_bundle
    from medsharp.config import read_limits
    from medsharp.images import read_range
    from medsharp.inference import Predictor
    from serve import run

    credentials = None
    if auth is not None:
        user, colon, password = auth.partition(":")
        if not (user and colon and password):
            raise InputError("--auth must be USER:PASSWORD")
        credentials = (user, password)
    declared = None if value_range is None else read_range(value_range, "--range")
    chosen = bundle if bundle is not None else default_bundle()
    run(
        Predictor.load(chosen, limits=read_limits(limit or ()), value_range=declared) if limit or declared else chosen,
        host=host,
        port=port,
        auth=credentials,
        open_browser=browser,
        announce=lambda sentence: console.print(sentence, soft_wrap=True),
    )
