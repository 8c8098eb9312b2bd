"""`medsharp bench serve`: the server beside the predictor in one run, and how it holds up under load."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from medsharp.cli._console import heading
from medsharp.cli.bench._images import image_files
from medsharp.cli.bench._output import JsonFile, check_json, show_table, write_json
from medsharp.errors import InputError

if TYPE_CHECKING:
    from medsharp.inference import Predictor
    from serve.benchmark import Figure, RunningServer

_PARTS = ("throughput", "latency", "load", "overload", "large", "batching")


def serve(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder; the one in models/ by default.")] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help=f"{', '.join(_PARTS)}; repeat. By default all but batching."),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of image files; a simulated hospital by default.")] = None,
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="Of load, overload and each batching.")] = 20.0,
    clients: Annotated[int, typer.Option(min=1, max=4096, help="Who ask again and again.")] = 64,
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="Images of the throughput.")] = 128,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Of throughput; of latency ten times as many.")] = 3,
    large: Annotated[int, typer.Option(min=1, max=64, help="Images of 40 megapixels at once.")] = 32,
    sizes: Annotated[str, typer.Option(help="Of batches, for batching.")] = "1,4,16",
    waits: Annotated[str, typer.Option(help="Milliseconds, for batching.")] = "0,10",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables as Markdown.")] = False,
    json_: JsonFile = None,
) -> None:
    """Measure a server of its own process over loopback: beside the predictor, under load, and with large images."""
    from medsharp.bundle import default_bundle
    from medsharp.inference import Predictor
    from serve.benchmark import measure_batching, running_server

    check_json(json_)
    parts = _chosen(part)
    batches, milliseconds = _numbers(sizes, "--sizes", 1, 512), _numbers(waits, "--waits", 0, 1000)
    folder = bundle or default_bundle()
    predictor = Predictor.load(folder)
    figures: list[Figure] = []
    settings: list[tuple[int, float, float, float, float]] = []
    with TemporaryDirectory() as aside:
        contents = [path.read_bytes() for path in image_files(images, Path(aside))]
        if parts != ("batching",):
            # As many may wait as there are clients: that they are all answered is what load is about.
            with running_server(folder, ["--waiting", str(clients)]) as server:
                figures = _figures(server, predictor, contents, parts, seconds, clients, count, repeats, large)
        if "batching" in parts:
            settings = measure_batching(folder, contents, clients, seconds, [int(one) for one in batches], milliseconds)
    write_json(
        json_,
        {
            "figures": [asdict(figure) | {"is_met": figure.is_met} for figure in figures],
            "batching": [
                dict(zip(("max_batch", "max_wait_ms", "images_per_second", "p50_s", "p99_s"), row, strict=True))
                for row in settings
            ],
        },
    )
    heading(f"{predictor.spec.name}, {predictor.spec.network}, {predictor.runs_on}")
    if figures:
        show_table(("", "", "target", "", "beside"), [_cells(figure) for figure in figures], markdown=markdown)
    if settings:
        show_table(
            ("largest batch", "longest wait, ms", "images/s", "p50, ms", "p99, ms"),
            [
                (f"{size}", f"{wait:g}", f"{rate:.2f}", f"{1e3 * half:.0f}", f"{1e3 * most:.0f}")
                for size, wait, rate, half, most in settings
            ],
            markdown=markdown,
        )


def _figures(
    server: RunningServer,
    predictor: Predictor,
    contents: list[bytes],
    parts: tuple[str, ...],
    seconds: float,
    clients: int,
    count: int,
    repeats: int,
    large: int,
) -> list[Figure]:
    from serve.benchmark import measure_large, measure_latency, measure_load, measure_overload, measure_throughput

    figures: list[Figure] = []
    if "throughput" in parts:
        figures += measure_throughput(server, predictor, contents, count, min(clients, 16), repeats)
    if "latency" in parts:
        figures += measure_latency(server, predictor, contents, 10 * repeats)
    if "load" in parts:
        figures += measure_load(server, contents, clients, seconds)
    if "overload" in parts:
        figures += measure_overload(server, contents, clients, seconds)
    if "large" in parts:
        figures += measure_large(server, contents, large, 10 * repeats)
    return figures


def _chosen(parts: list[str] | None) -> tuple[str, ...]:
    for one in parts or ():
        if one not in _PARTS:
            raise InputError(f"--part {one}: choose from {', '.join(_PARTS)}")
    return tuple(parts) if parts else _PARTS[:-1]


def _numbers(text: str, option: str, low: float, high: float) -> list[float]:
    try:
        numbers = [float(one) for one in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(low <= one <= high for one in numbers):
        raise InputError(f"{option} {text}: give numbers from {low} to {high} with commas between them")
    return numbers


def _cells(figure: Figure) -> tuple[str, str, str, str, str]:
    def written(value: float) -> str:
        return f"{value:.4g} {figure.unit}".strip()

    limit = "" if figure.limit is None else f"{'at most' if figure.at_most else 'at least'} {written(figure.limit)}"
    verdict = "" if figure.limit is None else ("met" if figure.is_met else "not met")
    return figure.what, written(figure.value), limit, verdict, figure.beside
