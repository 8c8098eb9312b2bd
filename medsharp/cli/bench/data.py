"""`medsharp bench data`: what reading, checking and feeding images costs on this machine."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from medsharp.cli._console import heading, progress_bar
from medsharp.cli.bench._output import JsonFile, check_json, show_section, write_json
from medsharp.cores import usable_cores


class Part(StrEnum):
    """What to measure."""

    all = "all"
    duplicates = "duplicates"
    manifests = "manifests"
    pipeline = "pipeline"


def data(
    part: Annotated[
        Part, typer.Option(help="Near-duplicates, manifests of many rows, the way to batches, or all.")
    ] = Part.all,
    images: Annotated[
        list[int] | None,
        typer.Option(min=50, max=5_000_000, help="Numbers of images of the first two parts; may be repeated."),
    ] = None,
    crops: Annotated[
        list[str] | None,
        typer.Option(help="Data set whose images are cropped, and their crops looked for; may be repeated."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Manifest or data set folder for the pipeline; made-up images without it.")
    ] = None,
    image_size: Annotated[int, typer.Option(min=32, max=1024, help="Side of the network's input.")] = 224,
    batch_size: Annotated[int, typer.Option(min=2, max=4096)] = 32,
    workers: Annotated[int, typer.Option(min=0, max=256, help="Processes that prepare batches.")] = 0,
    network: Annotated[str, typer.Option(help="That waits for data.")] = "resnet18",
    seed: Annotated[int, typer.Option(min=0, help="Of what is made up to be measured.")] = 0,
    json_: JsonFile = None,
) -> None:
    """Measure how the search for near-duplicates, ties and splits grow with the images, and how fast a network is fed.

    The pipeline is measured from files to batches, by augmentation, and in a training that says how long it waited.
    """
    from medsharp.data.benchmark import measure_crops, measure_duplicates, measure_manifests
    from medsharp.data.sources import open_dataset

    check_json(json_)
    heading(f"Data on {usable_cores()} cores")
    sections = []
    with progress_bar() as report:
        if part in {Part.all, Part.duplicates}:
            sections.append(measure_duplicates(images or (2_655, 26_550, 265_500), seed=seed, progress=report))
        if part in {Part.all, Part.manifests}:
            sections.append(measure_manifests(images or (10_000, 100_000), seed=seed, progress=report))
        if crops:
            sections.append(measure_crops([open_dataset(name) for name in crops], seed=seed, progress=report))
        if part in {Part.all, Part.pipeline}:
            from training.benchmark.pipeline import PipelineSettings, measure_pipeline

            settings = PipelineSettings(
                image_size=image_size, batch_size=batch_size, workers=workers, network=network, seed=seed
            )
            manifest = None if data is None else open_dataset(data, classes=("benign", "malignant"))
            sections += measure_pipeline(settings, manifest, report)
    for section in sections:
        show_section(section)
    write_json(json_, [section.as_dict() for section in sections])
