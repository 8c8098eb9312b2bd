"""`medsharp bench inference`: what predicting costs beside a raw loop in the same process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from medsharp.cli._console import DEVICE_HELP, heading, note, size_of
from medsharp.cli.bench._images import image_files
from medsharp.cli.bench._output import JsonFile, check_json, show_table, write_json
from medsharp.errors import InputError
from medsharp.progress import rate_text

if TYPE_CHECKING:
    from medsharp.bundle import Precision
    from medsharp.inference import Predictor
    from medsharp.inference.benchmark import Pair, Swept


def inference(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder; the one in models/ by default.")] = None,
    network: Annotated[
        str | None, typer.Option(help="Measure a network of this name with random weights in place of a bundle.")
    ] = None,
    image_size: Annotated[int, typer.Option(min=32, max=1024, help="Side of its input in pixels.")] = 224,
    images: Annotated[Path | None, typer.Option(help="Folder of image files; a simulated hospital by default.")] = None,
    files: Annotated[int, typer.Option(min=1, max=1_000_000, help="Files of the throughput.")] = 200,
    predictions: Annotated[
        int, typer.Option(min=0, max=100_000_000, help="Of the stream whose memory is measured; 0 leaves it out.")
    ] = 2000,
    batch: Annotated[int, typer.Option(min=1, max=512, help="Of the networks alone.")] = 8,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Of each; the median counts.")] = 5,
    torch: Annotated[
        bool, typer.Option("--torch/--no-torch", help="Beside PyTorch, which needs medsharp\\[train].")
    ] = True,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
    sweep: Annotated[
        str | None,
        typer.Option(
            metavar="BATCHES",
            help="In place of all this: the network in batches of these sizes, such as 1,8,64,512, in every precision "
            "that the bundle has, with cuda on TensorRT too where it works, beside PyTorch.",
        ),
    ] = None,
    compiled: Annotated[bool, typer.Option("--compiled", help="With --sweep: beside torch.compile too.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
    json_: JsonFile = None,
) -> None:
    """Measure latency, throughput, network and start beside their raw counterparts, and memory over a stream."""
    from medsharp.bundle import MODELS, default_bundle
    from medsharp.inference import Predictor
    from medsharp.inference.benchmark import measure_memory

    check_json(json_)
    batches = None if sweep is None else _batches(sweep)
    if compiled and (batches is None or not torch):
        raise InputError("--compiled needs --sweep, and PyTorch")
    int8: Path | None = None
    if network is not None and bundle is not None:
        raise InputError("give a bundle or --network, not both")
    with ExitStack() as stack:
        aside = Path(stack.enter_context(TemporaryDirectory()))
        if network is not None:
            from medsharp.export.eager import INT8, untrained_bundle

            precisions: tuple[Precision, ...] = ("fp32",) if batches is None else ("fp32", "fp16")
            bundle, int8 = untrained_bundle(network, image_size, aside / network, precisions), aside / INT8
        if batches is not None:
            contents = [path.read_bytes() for path in image_files(images, aside)]
            swept = list(_swept(bundle or default_bundle(), contents, device, batches, repeats, torch, compiled))
            write_json(json_, {"sweep": [asdict(one) for one in swept]})
            columns = ("", "precision", "batch", "ms an image", "images/s", "not the network's, of bytes to answers")
            show_table(columns, [_swept_cells(one) for one in swept], markdown=markdown)
            return
        predictor = Predictor.load(bundle or default_bundle(), device=device)
        paths = image_files(images, aside)
        if MODELS["int8"] in predictor.spec.files:
            int8 = predictor.folder / MODELS["int8"]
        pairs = list(_pairs(predictor, paths, files, batch, repeats, torch, int8))
        memory = measure_memory(predictor, paths, predictions) if predictions else None
    write_json(
        json_,
        {
            "pairs": [asdict(pair) | {"ratio": pair.ratio, "is_met": pair.is_met} for pair in pairs],
            "memory": None if memory is None else asdict(memory),
        },
    )
    side = predictor.preprocessing.size
    heading(f"{predictor.spec.name}, {predictor.spec.network} at {side} x {side}, {predictor.runs_on}")
    show_table(
        ("", "ms", "beside it, ms", "yardstick", "ratio", "target", ""),
        [_cells(pair) for pair in pairs],
        markdown=markdown,
    )
    if memory is not None:
        grown = memory.after - memory.before
        note(
            f"memory over {memory.predictions:,} predictions: {size_of(memory.before)} before, {size_of(memory.after)} "
            f"after, {grown / memory.predictions:+.0f} bytes each"
        )


def _pairs(
    predictor: Predictor, paths: list[Path], files: int, batch: int, repeats: int, torch: bool, int8: Path | None
) -> Iterator[Pair]:
    from medsharp.bundle import MODEL
    from medsharp.inference.benchmark import measure_files, measure_networks, measure_single, measure_start
    from medsharp.inference.session import Session

    side, session, folder = predictor.preprocessing.size, predictor.session, predictor.folder
    yield measure_single(predictor, paths, max(repeats, 20))
    yield measure_files(predictor, paths, files, max(1, repeats // 2))
    if torch:
        from medsharp.export.eager import Eager

        eager = Eager(predictor.spec)
        for count in (1, batch):
            yield measure_networks("network", session.run, eager, side, count, 1.5, "PyTorch, eager", repeats)
    if int8 is not None:
        run = Session(int8, device=session.device, precision="int8").run
        yield measure_networks("int8", run, session.run, side, batch, 1.6, "fp32", repeats)
    yield measure_start(folder, folder / MODEL, paths[0], repeats)


def _batches(text: str) -> list[int]:
    """Read sizes of batches.

    Raises:
        InputError: One is no whole number from 1 to 4096.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[1-9]\d{0,3}", part) and int(part) <= 4096 for part in parts):
        raise InputError(f"--sweep {text}: write sizes of batches from 1 to 4096 with commas between, such as 1,8,64")
    return list(dict.fromkeys(map(int, parts)))


