"""`medsharp data phantom`: a simulated hospital as a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medsharp.cli._console import note, progress_bar


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
