"""Ways to choose an operating point, and what becomes of its sensitivity at a hospital that was left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit
from scipy.stats import binom

from medsharp.evaluation.statistics.bootstrap import draw
from medsharp.evaluation.statistics.intervals import percentile
from medsharp.evaluation.statistics.operating_point import choose_operating_point

_CONFIDENCE = 0.95
_RESAMPLES = 2000


@dataclass(frozen=True)
class Scores:
    """Scores of one hospital, or of the images that decide.

    Attributes:
        values: Log odds of the positive class, float64 [N].
        positive: bool [N].
        clusters: Patient of each image, int 0, 1, ... [N].
        folds: Which member an image was left out by, int [N]; all 0 where that does not matter.
    """

    values: np.ndarray
    positive: np.ndarray
    clusters: np.ndarray
    folds: np.ndarray

    def misses(self, threshold: float) -> np.ndarray:
        """Return the share of each patient's positives below a threshold, [patients with positives]."""
        positives = np.bincount(self.clusters[self.positive])
        below = np.bincount(
            self.clusters[self.positive], self.values[self.positive] < threshold, minlength=len(positives)
        )
        return below[positives > 0] / positives[positives > 0]


@dataclass(frozen=True)
class Carried:
    """What a rule's threshold does at the hospital left out.

    Attributes:
        rule: Its name.
        threshold: On the positive class's probability, for scores as they are; None where the rule moves the scores.
        sensitivity: With its 95 % interval, by patient.
        specificity: Likewise.
        unlabelled: Whether the rule looks at the hospital's images, without their labels.
    """

    rule: str
    threshold: float | None
    sensitivity: tuple[float, float, float]
    specificity: tuple[float, float, float]
    unlabelled: bool

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def carry_over(deciding: Scores, left_out: Scores, sensitivity: float, *, seed: int = 0) -> list[Carried]:
    """Choose thresholds on the images that decide, by every rule, and apply each to the hospital left out.

    - `half`: probability 0.5, whatever the images say.
    - `one fold`: what export chooses on a single fold; the mean over folds is what is stated.
    - `out of fold`: what export chooses (`choose_operating_point`) on all images that decide.
    - `conformal`: the largest threshold whose mean miss rate over n patients, with one more patient who is missed
      wholly, is at most 1 - sensitivity: (n R + 1) / (n + 1) (A. Angelopoulos et al., "Conformal Risk Control", ICLR
      2024). It holds for a new patient of the same hospitals in expectation.
    - `tolerance`: the largest threshold that has, with 95 % confidence, that sensitivity among new patients of the same
      hospitals: were the miss rate 1 - sensitivity, so few patients would be missed in one of twenty samples at most. A
      patient of whom a part is missed counts as that part, and their sum is rounded up.
    - `same spread`: a temperature of the hospital's own, found without labels: its log odds are scaled about the
      deciding images' mean until they vary as those do; then `out of fold`.
    - `same mean and spread`: shifted too.

    Args:
        deciding: Of images that the model did not learn from, of the hospitals that it did.
        left_out: Of the hospital that is carried over to.
        sensitivity: That is aimed for.
        seed: Of the resampling of patients.
    """
    pooled = _chosen(deciding, sensitivity)
    folds = [_part(deciding, deciding.folds == fold) for fold in np.unique(deciding.folds)]
    mean, spread = deciding.values.mean(), deciding.values.std()
    own_mean, own_spread = left_out.values.mean(), max(left_out.values.std(), 1e-12)
    weights = draw(int(left_out.clusters.max()) + 1, _RESAMPLES, np.random.default_rng(seed))[:, left_out.clusters]

    def carried(rule: str, thresholds: list[float], values: np.ndarray, unlabelled: bool = False) -> Carried:
        flagged = np.mean([values >= threshold for threshold in thresholds], axis=0)  # [N]
        positive = left_out.positive
        return Carried(
            rule,
            None if unlabelled else float(np.mean(expit(thresholds))),
            _rate(flagged, positive, weights),
            _rate(1 - flagged, ~positive, weights),
            unlabelled,
        )

    raw = left_out.values
    return [
        carried("half", [0.0], raw),
        carried("one fold", [_chosen(fold, sensitivity) for fold in folds], raw),
        carried("out of fold", [pooled], raw),
        carried("conformal", [_largest(deciding, _conformal_bound(sensitivity))], raw),
        carried("tolerance", [_largest(deciding, _tolerance_bound(sensitivity))], raw),
        carried("same spread", [pooled], mean + (raw - mean) * spread / own_spread, True),
        carried("same mean and spread", [pooled], mean + (raw - own_mean) * spread / own_spread, True),
    ]


Bound = Callable[[Scores, float], bool]
"""Whether a threshold misses few enough."""


def _conformal_bound(sensitivity: float) -> Bound:
    def few(scores: Scores, threshold: float) -> bool:
        misses = scores.misses(threshold)
        return bool((misses.sum() + 1) / (len(misses) + 1) <= 1 - sensitivity + 1e-12)

    return few


def _tolerance_bound(sensitivity: float) -> Bound:
    def few(scores: Scores, threshold: float) -> bool:
        misses = scores.misses(threshold)
        # So few that a miss rate as high as 1 - sensitivity would give as few in one of twenty samples only.
        return bool(binom.cdf(np.ceil(misses.sum() - 1e-9), len(misses), 1 - sensitivity) <= 1 - _CONFIDENCE)

    return few


def _chosen(scores: Scores, sensitivity: float) -> float:
    return float(logit(choose_operating_point(expit(scores.values), scores.positive, sensitivity).threshold))


def _largest(scores: Scores, bound: Bound) -> float:
    """Return the largest score of a positive that may be the threshold, or minus infinity where none may.

    Miss rates only grow with the threshold, so that the search is by halves.
    """
    candidates = np.unique(scores.values[scores.positive])
    low, high = 0, len(candidates)  # candidates[:low] may, candidates[high:] may not
    while low < high:
        middle = (low + high) // 2
        if bound(scores, float(candidates[middle])):
            low = middle + 1
        else:
            high = middle
    return float(candidates[low - 1]) if low else -np.inf


def _part(scores: Scores, rows: np.ndarray) -> Scores:
    return Scores(
        scores.values[rows],
        scores.positive[rows],
        np.unique(scores.clusters[rows], return_inverse=True)[1],
        scores.folds[rows],
    )


def _rate(right: np.ndarray, among: np.ndarray, weights: np.ndarray) -> tuple[float, float, float]:
    totals = weights[:, among].sum(axis=1, dtype=np.float64)
    found = weights[:, among] @ right[among]
    low, high = percentile((found / np.maximum(totals, 1))[totals > 0])
    return float(right[among].mean()), low, high