def _swept(
    bundle: Path, contents: list[bytes], device: str, batches: list[int], repeats: int, torch: bool, compiled: bool
) -> Iterator[Swept]:
    from medsharp.bundle import MODELS, read_bundle
    from medsharp.inference import Predictor
    from medsharp.inference.benchmark import sweep_network, sweep_predictor

    spec = read_bundle(bundle)
    for precision in (one for one, file in MODELS.items() if file in spec.files):
        first = Predictor.load(bundle, device=device, precision=precision, answer_anyway=True, verify=False)
        yield from sweep_predictor(first, contents, batches, repeats)
        if first.session.device == "cuda":
            try:
                other = Predictor.load(bundle, device="tensorrt", precision=precision, answer_anyway=True, verify=False)
            except InputError as error:
                note(f"without TensorRT in {precision}: {error}")
                continue
            yield from sweep_predictor(other, contents, batches, repeats)
    if torch:
        from medsharp.export.eager import Eager

        place = "cuda" if first.session.device in ("cuda", "tensorrt") else "cpu"
        side = spec.preprocess.size
        for how in ("eager", "compiled") if compiled else ("eager",):
            network = Eager(spec, device=place, compiled=how == "compiled")
            yield from sweep_network(f"PyTorch, {how}, {place}", "fp32", network, side, batches, repeats)


def _swept_cells(one: Swept) -> tuple[str, ...]:
    host = "" if one.host_share is None else f"{100 * one.host_share:.0f} %"
    rate = rate_text(1 / one.seconds)
    return one.runtime, one.precision, str(one.batch), f"{1000 * one.seconds:.2f}", rate, host


def _cells(pair: Pair) -> tuple[str, ...]:
    return (
        pair.what,
        f"{1000 * pair.seconds:.1f}",
        f"{1000 * pair.beside:.1f}",
        pair.yardstick,
        f"{pair.ratio:.2f}",
        f"{'at most' if pair.at_most else 'at least'} {pair.target:g}",
        "met" if pair.is_met else "missed",
    )
