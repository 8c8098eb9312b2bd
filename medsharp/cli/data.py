"""`medsharp data`: look at data before training: known sources, simulated hospitals, audited splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from medsharp.cli._console import console, heading, note, progress_bar
from medsharp.errors import InputError

app = typer.Typer(help="Known data sets, simulated hospitals, audited splits.", no_args_is_help=True)


@app.command("list")
def list_(
    json_: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False,
) -> None:
    """Show the data sets whose folders are recognised by their layout."""
    from medsharp.data.sources import list_sources

    if json_:
        typer.echo(json.dumps([source.as_dict() for source in list_sources()], indent=1, ensure_ascii=False))
        return
    for source in list_sources():
        images = ", ".join(f"{label} {count:,}" for label, count in source.images.items()) or "no labels"
        patients = f"{source.patients:,} patients" if source.patients else "patients not identified"
        facts = {
            "where": ", ".join(part for part in (source.info.source, source.country) if part),
            "device": source.device,
            "images": f"{images}; {patients}; {'with' if source.masks else 'without'} masks" if source.country else "",
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
    note("Nothing is downloaded. A manifest, or any folder with one sub-folder a class, is read as well.")


@app.command("phantom")
def phantom(
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    hospital: Annotated[str, typer.Option(help="A, B or C: which simulated scanner.")] = "A",
    patients: Annotated[int, typer.Option(min=2, max=1_000_000)] = 200,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    size: Annotated[int, typer.Option(min=64, max=1024, help="Side of the square images in pixels.")] = 256,
) -> None:
    """Simulate a hospital: B-mode images, lesion masks and a manifest; the same seed gives the same bytes."""
    from medsharp.data.phantom import write_phantom

    with progress_bar() as report:
        manifest = write_phantom(out, hospital=hospital, patients=patients, seed=seed, size=size, progress=report)
    note(f"{len(manifest.table)} simulated images of {patients} patients in {out}")


@app.command("split")
def split(
    data: Annotated[str, typer.Argument(help="Manifest or data set folder.")],
    out: Annotated[Path, typer.Option(help="Folder for manifest.csv and manifest.yaml.")],
    classes: Annotated[str, typer.Option(help="Comma-separated; images of other classes are left out.")] = (
        "benign,malignant"
    ),
    folds: Annotated[int | None, typer.Option(min=3, max=20, help="k folds instead of 70/15/15.")] = None,
    fold: Annotated[int, typer.Option(min=0, help="With --folds: the test fold.")] = 0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Audit a data set, tie near-duplicates, and split it by patient (or by tie) into train, val and test."""
    from medsharp.config import validate_config
    from medsharp.data.manifest import write_manifest
    from medsharp.data.prepare import prepare_manifest

    names = [name.strip() for name in classes.split(",") if name.strip()]
    positive = "malignant" if "malignant" in names else names[-1] if names else ""
    settings = {"path": data, "classes": names, "positive": positive, "folds": folds, "fold": fold, "split_seed": seed}
    config = validate_config({"data": settings}, "data split").data
    if (out / "manifest.csv").exists():
        raise InputError(f"{out / 'manifest.csv'} exists already; choose another folder or remove it first")
    heading(f"Data: {data}")
    with progress_bar() as report:
        manifest = prepare_manifest(config, progress=report)
    write_manifest(manifest, out)
    for sentence in manifest.notes:
        note(sentence)
    table = Table()
    for column in ("split", "images", "groups", *names):
        table.add_column(column)
    for part in ("train", "val", "test"):
        rows = manifest.of_split(part)
        counts = [str(int((rows["label"] == name).sum())) for name in names]
        table.add_row(part, str(len(rows)), str(rows["group"].nunique()), *counts)
    console.print(table)
    note(f"{out / 'manifest.csv'}")
