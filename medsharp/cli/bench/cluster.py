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

_WAYS = ((1, 1), (1, 2), (2, 1))
"""Processes, and threads of each: two cores are used by the threads of one process, or by two processes."""


def cluster(
    bundle: Annotated[Path, typer.Argument(help="Bundle to predict with.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of image files to predict; a simulated hospital by default.")
    ] = None,
    sizes: Annotated[
        str, typer.Option(metavar="N,N,...", help="Images of each manifest: the files again and again.")
    ] = "2000,20000",
    training: Annotated[bool, typer.Option(help="Measure torchrun too.")] = True,
    networks: Annotated[
        str,
        typer.Option(metavar="NAME:PIXELS,...", help="Networks that are trained, with the size of their images."),
    ] = "resnet10_w16:64,resnet18:128",
    optimizer: Annotated[str, typer.Option(help="Optimizer that trains it.")] = "sam",
    patients: Annotated[int, typer.Option(min=20, help="Of the simulated hospital that is trained on.")] = 200,
    json_: JsonFile = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
) -> None:
    """Predict by one process and by Ray on this machine, and train by one process and by two, with the same steps.

    Networks and images of several sizes say from which on two processes are faster than the threads of one.
    """
    from tempfile import TemporaryDirectory

    from medsharp.bundle import read_bundle
    from medsharp.cli.bench._images import image_files
    from medsharp.cluster.benchmark import measure_prediction, measure_training

    check_json(json_)
    counts, trained = _counts(sizes), _networks(networks)
    read_bundle(bundle)
    values: dict[str, Any] = {"cores": usable_cores()}
    with TemporaryDirectory() as aside:
        files = image_files(images, Path(aside))
        heading(f"Predicting on {usable_cores()} cores")
        found = [measure_prediction(bundle, files, count, Path(aside) / "predicted") for count in counts]
        _show_prediction(found, markdown)
        values["prediction"] = [asdict(one) for one in found]
        if training:
            heading(f"Training with {optimizer}, batches of 32 images in all")
            ways: list[Training] = []
            settings: dict[str, Any] = {"optimizer": optimizer, "patients": patients}
            for network, pixels in trained:
                for processes, threads in _WAYS:
                    run = Path(aside) / "trained" / str(len(ways))
                    run.mkdir(parents=True)
                    ways.append(
                        measure_training(processes, threads, run, network=network, image_size=pixels, **settings)
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


def _networks(text: str) -> list[tuple[str, int]]:
    """Return networks and the sides of their images in pixels."""
    found = []
    for word in text.split(","):
        name, colon, pixels = word.strip().rpartition(":")
        if not (name and colon and pixels.isdecimal() and 32 <= int(pixels) <= 512):
            raise InputError(f"--networks {text}: write NAME:PIXELS,..., such as resnet18:128, of 32 to 512 pixels")
        found.append((name, int(pixels)))
    return found


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
    rows = []
    for start in range(0, len(ways), len(_WAYS)):
        alone, *_ = of_network = ways[start : start + len(_WAYS)]
        rows += [
            (
                f"{one.network}, {one.image_size} px",
                str(one.processes),
                str(one.threads),
                f"{one.seconds:.2f}",
                f"{alone.seconds / one.seconds:.2f}",
                f"{one.whole:.1f}",
            )
            for one in of_network
        ]
    columns = ("network", "processes", "threads each", "s an epoch", "times as fast", "command, s")
    show_table(columns, rows, markdown=markdown)
    for start in range(0, len(ways), len(_WAYS)):
        _, threads, processes = ways[start : start + len(_WAYS)]
        share = processes.seconds / threads.seconds
        note(
            f"{threads.network} at {threads.image_size} pixels, {threads.seconds:.2f} s an epoch by the threads of one "
            f"process: two processes take {share:.2f} times that, and {'pay' if share < 1 else 'do not pay'}."
        )


def _yes(value: bool) -> str:
    return "yes" if value else "NO"
