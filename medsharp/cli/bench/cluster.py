"""`medsharp bench cluster`: from which size on Ray and torchrun pay."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medsharp.cli._console import heading, note
from medsharp.cli.bench._output import JsonFile, check_json, show_table, write_json
from medsharp.cores import usable_cores
from medsharp.errors import InputError

if TYPE_CHECKING:
    from medsharp.cluster.benchmark import Prediction, Training

_MACHINES = (1, 2, 4, 16)


def cluster(
    bundle: Annotated[Path, typer.Argument(help="Bundle to predict with.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of image files to predict; a simulated hospital by default.")
    ] = None,
    sizes: Annotated[
        str, typer.Option(metavar="N,N,...", help="Images of each manifest: the files again and again.")
    ] = "2000,20000",
    training: Annotated[bool, typer.Option(help="Measure torchrun too.")] = True,
    network: Annotated[str, typer.Option(help="Network that is trained.")] = "resnet18",
    optimizer: Annotated[str, typer.Option(help="Optimizer that trains it.")] = "sam",
    patients: Annotated[int, typer.Option(min=20, help="Of the simulated hospital that is trained on.")] = 200,
    image_size: Annotated[int, typer.Option(min=32, max=512, help="In pixels, for training.")] = 128,
    json_: JsonFile = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
) -> None:
    """Predict by one process and by Ray on this machine, and train by one process and by two, with the same steps."""
    from tempfile import TemporaryDirectory

    from medsharp.bundle import read_bundle
    from medsharp.cli.bench._images import image_files
    from medsharp.cluster.benchmark import measure_prediction, measure_training

    check_json(json_)
    counts = _counts(sizes)
    read_bundle(bundle)
    values: dict[str, Any] = {"cores": usable_cores()}
    with TemporaryDirectory() as aside:
        files = image_files(images, Path(aside))
        heading(f"Predicting on {usable_cores()} cores")
        found = [measure_prediction(bundle, files, count, Path(aside) / "predicted") for count in counts]
        _show_prediction(found, markdown)
        values["prediction"] = [asdict(one) for one in found]
        if training:
            heading(f"Training {network} with {optimizer}, batches of 32 images in all")
            ways = []
            for number, (processes, threads) in enumerate(((1, 1), (1, 2), (2, 1))):
                run = Path(aside) / "trained" / str(number)
                run.mkdir(parents=True)
                ways.append(
                    measure_training(
                        processes,
                        threads,
                        run,
                        network=network,
                        optimizer=optimizer,
                        patients=patients,
                        image_size=image_size,
                    )
                )
            _show_training(ways, markdown)
            values["training"] = [asdict(one) for one in ways]
    write_json(json_, values)


def _counts(text: str) -> list[int]:
    try:
        counts = sorted({int(word) for word in text.split(",")})
    except ValueError as error:
        raise InputError(f"--sizes {text}: write numbers of images, such as 2000,20000") from error
    if len(counts) < 2 or counts[0] < 1:
        raise InputError(f"--sizes {text}: two sizes at least, of one image or more, show what each image costs")
    return counts


def _show_prediction(found: list[Prediction], markdown: bool) -> None:
    from medsharp.cluster.benchmark import Line

    rows = [
        (f"{one.images:,}", f"{one.local:.1f}", f"{one.ray:.1f}", f"{one.ray / one.local:.2f}", _yes(one.equal))
        for one in found
    ]
    show_table(("images", "one process, s", "Ray, s", "Ray / one", "same bytes"), rows, markdown=markdown, numbers=True)
    sizes = [one.images for one in found]
    ray, local = (Line.through(sizes, [getattr(one, name) for one in found]) for name in ("ray", "local"))
    if min(ray.each, local.each) <= 0:
        note("These sizes are too near each other to tell the start of a command from what an image costs.")
        return
    note(
        f"As lines: one process {local.start:.1f} s and {1000 * local.each:.2f} ms an image, "
        f"Ray {ray.start:.1f} s and {1000 * ray.each:.2f} ms an image."
    )
    note("By these lines Ray is done first, dealt over machines as fast as this one:")
    for machines in _MACHINES:
        first = ray.pays_from(local, machines)
        note(f"  {machines} of them: {'never' if first is None else f'from {first:,} images on'}")


def _show_training(ways: list[Training], markdown: bool) -> None:
    base = ways[0].seconds
    rows = [
        (str(one.processes), str(one.threads), f"{one.seconds:.2f}", f"{base / one.seconds:.2f}", f"{one.whole:.1f}")
        for one in ways
    ]
    columns = ("processes", "threads each", "s an epoch", "times as fast", "command, s")
    show_table(columns, rows, markdown=markdown, numbers=True)


def _yes(value: bool) -> str:
    return "yes" if value else "NO"
