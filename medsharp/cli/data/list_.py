"""`medsharp data list`: the data sets whose folders are recognised."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from medsharp.cli._console import console, note


def list_(
    json_: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False,
) -> None:
    """Show the data sets whose folders are recognised: by their layout, and by their table or numbers of images."""
    from medsharp.data.sources import list_sources

    if json_:
        typer.echo(json.dumps([source.as_dict() for source in list_sources()], indent=1, ensure_ascii=False))
        return
    for source in list_sources():
        images = ", ".join(f"{label} {count:,}" for label, count in source.images.items()) or "no labels"
        patients = f"{source.patients:,} patients" if source.patients else "patients not identified"
        facts = {
            "--source": source.key,
            "where": ", ".join(part for part in (source.info.source, source.country) if part),
            "device": source.device,
            "images": f"{images}; {patients}; {'with' if source.masks else 'without'} masks",
            "licence": source.info.licence,
            "DOI": source.info.doi,
            "from": source.request,
            "flaws": "; ".join(source.flaws),
            "tested on": "the real data" if source.verified else "its published layout, not the real data",
        }
        table = Table(title=source.name, title_justify="left", title_style="bold", show_header=False, box=None)
        table.add_column(style="dim", min_width=9)
        table.add_column(overflow="fold")
        for name, value in facts.items():
            if value:
                table.add_row(name, value)
        console.print(table)
        console.print()
    note("Nothing is downloaded. A manifest is read as well, and a hospital's own folder of pictures or DICOM files,")
    note("with a sub-folder a class or a list of labels: see medsharp data prepare --help.")
