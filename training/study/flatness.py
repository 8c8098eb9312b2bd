"""Sharpness of each run beside its generalization gap: rank correlations, overall and within each network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from medsharp.data.manifest import Manifest
from medsharp.files import write_text
from medsharp.progress import Progress
from medsharp.runs import Run
from training.study.figures import KEYS
from training.study.folder import StudyFolder
from training.study.open_data import read_open
from training.study.reading import INTERNAL, TRAIN


@dataclass(frozen=True)
class Measure:
    """A way to measure sharpness.

    Attributes:
        name: Of the folder where what was measured is kept, such as `64-images`: another way, another folder.
        of: Takes a finished run and the rows that it learned from, returns measures by name.
    """

    name: str
    of: Callable[[Run, Manifest], Mapping[str, float]]


GAPS = {"auroc_gap": "AUROC, training less test", "loss_gap": "log loss, test less training"}
_RESAMPLES = 2000
_LEAST = 6


def measure_runs(
    folder: StudyFolder, figures: pd.DataFrame, measure: Measure, progress: Progress | None = None
) -> dict[str, dict[str, float]]:
    """Return the measures of each run; what was measured once is kept."""
    found: dict[str, dict[str, float]] = {}
    rows = figures.drop_duplicates("run")
    for number, row in enumerate(rows.to_dict("records")):
        path = folder.root / "sharpness" / measure.name / f"{row['run']}.json"
        if not path.is_file():
            manifest = read_open(folder.root, f"{row['hospital']}/fold-{row['fold']}")
            values = {key: float(value) for key, value in measure.of(folder.run_of(row), manifest).items()}
            write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")
        found[row["run"]] = json.loads(path.read_text(encoding="utf-8"))
        if progress is not None:
            progress(number + 1, len(rows), "measuring sharpness")
    return found


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


def correlations(gaps: pd.DataFrame, measures: Mapping[str, Mapping[str, float]], seed: int) -> list[dict[str, Any]]:
    """Return Spearman's correlation of each measure with each gap: of all runs, and within each network.

    Within networks, ranks are taken inside each network and hospital, and pooled: what networks and hospitals differ by
    does not count. Intervals resample folds of hospitals, whose runs share patients.

    Args:
        gaps: As `generalization_gaps` gives them.
        measures: By run.
        seed: Of the resampling.
    """
    table = gaps.join(pd.DataFrame.from_dict(dict(measures), orient="index"), on="run").drop_duplicates("run")
    names = sorted({name for values in measures.values() for name in values})
    strata: dict[str, pd.Series | None] = {"overall": None, "within networks": table["hospital"] + table["network"]}
    found = []
    for name in names:
        for gap in GAPS:
            for scope, groups in strata.items():
                value, low, high = _rank_correlation(table, name, gap, groups, seed)
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
