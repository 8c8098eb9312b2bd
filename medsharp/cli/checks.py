"""`medsharp checks`: limits of the input checks for a bundle that is there already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from medsharp.cli._console import console, heading, note, progress_bar


def checks(
    bundle: Annotated[Path, typer.Argument(help="Bundle, as `medsharp export` writes it.")],
    data: Annotated[list[str], typer.Option(help="Audited data set that it was made of; may be repeated.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the new bundle.")],
    no_lesion: Annotated[str, typer.Option(help="Label of images that show no lesion, if there are any.")] = "normal",
) -> None:
    """Fit the input checks of a bundle on images that it was made of, and write it as a new one.

    Its network, temperature and operating point stay: answers are the same, what is refused or marked is not.
    """
    from medsharp.data.sources import open_dataset
    from medsharp.errors import InputError
    from medsharp.export.refit import refit_checks

    if out.exists():
        raise InputError(f"{out} exists already; choose another --out")
    heading(f"Fitting the input checks of {bundle}")
    with progress_bar() as report:
        spec = refit_checks(bundle, out, [open_dataset(path) for path in data], no_lesion=no_lesion, progress=report)
    table = Table("check", "limit", "of its own images", "of images without a lesion")
    for key, one in spec.checks.items():
        found = "" if one.found is None else f"{one.found:.1%} of {one.without}"
        table.add_row(key, f"{one.limit:.4g}", f"{one.false_alarms:.1%} of {one.images}", found)
    console.print(table)
    note(f"written to {out}")
