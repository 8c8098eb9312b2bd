"""`medsharp data split`: an audited manifest with train, validation and test, or folds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from medsharp.cli._console import console, heading, note, progress_bar
from medsharp.errors import InputError


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
