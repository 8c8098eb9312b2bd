"""`medsharp bench drawings`: how many drawings and views the audit finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from medsharp.cli._console import heading, progress_bar
from medsharp.cli.bench._section import show_section
from medsharp.errors import InputError
from medsharp.files import write_text


def drawings(
    data: Annotated[
        list[str] | None,
        typer.Option(help="Manifest or data set folder, besides simulated images; may be repeated."),
    ] = None,
    images: Annotated[int, typer.Option(min=2, max=10_000, help="Images of each set.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated images and the drawings.")] = 0,
    json_: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
) -> None:
    """Burn calipers, text, rulers, flow and markers into images, and count what the audit finds of them."""
    from medsharp.data.benchmark import measure_drawings
    from medsharp.data.sources import open_dataset

    if json_ is not None and json_.is_dir():
        raise InputError(f"--json {json_} is a folder; give a file")
    heading("Drawings that the audit finds")
    with progress_bar() as report:
        section = measure_drawings(
            [open_dataset(name) for name in data or ()], images=images, seed=seed, progress=report
        )
    show_section(section)
    if json_ is not None:
        write_text(json_, json.dumps(section.as_dict(), indent=1) + "\n")
