"""`medsharp bench scale`: what rates of one core come to for very many images, cells and requests."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medsharp.cli._console import heading, note
from medsharp.cli.bench._output import JsonFile, check_json, show_table, write_json

if TYPE_CHECKING:
    from medsharp.cluster.scale.rates import Rates

_BULK = ((10**3, 1), (10**4, 1), (10**5, 1), (10**6, 10), (10**7, 10), (10**8, 100), (10**9, 1000))
_PACKED = {"images_per_object": 1000, "store_prefixes": 4}
_WORKERS = (2, 16, 64, 256, 1000)
_LOADS = (10, 100, 1000, 10_000)


def scale(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle whose rates are measured; without it none are.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of image files to measure with; a simulated hospital by default.")
    ] = None,
    rates: Annotated[
        Path | None, typer.Option(metavar="YAML", help="Sections `measured` and `assumed`, in place of the defaults.")
    ] = None,
    cells: Annotated[int, typer.Option(min=1, max=100_000, help="Of a study.")] = 1000,
    cores: Annotated[int, typer.Option(min=1, max=256, help="Of a replica of the server.")] = 2,
    busy: Annotated[float, typer.Option(min=0.1, max=0.99, help="Load of a replica, in shares of its capacity.")] = 0.7,
    simulated: Annotated[
        int, typer.Option(min=1000, max=10_000_000, help="Requests of each simulation of serving, at most.")
    ] = 100_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json_: JsonFile = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
) -> None:
    """Sum up and simulate a billion images, a study of a thousand cells, and ten thousand requests a second."""
    from medsharp.cluster.scale.rates import Rates, read_rates
    from medsharp.errors import InputError

    check_json(json_)
    try:
        import simpy  # noqa: F401
    except ImportError as error:
        raise InputError("the simulation needs SimPy; pip install 'medsharp[cluster]'") from error
    found = Rates() if rates is None else read_rates(rates)
    if bundle is not None:
        found = _measured(found, bundle, images)
    elif images is not None:
        raise InputError("--images is to measure a bundle with; give one")
    show_table(("rate", "value", "what it is"), _rate_rows(found), title="Rates", markdown=markdown)
    values: dict[str, Any] = {"rates": found.model_dump()}
    values["bulk"] = _show_bulk(found, "Batch evaluation, one object an image", markdown)
    packed = found.model_copy(update={"assumed": found.assumed.model_copy(update=_PACKED)})
    values["bulk_packed"] = _show_bulk(packed, "The same, 1,000 images an object in four prefixes", markdown)
    values["cells"] = _show_cells(found, cells, seed, markdown)
    values["serving"] = _show_serving(found, cores, busy, simulated, seed, markdown)
    values["step"] = _show_step(found, cores, seed, markdown)
    write_json(json_, values)


def _measured(rates: Rates, bundle: Path, images: Path | None) -> Rates:
    from tempfile import TemporaryDirectory

    from medsharp.cli.bench._images import image_files
    from medsharp.cluster.scale.rates import measure
    from medsharp.inference import Predictor

    heading(f"Measuring {bundle} on one core")
    predictor = Predictor.load(bundle, device="cpu", threads=1)
    with TemporaryDirectory() as aside:
        measured = measure(predictor, image_files(images, Path(aside))[:40], rates.measured)
    return rates.model_copy(update={"measured": measured})


def _rate_rows(rates: Rates) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for kind, section in (("", rates.measured), ("assumed: ", rates.assumed)):
        for name, field in type(section).model_fields.items():
            rows.append((f"{kind}{name}", f"{getattr(section, name):.4g}", str(field.description)))
    return rows


def _show_bulk(rates: Rates, title: str, markdown: bool) -> list[dict[str, Any]]:
    from medsharp.cluster.scale.bulk import bulk

    found = [bulk(count, machines, rates) for count, machines in _BULK]
    rows = [
        (
            f"{one.images:,}",
            f"{one.machines:,}",
            f"{one.gigabytes_in:,.1f}",
            f"{one.gigabytes_out:,.2f}",
            f"{one.core_hours:,.1f}",
            _time(one.seconds),
            one.bottleneck,
            f"{one.cost:,.2f}",
            f"{one.gpu_hours:,.1f}",
            f"{one.cost_gpus:,.2f}",
        )
        for one in found
    ]
    columns = (
        *("images", "machines", "GB in", "GB out", "core hours", "time", "bottleneck", "price"),
        *("GPU hours", "price with GPUs"),
    )
    show_table(columns, rows, title=title, markdown=markdown)
    return [{**asdict(one), "seconds": one.seconds, "bottleneck": one.bottleneck} for one in found]


def _show_cells(rates: Rates, cells: int, seed: int, markdown: bool) -> list[dict[str, Any]]:
    from medsharp.cluster.scale.cells import simulate_cells

    found = [simulate_cells(cells, workers, rates, seed=seed) for workers in _WORKERS]
    rows = [
        (
            f"{one.workers:,}",
            f"{one.gigabytes_in:,.1f}",
            f"{one.gigabytes_out:,.1f}",
            f"{one.core_hours:,.1f}",
            _time(one.seconds),
            _time(one.bound),
            f"{one.busy:.0%}",
            str(one.failed),
            f"{one.cost:,.2f}",
            f"{one.gpu_hours:,.1f}",
            f"{one.cost_gpus:,.2f}",
        )
        for one in found
    ]
    columns = (
        *("workers", "GB in", "GB out", "core hours", "time", "at least", "busy", "failed and resumed", "price"),
        *("GPU hours", "price with GPUs"),
    )
    show_table(columns, rows, title=f"A study of {cells:,} cells", markdown=markdown)
    return [asdict(one) for one in found]


def _show_serving(
    rates: Rates, cores: int, busy: float, simulated: int, seed: int, markdown: bool
) -> list[dict[str, Any]]:
    from math import ceil

    from medsharp.cluster.scale.serving import Balancer, Replica, Traffic, simulate_serving

    replica = Replica.of(rates, cores)
    note(f"a replica of {cores} cores answers {replica.capacity:.1f} requests a second at most")
    rows, values = [], []
    balancers: tuple[Balancer, ...] = ("random", "two")
    for load in _LOADS:
        replicas = ceil(load / (busy * replica.capacity))
        for balancer in balancers:
            seconds = min(60.0, simulated / load)
            one = simulate_serving(
                replica, replicas, load, seconds=seconds, warm_up=seconds / 4, balancer=balancer, seed=seed
            )
            traffic = Traffic.of(rates, load, replicas, cores, busy)
            rows.append(
                (
                    f"{load:,}",
                    f"{replicas:,}",
                    f"{traffic.megabytes_in:,.1f}",
                    f"{traffic.megabytes_out:,.2f}",
                    {"random": "at random", "two": "less busy of two"}[balancer],
                    f"{1000 * one.p50:.0f}",
                    f"{1000 * one.p99:.0f}",
                    f"{one.batch:.2f}",
                    f"{one.refused + one.late:.2%}",
                    f"{traffic.price:,.2f}",
                    f"{traffic.gpus:,}",
                    f"{traffic.price_gpus:,.2f}",
                )
            )
            values.append({"replicas": replicas, "balancer": balancer, **asdict(traffic), **asdict(one)})
    columns = (
        *("requests a second", "replicas", "MB/s in", "MB/s out", "balancer", "p50 ms", "p99 ms", "batch", "lost"),
        *("price an hour", "GPUs", "price with GPUs"),
    )
    show_table(columns, rows, title=f"Serving at {busy:.0%} of capacity", markdown=markdown)
    return values


def _show_step(rates: Rates, cores: int, seed: int, markdown: bool) -> list[dict[str, Any]]:
    from medsharp.cluster.scale.autoscaling import Autoscaler, simulate_step
    from medsharp.cluster.scale.serving import Replica

    replica = Replica.of(rates, cores)
    before = 3 * replica.capacity
    rows, values = [], []
    for least, depth in ((2, 2.0), (8, 2.0), (2, 0.5), (8, 0.5)):
        scaler = Autoscaler(least=least, depth=depth)
        for factor in (1.5, 3.0):
            one = simulate_step(replica, scaler, before, factor * before, seed=seed)
            rows.append(
                (
                    str(least),
                    f"{depth:g}",
                    f"{factor:g} x",
                    f"{one.lost:.1%}",
                    _time(one.recovered),
                    str(one.most),
                    f"{1000 * one.p99:.0f}",
                )
            )
            values.append({"least": least, "depth": depth, "factor": factor, **asdict(one)})
    columns = ("replicas at least", "queue aimed at", "step", "lost", "until", "replicas at most", "p99 ms")
    show_table(columns, rows, title="A step of the load, with an autoscaler", markdown=markdown)
    return values


def _time(seconds: float) -> str:
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
