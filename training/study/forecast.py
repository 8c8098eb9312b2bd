"""How far a study is, and how long the rest takes by what its runs have taken so far."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from medsharp import runs
from medsharp.runs import Run
from training.study.folder import StudyFolder
from training.study.plan import Chain, cell_config, given_settings, passes_of, plan_cells, plan_chains


@dataclass(frozen=True)
class Planned:
    """A run that a study is made of.

    Attributes:
        kind: Where runs take as long for the same work: hospital and network.
        work: Forward and backward passes over the training images.
        seconds: That it took; None before it is finished.
    """

    kind: tuple[str, str]
    work: float
    seconds: float | None


@dataclass(frozen=True)
class Forecast:
    """How far a study is.

    Attributes:
        runs: That it is made of, trials and cells.
        finished: Of those.
        cells: That are compared.
        finished_cells: Of those.
        seconds: That finished runs took.
        remaining: Seconds of training that are left, one run after another; None before a run is finished.
    """

    runs: int
    finished: int
    cells: int
    finished_cells: int
    seconds: float
    remaining: float | None


def forecast(folder: StudyFolder) -> Forecast:
    """Look at which runs are finished, and reckon what is left by seconds a pass of each network and hospital."""
    planned: list[Planned] = []
    cells = finished = 0
    for chain in plan_chains(folder.study):
        planned += _runs_of(folder, chain)
        for cell in plan_cells(folder.study, chain):
            cells += 1
            finished += folder.record(cell) is not None
    done = [one for one in planned if one.seconds is not None]
    return Forecast(
        runs=len(planned),
        finished=len(done),
        cells=cells,
        finished_cells=finished,
        seconds=sum(one.seconds or 0.0 for one in done),
        remaining=_remaining(planned),
    )


def duration(seconds: float) -> str:
    """Write a time as `3 h 20 min`, `12 min` or `40 s`."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if seconds >= 60 else f"{seconds:.0f} s"


def trials_of(folder: StudyFolder, chain: Chain) -> int:
    """Return how many trials a chain has."""
    return folder.study.search.trials if given_settings(folder.study, chain) else 1


def _runs_of(folder: StudyFolder, chain: Chain) -> list[Planned]:
    """Return the runs of a chain: its trials, and the cells that are no trial."""
    kind = (chain.hospital.name, chain.network.name)
    first, *others = plan_cells(folder.study, chain)
    choice = folder.choice(chain)
    given = given_settings(folder.study, chain)
    base = cell_config(folder.study, first, {})
    planned = []
    known: list[dict[str, Any]] = [] if choice is None else choice["trials"]
    for number in range(trials_of(folder, chain)):
        if number < len(known):
            seconds = _seconds(folder.run_of(known[number])) if known[number]["value"] is not None else 0.0
        else:
            seconds = _seconds(Run(folder.run_folder(first, given))) if number == 0 else None
        planned.append(Planned(kind, passes_of(base), seconds))
    seen = {(base.schedule.epochs, first.seed)}
    for cell in others:
        config = cell_config(folder.study, cell, {})
        record = folder.record(cell)
        # Where a budget changes nothing, as that of a method of one pass, two cells are one run.
        same = (config.schedule.epochs, cell.seed)
        if same not in seen:
            seen.add(same)
            planned.append(Planned(kind, passes_of(config), None if record is None else float(record["seconds"])))
    return planned


def _seconds(run: Run) -> float | None:
    if not run.finished:
        return None
    return float(json.loads((run.folder / runs.ENVIRONMENT).read_text(encoding="utf-8"))["seconds"])


def _remaining(planned: list[Planned]) -> float | None:
    spent: dict[Any, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for one in planned:
        if one.seconds:
            for key in (one.kind, None):  # what no run of its kind has shown is reckoned by all runs
                spent[key][0] += one.seconds
                spent[key][1] += one.work
    if None not in spent:
        return None if any(one.seconds is None for one in planned) else 0.0
    rates = {key: seconds / work for key, (seconds, work) in spent.items()}
    return sum(one.work * rates.get(one.kind, rates[None]) for one in planned if one.seconds is None)
