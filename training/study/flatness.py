"""Sharpness of each run beside its generalization gap: rank correlations, overall and within networks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from medsharp.files import write_text
from medsharp.progress import Progress
from medsharp.runs import Run
from training.study.estimate import correlated_t, together
from training.study.figures import KEYS, test_share
from training.study.folder import StudyFolder
from training.study.reading import INTERNAL, TRAIN


@dataclass(frozen=True)
class Measured:
    """What was measured of a run.

    Attributes:
        values: By the name of the measure.
        not_converged: Names of those whose iteration was ended before it came to an end by itself.
    """

    values: Mapping[str, float]
    not_converged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measure:
    """A way to measure sharpness.

    Attributes:
        name: Of the folder where what was measured is kept, such as `64-images`: another way, another folder.
        of: Measures a finished run; an `InputError`, `ValueError` or `RuntimeError` says that this run cannot be.
    """

    name: str
    of: Callable[[Run], Measured]


GAPS = {"auroc_gap": "AUROC, training less test", "loss_gap": "log loss, test less training"}
_SCOPES: Mapping[str, tuple[str, ...]] = {
    "overall": (),
    "within networks and hospitals": ("hospital", "network"),
    "within networks, hospitals and budgets": ("hospital", "network", "budget"),
}
_RESAMPLES = 2000
_LEAST = 6


def sharpness_and_gaps(
    folder: StudyFolder, figures: pd.DataFrame, measure: Measure, progress: Progress | None = None
) -> dict[str, Any]:
    """Measure the sharpness of each run and correlate it with the gaps.

    Args:
        folder: The study.
        figures: As `figure_table` gives them.
        measure: How.
        progress: Called with runs done, runs in all and what is being done.

    Returns:
        `measures` and `not_converged` by run, `missing`: the runs that could not be measured, with the reason;
        `ratios` to the reference's, and `correlations`.
    """
    found, missing = measure_runs(folder, figures, measure, progress)
    # What did not converge is a lower bound, and furthest off where the curvature is largest: it would move the ranks.
    sure = {
        run: {name: value for name, value in each.values.items() if name not in each.not_converged}
        for run, each in found.items()
    }
    return {
        "measures": {run: dict(each.values) for run, each in found.items()},
        "not_converged": {run: list(each.not_converged) for run, each in found.items() if each.not_converged},
        "missing": missing,
        "ratios": ratios_to_reference(figures, sure, folder.study.reference),
        "correlations": correlations(generalization_gaps(figures), sure, folder.study.seed),
    }


def measure_runs(
    folder: StudyFolder, figures: pd.DataFrame, measure: Measure, progress: Progress | None = None
) -> tuple[dict[str, Measured], dict[str, str]]:
    """Return what was measured of each run, and why the others could not be; what was measured once is kept."""
    found: dict[str, Measured] = {}
    missing: dict[str, str] = {}
    rows = figures.drop_duplicates("run")
    for number, row in enumerate(rows.to_dict("records")):
        path = folder.root / "sharpness" / measure.name / f"{row['run']}.json"
        kept = _kept(path)
        if kept is None:
            try:
                kept = measure.of(folder.run_of(row))
                _keep(path, kept)
            except (ValueError, RuntimeError) as error:  # one run that cannot be measured costs no other
                missing[row["run"]] = str(error).strip().split("\n")[0] or type(error).__name__
        if row["run"] not in missing and kept is not None:
            found[row["run"]] = kept
        if progress is not None:
            progress(number + 1, len(rows), "measuring sharpness")
    return found, missing


def _keep(path: Path, measured: Measured) -> None:
    values = {key: float(value) for key, value in measured.values.items()}
    endless = next((key for key, value in values.items() if not math.isfinite(value)), None)
    if endless is not None:
        raise ValueError(f"{endless} is not finite")
    content = {"measures": values, "not_converged": list(measured.not_converged)}
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _kept(path: Path) -> Measured | None:
    """Return what was measured before; None where nothing was, or the file does not say all of it."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Measured(content["measures"], tuple(content["not_converged"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def generalization_gaps(figures: pd.DataFrame) -> pd.DataFrame:
    """Return a row a cell: `KEYS`, `run`, and how much worse it is on its test fold than on what it learned from."""
    keys = [*KEYS, "run"]
    trained, tested = (figures[figures["part"] == part].set_index(keys) for part in (TRAIN, INTERNAL))
    gaps = pd.DataFrame(
        {
            "auroc_gap": trained["auroc"] - tested["auroc"],
            "loss_gap": tested["log_loss"] - trained["log_loss"],
        }
    )
    return gaps.reset_index()


