"""How fast the statistics are, beside a loop over scikit-learn."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medsharp.evaluation.evaluate import evaluate_predictions
from medsharp.evaluation.statistics.delong import delong_covariance, placements
from medsharp.evaluation.statistics.figures import Cases, estimates_of, figures_of, measure
from medsharp.evaluation.statistics.scalars import statistics_of
from medsharp.evaluation.statistics.simulated_study import Population

_LOOPED = 10
_ROUNDS = 3


@dataclass(frozen=True)
class Timing:
    """One thing measured.

    Attributes:
        what: In words.
        seconds: Wall clock, the least of the rounds where there are several.
        note: What else was found, such as memory.
    """

    what: str
    seconds: float
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def measure_usual(*, patients: int = 1064, images: int = 1875, resamples: int = 2000, seed: int = 0) -> list[Timing]:
    """Time the statistics of a data set of the usual size, and scikit-learn's for the same figures.

    Args:
        patients: How many.
        images: How many; a patient has one or two.
        resamples: Of the patient bootstrap.
        seed: Of the data and the bootstrap.
    """
    labels, scores, clusters = _study(patients, images, np.random.default_rng(seed))
    cases = Cases(labels, scores, clusters, 0.3)
    statistics = statistics_of(cases)

    def scalars() -> None:
        rng = np.random.default_rng(seed)
        figures_of(estimates_of(cases, measure(clusters, statistics, resamples=resamples, rng=rng)))

    table = _table(labels, scores, clusters)
    size = f"{images:,} images of {patients:,} patients, {resamples:,} resamples"
    ours = _least(scalars)
    whole = _least(lambda: evaluate_predictions(table, **_OPTIONS, resamples=resamples, seed=seed))
    loop = _loop_over_scikit_learn(labels, scores, clusters, seed) * resamples
    return [
        Timing(f"all scalar figures with intervals: {size}", ours),
        Timing("the same with curves, bands and notes, from the table", whole),
        Timing(
            "a loop over scikit-learn for ten of the figures",
            loop,
            f"{loop / ours:.0f} times as long; reckoned from {_LOOPED} resamples",
        ),
    ]


def measure_large(*, patients: int = 500_000, seed: int = 0) -> list[Timing]:
    """Time very many images: AUROC with DeLong's interval, and the whole of `medsharp score` in a process of its own.

    Args:
        patients: With two images each.
        seed: Of the data.
    """
    labels, scores, clusters = _study(patients, 2 * patients, np.random.default_rng(seed))
    order = np.random.default_rng(seed).permutation(len(labels))
    labels, scores, clusters = labels[order], scores[order], clusters[order]
    size = f"{len(labels):,} images of {patients:,} patients"
    delong = _least(lambda: delong_covariance(placements(labels, scores)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.csv"
        _table(labels, scores, clusters).to_csv(path, index=False)
        begun = time.perf_counter()
        command = [sys.executable, "-c", "from medsharp.cli import main; main()", "score", str(path), "--out", folder]
        command += ["--threshold", str(_OPTIONS["threshold"])]
        subprocess.run(command, check=True, capture_output=True)
        whole = time.perf_counter() - begun
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return [
        Timing(f"AUROC with DeLong's interval: {size}", delong),
        Timing("medsharp score of the same, reading and report included", whole, f"{memory:.1f} GiB at most"),
    ]


_OPTIONS: dict[str, Any] = {
    "classes": ["benign", "malignant"],
    "positive": "malignant",
    "threshold": 0.3,
    "name": "benchmark",
}


def _study(patients: int, images: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    counts = np.ones(patients, dtype=int)
    counts[: images - patients] = 2
    return Population().draw(patients, rng, counts)


def _table(labels: np.ndarray, scores: np.ndarray, clusters: np.ndarray) -> pd.DataFrame:
    shares = scores.round(6)
    return pd.DataFrame(
        {
            "image": [f"image-{number}" for number in range(len(labels))],
            "patient": [f"patient-{number}" for number in clusters],
            "label": np.where(labels, "malignant", "benign"),
            "p_benign": (1 - shares).round(6),
            "p_malignant": shares,
        }
    )


def _least(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def _loop_over_scikit_learn(labels: np.ndarray, scores: np.ndarray, clusters: np.ndarray, seed: int) -> float:
    """Return the seconds of one resample: the images drawn, and ten figures of them."""
    from sklearn import metrics
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(seed)
    images = [np.flatnonzero(clusters == patient) for patient in range(int(clusters.max()) + 1)]
    begun = time.perf_counter()
    for _ in range(_LOOPED):
        drawn = np.concatenate([images[patient] for patient in rng.integers(len(images), size=len(images))])
        y, p = labels[drawn], scores[drawn]
        called = p >= 0.3
        metrics.roc_auc_score(y, p)
        metrics.roc_auc_score(~y, -p, max_fpr=0.1)
        metrics.average_precision_score(y, p)
        metrics.brier_score_loss(y, p)
        metrics.log_loss(y, p)
        metrics.recall_score(y, called)
        metrics.recall_score(~y, ~called)
        metrics.precision_score(y, called)
        metrics.balanced_accuracy_score(y, called)
        LogisticRegression(C=np.inf).fit(np.log(p / (1 - p))[:, None], y)
    return (time.perf_counter() - begun) / _LOOPED
