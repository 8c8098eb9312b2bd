"""What a bundle's validation predictions tell of a score: how often it was right there, and what a threshold brings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from medsharp.bundle import INTERNAL, VALIDATION, BundleSpec
from medsharp.evaluation import read_predictions
from medsharp.evaluation.statistics.intervals import wilson
from medsharp.evaluation.statistics.operating_point import share_intervals
from medsharp.keys import clusters_of, resampled

WINDOW = 100
"""Validation images nearest in rank to a score that say what it means ..."""

_SHARE_OF_ALL = 5
"""... but at most a fifth of all: more would no longer have been scored alike ..."""

LEAST = 20
"""... and at least so many: of fewer the share of positives is anybody's guess."""

_MOST_THRESHOLDS = 120


@dataclass(frozen=True)
class Nearby:
    """The validation images that were scored most like an image.

    Attributes:
        images: How many.
        positives: How many of them are of the positive class.
        low: The least of their scores.
        high: The greatest.
        interval: 95 % interval of the share of positives: Wilson's, of so many patients as they are of.
        beyond: On which side the score lies outside of all validation scores; None where it does not.
    """

    images: int
    positives: int
    low: float
    high: float
    interval: tuple[float, float]
    beyond: Literal["above", "below"] | None


@dataclass(frozen=True)
class Rates:
    """What a threshold brings on the validation images, with 95 % intervals.

    Attributes:
        threshold: Probability of the positive class from which on an image is called positive.
        sensitivity: Share of the positives at or above it.
        specificity: Share of the others below it.
        sensitivity_interval: Over patients where they are known, else over images.
        specificity_interval: The same.
    """

    threshold: float
    sensitivity: float
    specificity: float
    sensitivity_interval: tuple[float, float]
    specificity_interval: tuple[float, float]


@dataclass(frozen=True)
class Validation:
    """The validation predictions that export froze into a bundle.

    Attributes:
        name: Which images these are.
        scores: Probability of the positive class, float64 [N].
        positive: bool [N].
        clusters: The patient of each image, or what else is resampled together, int [N].
        resampled: What is resampled, such as `patients`.
    """

    name: str
    scores: np.ndarray
    positive: np.ndarray
    clusters: np.ndarray
    resampled: str

    @classmethod
    def read(cls, spec: BundleSpec, bundle: str | Path) -> Validation | None:
        """Read them from a bundle.

        `validation.csv` holds no patients. Where the same predictions are in `internal.csv` too, as where they are out
        of fold, the patients and groups of near-duplicates are taken from there.

        Returns:
            None for a bundle without them.

        Raises:
            InputError: The table in the bundle cannot be read.
        """
        path = Path(bundle) / VALIDATION
        if not path.exists():
            return None
        table = read_predictions(path)
        table = _with_patients(table, Path(bundle) / INTERNAL, f"p_{spec.positive}")
        clusters = clusters_of(table)
        return cls(
            f"{spec.internal_data}, {'out-of-fold predictions' if spec.pooled else 'validation split'}",
            table[f"p_{spec.positive}"].to_numpy(dtype=np.float64),
            (table["label"] == spec.positive).to_numpy(dtype=bool),
            clusters,
            resampled(table, clusters),
        )

    def near(self, score: float) -> Nearby | None:
        """Return the images whose scores are nearest in rank: half of them below, as far as there are any.

        Args:
            score: Probability of the positive class.

        Returns:
            None where there are too few images.
        """
        count = min(WINDOW, len(self.scores) // _SHARE_OF_ALL)
        if count < LEAST:
            return None
        order = np.argsort(self.scores, kind="stable")
        ranked = self.scores[order]
        start = int(np.clip(np.searchsorted(ranked, score) - count // 2, 0, len(ranked) - count))
        window = order[start : start + count]
        labels = self.positive[window]
        patients = len(np.unique(self.clusters[window]))
        return Nearby(
            count,
            int(labels.sum()),
            float(ranked[start]),
            float(ranked[start + count - 1]),
            # Few are of a rare class, of whose share resamples would give too narrow an interval.
            wilson(float(labels.mean()) * patients, patients),
            "above" if score > ranked[-1] else "below" if score < ranked[0] else None,
        )

    def rates(self, frozen: float) -> list[Rates]:
        """Return what thresholds bring, in ascending order: quantiles of the scores, and the frozen one among them.

        Args:
            frozen: The operating point.

        Returns:
            Nothing where the images are of one class only.
        """
        if self.positive.all() or not self.positive.any():
            return []
        quantiles = np.quantile(self.scores, np.linspace(0, 1, _MOST_THRESHOLDS))
        thresholds = np.unique(np.append(np.round(quantiles, 3), frozen))
        called = self.scores[:, None] >= thresholds  # [N, T]
        found, cleared = called[self.positive], ~called[~self.positive]
        sensitivities = share_intervals(found, self.clusters[self.positive])
        specificities = share_intervals(cleared, self.clusters[~self.positive])
        return [
            Rates(float(threshold), float(found[:, n].mean()), float(cleared[:, n].mean()), first, second)
            for n, (threshold, first, second) in enumerate(zip(thresholds, sensitivities, specificities, strict=True))
        ]


def _with_patients(table: pd.DataFrame, internal: Path, score: str) -> pd.DataFrame:
    """Return the same predictions with their patients and groups, where another table has both, row by row."""
    if not internal.exists():
        return table
    other = read_predictions(internal)
    same = len(other) == len(table) and (other["label"].to_numpy() == table["label"].to_numpy()).all()
    if not same or not np.array_equal(other[score].to_numpy(), table[score].to_numpy()):
        return table
    return other
