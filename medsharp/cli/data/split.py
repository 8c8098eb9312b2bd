"""`medsharp data split`: an audited manifest with train, validation and test, or folds."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from medsharp.cli._console import console, heading, note, progress_bar
from medsharp.cli._data_options import SOURCE_HELP
from medsharp.errors import InputError


class FoldRole(StrEnum):
    """What a fold is: `data.fold_role`."""

    test = "test"
    val = "val"


def split(
    data: Annotated[str, typer.Argument(help="Manifest or data set folder.")],
    out: Annotated[Path, typer.Option(help="Folder for manifest.csv and manifest.yaml.")],
    classes: Annotated[str, typer.Option(help="Comma-separated; images of other classes are left out.")] = (
        "benign,malignant"
    ),
    fractions: Annotated[str, typer.Option(help="Shares of train, validation and test.")] = "0.7,0.15,0.15",
    folds: Annotated[int | None, typer.Option(min=2, max=20, help="k folds instead of fractions.")] = None,
    official_folds: Annotated[
        int | None, typer.Option(min=3, max=20, help="The k folds of the data set's authors (BUS-BRA: 5 or 10).")
    ] = None,
    fold: Annotated[int, typer.Option(min=0, help="With folds: which of them, from 0.")] = 0,
    fold_role: Annotated[
        FoldRole,
        typer.Option(
            help="test: the fold is tested and the next one validates; val: it validates, all others train, and "
            "nothing is tested. With --leave-site it validates."
        ),
    ] = FoldRole.test,
    leave_site: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Test on this site; the others train and validate, perhaps by --folds."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    source: Annotated[str, typer.Option(help=SOURCE_HELP)] = "auto",
) -> None:
    """Audit a data set, tie near-duplicates, and split it by patient (or by tie) into train, val and test."""
    from medsharp.config import validate_config
    from medsharp.data.manifest import write_manifest
    from medsharp.data.prepare import prepare_manifest

    names = [name.strip() for name in classes.split(",") if name.strip()]
    positive = "malignant" if "malignant" in names else names[-1] if names else ""
    settings = {
        "path": data,
        "source": source,
        "classes": names,
        "positive": positive,
        "fractions": [_number(part) for part in fractions.split(",")],
        "folds": folds,
        "official_folds": official_folds,
        "fold": fold,
        "fold_role": fold_role.value,
        "leave_site": leave_site,
        "split_seed": seed,
    }
    config = validate_config({"data": settings}, "data split").data
    if (out / "manifest.csv").exists():
        raise InputError(f"{out / 'manifest.csv'} exists already; choose another folder or remove it first")
    heading(f"Data: {data}")
    with progress_bar() as report:
        manifest = prepare_manifest(config, progress=report)
    write_manifest(manifest, out)
    for sentence in manifest.notes:
        note(sentence)
    sites = sorted(set(manifest.included["site"]))
    table = Table()
    for column in ("split", *["site"] * (len(sites) > 1), "images", "groups", *names):
        table.add_column(column)
    for part in ("train", "val", "test"):
        rows = manifest.of_split(part)
        if not len(rows):
            continue
        for site in sites if len(sites) > 1 else [None]:
            chosen = rows if site is None else rows[rows["site"] == site]
            counts = [str(int((chosen["label"] == name).sum())) for name in names]
            where = [] if site is None else [site]
            table.add_row(part, *where, str(len(chosen)), str(chosen["group"].nunique()), *counts)
    console.print(table)
    note(f"{out / 'manifest.csv'}")


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # which the configuration refuses, by its name
