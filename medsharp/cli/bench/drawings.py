"""`medsharp bench drawings`: how many drawings and views the audit finds."""

from __future__ import annotations

from typing import Annotated

import typer

from medsharp.cli._console import heading, progress_bar
from medsharp.cli.bench._output import JsonFile, check_json, show_section, write_json


def drawings(
    data: Annotated[
        list[str] | None,
        typer.Option(help="Manifest or data set folder, besides simulated images; may be repeated."),
    ] = None,
    images: Annotated[int, typer.Option(min=2, max=10_000, help="Images of each set.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated images and the drawings.")] = 0,
    json_: JsonFile = None,
) -> None:
    """Burn calipers, text, rulers, flow and markers into images, and count what the audit finds of them."""
    from medsharp.data.benchmark import measure_drawings
    from medsharp.data.sources import open_dataset

    check_json(json_)
    heading("Drawings that the audit finds")
    with progress_bar() as report:
        section = measure_drawings(
            [open_dataset(name) for name in data or ()], images=images, seed=seed, progress=report
        )
    show_section(section)
    write_json(json_, section.as_dict())