def ratios_to_reference(
    figures: pd.DataFrame, measures: Mapping[str, Mapping[str, float]], reference: str
) -> list[dict[str, Any]]:
    """Return how many times as sharp as the reference's the minima of each optimizer are, by budget and measure.

    Runs are paired by hospital, network, fold and seed, and the geometric mean of their ratios is taken over networks
    and seeds. The interval is made of logarithms as that of a difference on test folds: over the folds of each hospital
    by `correlated_t`, and `together` over hospitals. A pair of which either is not above 0, or was not measured, has
    no ratio and is left out.

    Args:
        figures: As `figure_table` gives them.
        measures: By run.
        reference: What the others are compared with.

    Returns:
        `optimizer`, `budget`, `measure`, `hospitals`, `pairs`, `value`, `low` and `high`; null where there are no
        pairs, or no two folds of a hospital, or nothing varies.
    """
    cells = figures.drop_duplicates([*KEYS, "run"])[[*KEYS, "run"]]
    values = pd.DataFrame.from_dict(dict(measures), orient="index")
    logs = cells[[*KEYS]].join(np.log(values.where(values > 0)).reindex(cells["run"]).set_axis(cells.index))
    place = [key for key in KEYS if key != "optimizer"]
    base = logs[logs["optimizer"] == reference]
    found = []
    for (budget, optimizer), own in logs[logs["optimizer"] != reference].groupby(["budget", "optimizer"], sort=False):
        paired = own.merge(base, on=place, suffixes=("", " of the reference"))
        for name in values.columns:
            ratios = (paired[name] - paired[f"{name} of the reference"]).dropna()
            folds = ratios.groupby([paired["hospital"], paired["fold"]]).mean()
            hospitals = list(dict.fromkeys(paired.loc[ratios.index, "hospital"]))
            about = {"optimizer": optimizer, "budget": budget, "measure": name, "hospitals": hospitals}
            found.append({**about, "pairs": len(ratios), **_ratio(figures, folds, hospitals)})
    return found


def _ratio(figures: pd.DataFrame, folds: pd.Series, hospitals: Sequence[str]) -> dict[str, float | None]:
    """Return a ratio and its interval from the logarithms of folds, by hospital and fold."""
    if not hospitals:
        return {"value": None, "low": None, "high": None}
    each = [folds.loc[hospital].to_numpy() for hospital in hospitals]
    value = math.exp(float(np.mean([own.mean() for own in each])))
    if min(map(len, each)) < 2:
        return {"value": value, "low": None, "high": None}
    estimate = together(
        [correlated_t(own, test_share(figures, hospital)) for own, hospital in zip(each, hospitals, strict=True)]
    )
    low, high = estimate.interval or (None, None)
    return {
        "value": value,
        "low": None if low is None else math.exp(low),
        "high": None if high is None else math.exp(high),
    }


def correlations(gaps: pd.DataFrame, measures: Mapping[str, Mapping[str, float]], seed: int) -> list[dict[str, Any]]:
    """Return Spearman's correlation of each measure with each gap: of all runs, and within groups of them.

    Within groups, ranks are taken inside each and pooled: what networks and hospitals, and budgets, differ by does not
    count. A run that is of both budgets is one of each there, and one elsewhere. Intervals resample folds of hospitals,
    whose runs share patients.

    Args:
        gaps: As `generalization_gaps` gives them.
        measures: By run.
        seed: Of the resampling.
    """
    if not measures:
        return []
    table = gaps.join(pd.DataFrame.from_dict(dict(measures), orient="index"), on="run")
    once = table.drop_duplicates("run")
    names = sorted({name for values in measures.values() for name in values})
    found = []
    for name in names:
        for gap in GAPS:
            for scope, columns in _SCOPES.items():
                rows = table if "budget" in columns else once
                groups = rows[list(columns)].agg(" ".join, axis=1) if columns else None
                value, low, high = _rank_correlation(rows, name, gap, groups, seed)
                found.append({"measure": name, "gap": gap, "scope": scope, "value": value, "low": low, "high": high})
    return found


def _rank_correlation(
    table: pd.DataFrame, name: str, gap: str, groups: pd.Series | None, seed: int
) -> tuple[float | None, float | None, float | None]:
    known = table[[name, gap]].notna().all(axis=1)
    table = table[known]
    if len(table) < _LEAST:
        return None, None, None
    keys = np.zeros(len(table), dtype=int) if groups is None else pd.factorize(groups[known])[0]
    clusters = pd.factorize(table["hospital"] + " " + table["fold"].astype(str))[0]
    x, y = (table[column].to_numpy(dtype=np.float64) for column in (name, gap))
    value = _spearman(x, y, keys)
    rng = np.random.default_rng(seed)
    count = int(clusters.max()) + 1
    members = [np.flatnonzero(clusters == number) for number in range(count)]
    drawn = []
    for _ in range(_RESAMPLES if count > 1 else 0):
        rows = np.concatenate([members[number] for number in rng.integers(count, size=count)])
        drawn.append(_spearman(x[rows], y[rows], keys[rows]))
    finite = np.array([one for one in drawn if one is not None])
    if value is None or len(finite) < _RESAMPLES / 2:
        return value, None, None
    low, high = np.quantile(finite, [0.025, 0.975])
    return value, float(low), float(high)


def _spearman(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float | None:
    """Return the correlation of ranks that are taken, and centred, inside each group."""
    ranks = np.zeros((2, len(x)))
    for group in np.unique(groups):
        here = groups == group
        for row, values in enumerate((x, y)):
            own = rankdata(values[here]) / here.sum()
            ranks[row, here] = own - own.mean()
    scale = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float(ranks[0] @ ranks[1]) / scale if scale > 0 else None
