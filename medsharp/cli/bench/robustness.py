"""`medsharp bench robustness`: what corrupting costs beside the network."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from medsharp.cli._console import DEVICE_HELP, console, heading, note, progress_bar
from medsharp.cli.bench._output import JsonFile, check_json, write_json
from medsharp.progress import rate_text

RUN_IMAGES = 300
"""Images of the run whose length is told."""


def robustness(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder; the one in models/ by default.")] = None,
    patients: Annotated[int, typer.Option(min=4, max=10_000, help="Simulated patients to measure on.")] = 24,
    size: Annotated[int, typer.Option(min=64, max=1024, help="Side of their images in pixels.")] = 256,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="The fastest of so many is taken.")] = 3,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    json_: JsonFile = None,
) -> None:
    """Measure each corruption, preprocessing and the network, in CPU time, and a whole run in wall time."""
    from medsharp.bundle import default_bundle
    from medsharp.inference import Predictor
    from medsharp.robustness.benchmark import measure_cost

    check_json(json_)
    predictor = Predictor.load(bundle or default_bundle(), device=device)
    with progress_bar() as report:
        cost = measure_cost(predictor, patients=patients, side=size, repeats=repeats, progress=report)
    further = {"corruption": cost.corruption, f"seconds_{RUN_IMAGES}": cost.seconds(RUN_IMAGES)}
    write_json(json_, asdict(cost) | further)
    heading(
        f"{predictor.spec.network} at {cost.input_side} x {cost.input_side}, {cost.images} images of "
        f"{cost.side} x {cost.side}, {predictor.session.device}"
    )
    table = Table()
    table.add_column("ms an image, CPU time")
    table.add_column("", justify="right")
    for name, value in sorted(cost.corruptions.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{value:.3g}")
    table.add_section()
    table.add_row("mean of the corruptions", f"{cost.corruption:.3g}")
    table.add_row("preprocessing", f"{cost.preprocess:.3g}")
    table.add_row("network", f"{cost.inference:.3g}")
    console.print(table)
    note(f"corrupting costs {rate_text(100 * cost.corruption / cost.inference)} % of the network")
    note(
        f"all {len(cost.corruptions)} corruptions and controls at 5 severities on {RUN_IMAGES} images: "
        f"{rate_text(cost.seconds(RUN_IMAGES))} s ({cost.together:.3g} ms an image, wall time)"
    )
