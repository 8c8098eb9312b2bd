"""`medsharp serve`: a bundle behind a web page and an HTTP API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medsharp.cli._console import LIMIT_HELP, RANGE_HELP, console
from medsharp.errors import InputError


def serve(
    bundles: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[BUNDLE]...",
            help="Bundle folders, the first of which answers where a request names none; without it the one that ships "
            "in models/.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need --auth.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 7860,
    auth: Annotated[
        str | None, typer.Option(metavar="USER:PASSWORD", envvar="MEDSHARP_AUTH", help="Ask visitors for this.")
    ] = None,
    limit: Annotated[list[str] | None, typer.Option(help=LIMIT_HELP)] = None,
    value_range: Annotated[str | None, typer.Option("--range", metavar="LOW,HIGH", help=RANGE_HELP)] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    waiting: Annotated[
        int, typer.Option(min=0, max=100_000, help="Requests beside the first; more are told to come again (429).")
    ] = 64,
    deadline: Annotated[
        float, typer.Option(min=0.1, max=86_400, help="Seconds after which a request is given up (504).")
    ] = 120.0,
    max_batch: Annotated[
        int | None, typer.Option(min=1, max=512, help="Images in a batch; 4 on a CPU and 32 elsewhere by default.")
    ] = None,
    max_wait: Annotated[
        float, typer.Option(min=0, max=1000, help="Milliseconds that an image waits for others that are being decoded.")
    ] = 10.0,
) -> None:
    """Open a page that takes an image and shows probability, operating point and heat map, and the API.

    A running server loads its bundles again on SIGHUP, and finishes what it has before it stops.
    """
    from functools import partial

    from medsharp.bundle import default_bundle
    from medsharp.config import read_limits
    from medsharp.images import read_range
    from medsharp.inference import Predictor
    from serve import Limits, run
    from serve.engine import Batching

    credentials = None
    if auth is not None:
        user, colon, password = auth.partition(":")
        if not (user and colon and password):
            raise InputError("--auth must be USER:PASSWORD")
        credentials = (user, password)
    declared = None if value_range is None else read_range(value_range, "--range")
    run(
        bundles or [default_bundle()],
        host=host,
        port=port,
        auth=credentials,
        open_browser=browser,
        announce=lambda sentence: console.print(sentence, soft_wrap=True),
        limits=Limits(max_waiting=waiting, deadline_seconds=deadline),
        batching=Batching(max_batch, max_wait / 1000),
        load=partial(Predictor.load, limits=read_limits(limit or ()), value_range=declared),
    )
