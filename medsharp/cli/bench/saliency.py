"""`medsharp bench saliency`: whether heat maps point at what decides."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from medsharp.cli._console import DEVICE_HELP, heading, note, progress_bar
from medsharp.cli.bench._output import JsonFile, check_json, show_table, write_json


def saliency(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder; the one in models/ by default.")] = None,
    data: Annotated[str, typer.Option(help="Data set with lesion masks.")] = "phantom",
    images: Annotated[int, typer.Option(min=2, max=100_000, help="Of each class as many, where there are.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Of the drawing of images and of the random order.")] = 0,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables as Markdown.")] = False,
    json_: JsonFile = None,
) -> None:
    """Measure heat maps: their share inside lesions against the lesions' area, and the deletion curve."""
    from medsharp.bundle import default_bundle
    from medsharp.data.sources import open_dataset
    from medsharp.inference import Predictor
    from medsharp.inference.benchmark import FRACTIONS, ORDERS, measure_explanations

    check_json(json_)
    predictor = Predictor.load(bundle or default_bundle(), device=device)
    manifest = open_dataset(data, classes=predictor.spec.classes)
    with progress_bar() as report:
        found = measure_explanations(predictor, manifest, images=images, seed=seed, progress=report)
    write_json(json_, {"fractions": FRACTIONS} | asdict(found))
    heading(f"{predictor.spec.name} on {found.images} images of {manifest.info.name}, {found.above} above")
    positive = predictor.spec.positive
    shares = {"lesion, share of the area": found.area}
    for kind, figures in (("for", found.share_for), ("against", found.share_against)):
        for who, figure in zip((f"{positive} images", "other images"), figures, strict=True):
            shares[f"{who}: of what speaks {kind} {positive}, inside the lesion"] = figure
    shares[f"{positive} images whose place that speaks most for it is inside"] = found.pointing
    show_table(
        ("", "mean (95 % interval)"), [(name, _cell(figure)) for name, figure in shares.items()], markdown=markdown
    )
    rows = [
        (f"{100 * fraction:g} %", *(_cell(found.curves[order][number], 2) for order in ORDERS))
        for number, fraction in enumerate(FRACTIONS)
    ]
    show_table(("covered", *ORDERS), rows, title="Change of the log odds", markdown=markdown)
    note(f"maps that contradict their number: {found.contradictions} of {found.images}")


def _cell(figure: tuple[float, float, float], digits: int = 3) -> str:
    value, low, high = (f"{number:.{digits}f}" for number in figure)
    return f"{value} ({low} to {high})"
