"""`medsharp bench evaluation`: how fast the statistics are, and how often their intervals hold the truth."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medsharp.cli._console import heading, note, progress_bar
from medsharp.cli.bench._output import JsonFile, check_json, show_table, write_json
from medsharp.cores import usable_cores
from medsharp.errors import InputError

if TYPE_CHECKING:
    from medsharp.evaluation.benchmark import Timing
    from medsharp.evaluation.statistics.coverage import Coverage


def evaluation(
    large: Annotated[bool, typer.Option(help="Time a million images too.")] = True,
    coverage: Annotated[
        bool, typer.Option("--coverage", help="Instead: how often intervals hold the truth, on simulated studies.")
    ] = False,
    seeds: Annotated[
        bool,
        typer.Option("--seeds", help="Instead: the same of intervals over seeds and patients, on simulated networks."),
    ] = False,
    pooling: Annotated[
        bool,
        typer.Option("--pooling", help="Instead: how often summaries over sites hold the truth, of 3 to 200 sites."),
    ] = False,
    studies: Annotated[
        int | None,
        typer.Option(min=10, max=1_000_000, help="Simulated studies: 2000, or 200 of each kind for --pooling."),
    ] = None,
    patients: Annotated[
        int | None, typer.Option(min=10, max=100_000, help="Patients of each: 400 for --coverage, 300 for --seeds.")
    ] = None,
    resamples: Annotated[
        int | None, typer.Option(min=50, max=100_000, help="2000; 1000 for --coverage, 150 for --seeds.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0.001, max=0.999, help="At which images are called, for --coverage.")
    ] = 0.3,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="Instead: `evaluate` of this bundle on --data, beside a loop that only decodes and predicts."
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Manifest or data set folder, for --bundle.")] = None,
    streamed: Annotated[
        int | None,
        typer.Option(
            min=10_000,
            max=10_000_000_000,
            metavar="IMAGES",
            help="Instead: `score --stream` of a table of so many images, ten a patient, made in the folder --disk.",
        ),
    ] = None,
    disk: Annotated[
        Path | None, typer.Option(help="Folder for the table of --streamed; the system's for temporary files.")
    ] = None,
    json_: JsonFile = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
) -> None:
    """Time the statistics on this machine, beside a loop over scikit-learn; or simulate their coverage."""
    check_json(json_)
    if (bundle is None) != (data is None):
        raise InputError("--bundle and --data are given together")
    if disk is not None and streamed is None:
        raise InputError("--disk is of --streamed")
    if coverage + seeds + pooling + (bundle is not None) + (streamed is not None) > 1:
        raise InputError(
            "--coverage, --seeds, --pooling, --streamed and --bundle are different measurements; give one of them"
        )
    if bundle is not None and data is not None:
        tables, values = _beside_a_loop(bundle, data, resamples or 2000, seed)
    elif streamed is not None:
        tables, values = _streamed(streamed, disk, resamples or 2000, seed)
    elif seeds:
        tables, values = _seeds(studies or 2000, patients or 300, resamples or 150, seed)
    elif coverage:
        tables, values = _coverage(studies or 2000, patients or 400, resamples or 1000, threshold, seed)
    elif pooling:
        tables, values = _pooling(studies or 200, seed)
    else:
        tables, values = _timings(large, resamples or 2000, seed)
    for columns, rows in tables:
        show_table(columns, rows, markdown=markdown)
    write_json(json_, values)


_BATCH = 32

Tables = list[tuple[tuple[str, ...], list[tuple[str, ...]]]]
"""Header and rows of each."""


def _timings(large: bool, resamples: int, seed: int) -> tuple[Tables, list[dict[str, Any]]]:
    from medsharp.evaluation.benchmark import measure_large, measure_usual

    heading(f"Statistics on {usable_cores()} cores")
    timings: list[Timing] = measure_usual(resamples=resamples, seed=seed)
    if large:
        timings += measure_large(seed=seed)
    return _table_of(timings)


def _streamed(images: int, disk: Path | None, resamples: int, seed: int) -> tuple[Tables, list[dict[str, Any]]]:
    from medsharp.evaluation.streamed.benchmark import measure_streamed

    with progress_bar() as report:
        timings = measure_streamed(
            images=images, patients=images // 10, folder=disk, resamples=resamples, seed=seed, progress=report
        )
    return _table_of(timings)


def _table_of(timings: list[Timing]) -> tuple[Tables, list[dict[str, Any]]]:
    rows: list[tuple[str, ...]] = [(timing.what, f"{timing.seconds:.3g}", timing.note) for timing in timings]
    return [(("what", "seconds", ""), rows)], [timing.as_dict() for timing in timings]


def _beside_a_loop(bundle: Path, data: str, resamples: int, seed: int) -> tuple[Tables, list[dict[str, Any]]]:
    """Time `evaluate` beside a loop that decodes and predicts the same images, each twice in turn, after imports."""
    import numpy as np

    from medsharp.cli.evaluate import evaluate_data
    from medsharp.inference import Predictor
    from medsharp.inference.external import list_external

    predictor = Predictor.load(bundle)
    manifest = list_external(data, predictor)
    rows = manifest.included.to_dict("records")

    def loop() -> None:
        for start in range(0, len(rows), _BATCH):
            images = [predictor.prepare(manifest.read(row)).pixels for row in rows[start : start + _BATCH]]
            predictor.session.run(np.stack(images))

    def whole() -> None:
        with tempfile.TemporaryDirectory() as folder:
            evaluate_data(predictor, bundle, [data], Path(folder), resamples=resamples, seed=seed)

    seconds = {"decode and predict, one after the other": loop, "medsharp evaluate": whole}
    measured: dict[str, list[float]] = {name: [] for name in seconds}
    for _ in range(3):
        for name, work in seconds.items():
            begun = time.perf_counter()
            work()
            measured[name].append(time.perf_counter() - begun)
    # The first round imports, and makes matplotlib read its fonts.
    least = {name: min(times[1:]) for name, times in measured.items()}
    base = next(iter(least.values()))
    values = [{"what": name, "images": len(rows), "seconds": s, "ratio": s / base} for name, s in least.items()]
    cells: list[tuple[str, ...]] = [(name, f"{s:.3g}", f"{s / base:.2f}") for name, s in least.items()]
    return [((f"{len(rows):,} images", "seconds", "ratio"), cells)], values


def _coverage(
    studies: int, patients: int, resamples: int, threshold: float, seed: int
) -> tuple[Tables, list[dict[str, Any]]]:
    from dataclasses import asdict

    from medsharp.evaluation.statistics.coverage import measure_coverage

    heading(f"{studies} simulated studies of {patients} patients with one to three images, {resamples} resamples")
    with progress_bar() as report:
        found: list[Coverage] = measure_coverage(
            studies=studies,
            patients=patients,
            resamples=resamples,
            threshold=threshold,
            seed=seed,
            progress=report,
        )
    methods = list(dict.fromkeys(entry.method for entry in found))
    cells = {(entry.figure, entry.method): f"{100 * entry.covered:.1f} %" for entry in found}
    rows: list[tuple[str, ...]] = [
        (figure, *(cells.get((figure, method), "") for method in methods))
        for figure in dict.fromkeys(entry.figure for entry in found)
    ]
    note(f"standard error of a coverage of 95 %: {100 * (0.95 * 0.05 / studies) ** 0.5:.1f} %")
    return [(("figure", *methods), rows)], [asdict(entry) for entry in found]


def _pooling(studies: int, seed: int) -> tuple[Tables, list[dict[str, Any]]]:
    from dataclasses import asdict

    from medsharp.evaluation.statistics.pooled_coverage import AREAS, SHARES, measure_pooling, table

    heading(f"{studies} simulated studies of each kind of sites")
    tables: Tables = []
    values = []
    for cells in (SHARES, AREAS):
        with progress_bar() as report:
            found = measure_pooling(studies=studies, seed=seed, cells=cells, progress=report)
        tables.append(table(found))
        values += [asdict(entry) for entry in found]
    note(f"standard error of a coverage of 95 %: {100 * (0.95 * 0.05 / studies) ** 0.5:.1f} %")
    note("in brackets: the normal-normal interval, where it is always taken")
    return tables, values


def _seeds(studies: int, patients: int, resamples: int, seed: int) -> tuple[Tables, list[dict[str, Any]]]:
    from dataclasses import asdict

    from medsharp.evaluation.comparison.coverage import measure_seed_coverage

    heading(f"{studies} simulated studies of networks on {patients} patients, {resamples} resamples")
    with progress_bar() as report:
        found = measure_seed_coverage(
            studies=studies,
            patients=patients,
            resamples=resamples,
            seed=seed,
            progress=report,
        )
    numbers = list(dict.fromkeys(entry.networks for entry in found))
    cells = {(entry.design, entry.figure, entry.seed, entry.networks): entry for entry in found}
    rows: list[tuple[str, ...]] = []
    for design, figure, spread in sorted({key[:3] for key in cells}, key=[key[:3] for key in cells].index):
        of = [cells[design, figure, spread, number] for number in numbers]
        shares = f"{of[0].seed_share:.2f} to {of[-1].seed_share:.2f}"
        rows.append((design, figure, f"{spread:g}", *(f"{100 * entry.covered:.1f} %" for entry in of), shares))
    note(f"standard error of a coverage of 95 %: {100 * (0.95 * 0.05 / studies) ** 0.5:.1f} %")
    columns = ("design", "figure", "seeds", *(f"S = {number}" for number in numbers), "share of the seeds")
    return [(columns, rows)], [asdict(entry) for entry in found]
