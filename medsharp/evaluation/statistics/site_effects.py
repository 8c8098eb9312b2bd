"""What one hospital brings to a summary: counts of its shares, and other figures with their variances in closed form.

Patients, not images, are independent: every variance is a sum over patients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from medsharp.evaluation.statistics.calibration import contradicted, expit, logit, recalibrate
from medsharp.evaluation.statistics.delong import obuchowski_covariance, placements
from medsharp.evaluation.statistics.intervals import perfect_variance

_LEAST_VARIANCE = 1e-12
"""Less is rounding: the images are all alike."""


class Share(NamedTuple):
    """Counts of a share at one hospital.

    Attributes:
        successes: Images that count.
        images: Of which the share is a share, at least 1.
        patients: With at least one of them.
        pairs: Ordered pairs of images of one patient.
        spread: Sum over patients of the squared sum of `y - p` over their images.
    """

    successes: int
    images: int
    patients: int
    pairs: int
    spread: float

    @property
    def value(self) -> float:
        """The share."""
        return self.successes / self.images


class Effect(NamedTuple):
    """An estimate with its variance, on the scale of the summary."""

    value: float
    variance: float


def shares_of(labels: np.ndarray, scores: np.ndarray, clusters: np.ndarray, threshold: float) -> dict[str, Share]:
    """Return sensitivity, specificity, PPV and NPV, as far as there are images that they are shares of.

    Args:
        labels: bool [N].
        scores: [N].
        clusters: The patient of each image, int [N].
        threshold: A score that equals it counts as positive.
    """
    flagged = scores >= threshold
    parts = {
        "sensitivity": (labels, flagged),
        "specificity": (~labels, ~flagged),
        "ppv": (flagged, labels),
        "npv": (~flagged, ~labels),
    }
    return {name: share_of(counted[about], clusters[about]) for name, (about, counted) in parts.items() if about.any()}


def share_of(counted: np.ndarray, clusters: np.ndarray) -> Share:
    """Return the share of the images that count, bool [n], at least one; `clusters` says whose they are, int [n]."""
    images = _sums(np.ones(len(counted)), clusters)
    images = images[images > 0]
    of_patients = _sums(counted - counted.mean(), clusters)
    return Share(
        int(counted.sum()), len(counted), len(images), int((images * (images - 1)).sum()), float((of_patients**2).sum())
    )


def effective_counts(shares: Sequence[Share]) -> tuple[np.ndarray, np.ndarray]:
    """Return successes and totals as if images were independent, [k] each: both divided by the design effect.

    The design effect is `1 + rho pairs / images`, whose pairs are the site's own; the correlation `rho` of two images
    of a patient is one for all sites, as one site can hardly tell it: `sum p q (d - 1) n' / sum p q pairs n'/n`, where
    `d` is the variance between patients over that between images, each with its `m / (m - 1)` (Rao and Scott,
    Biometrics 48, 1992). Where no site has both kinds of images, `rho` is 1: a patient counts once. With one image
    a patient nothing changes.
    """
    successes = np.array([share.successes for share in shares], dtype=float)
    images = np.array([share.images for share in shares], dtype=float)
    pairs = np.array([share.pairs for share in shares], dtype=float)
    patients = np.array([share.patients for share in shares], dtype=float)
    spread = np.array([share.spread for share in shares])
    told = (patients > 1) & (pairs > 0)
    per_image = (successes * (1 - successes / images) / (images - 1).clip(min=1))[told]  # p q n / (n - 1)
    excess = (spread * patients / (patients - 1).clip(min=1))[told] - images[told] * per_image
    whole = float((per_image * pairs[told]).sum())
    correlation = min(1.0, max(0.0, float(excess.sum()) / whole)) if whole > 0 else 1.0
    design = 1 + correlation * pairs / images
    return successes / design, images / design


def log_odds(successes: np.ndarray, totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the log odds of shares and their variances `1 / x + 1 / (n - x)`, [k] each.

    Only where a share is 0 or 1, half a success and half a failure are added.
    """
    half = np.where((successes <= 0) | (successes >= totals), 0.5, 0.0)
    part, rest = successes + half, totals - successes + half
    return np.log(part / rest), 1 / part + 1 / rest


def area_effect(labels: np.ndarray, scores: np.ndarray, clusters: np.ndarray) -> Effect | None:
    """Return logit AUROC with Obuchowski's variance by the delta method; None where either does not exist.

    An AUROC of 0 or 1 is half a pair of patients away from it, with Newcombe's variance there.

    Args:
        labels: bool [N].
        scores: [N].
        clusters: int [N].
    """
    if labels.all() or not labels.any():
        return None
    found = placements(labels, scores)
    area = float(found.areas[0])
    positives, negatives = len(np.unique(clusters[labels])), len(np.unique(clusters[~labels]))
    if area in (0.0, 1.0):
        inner = 1 / (2 * positives * negatives)
        if inner >= 0.5:
            return None
        area = abs(area - inner)
        variance = perfect_variance(max(area, 1 - area), positives, negatives)
    else:
        variance = float(obuchowski_covariance(found, labels, clusters)[0, 0])
    if not variance > 0:
        return None
    return Effect(math.log(area / (1 - area)), variance / (area * (1 - area)) ** 2)


def probability_effects(labels: np.ndarray, scores: np.ndarray, clusters: np.ndarray) -> dict[str, Effect]:
    """Return Brier score, calibration intercept and slope with their variances, as far as they exist.

    Intercept and slope do not where a probability of 0 or 1 was wrong, as in the site's own figures.

    Each is the root of a sum over images; its variance is `A^-1 B A^-1` with the curvature `A` and the sum `B` of the
    patients' squared parts, times m / (m - 1) of m patients (Liang and Zeger, Biometrika 73, 1986).

    Args:
        labels: bool [N].
        scores: Probabilities of the positive class [N].
        clusters: int [N].
    """
    count, images = len(np.unique(clusters)), len(labels)
    if count < 2:
        return {}
    y, score = labels.astype(float), logit(scores)
    errors = (scores - y) ** 2
    fit = recalibrate(labels, scores, np.ones((1, images)))
    large = expit(fit.in_the_large[0] + score)
    fitted = expit(fit.constant[0] + fit.slope[0] * score)
    design = np.stack([np.ones(images), score])
    found = {
        "brier": (float(errors.mean()), (errors - errors.mean())[None], np.array([[float(images)]])),
        "calibration_intercept": (
            float(fit.in_the_large[0]), (y - large)[None], np.array([[float((large * (1 - large)).sum())]]),
        ),
        "calibration_slope": (
            float(fit.slope[0]), design * (y - fitted), (design * (fitted * (1 - fitted))) @ design.T,
        ),
    }  # fmt: skip
    if contradicted(labels, scores):
        found = {"brier": found["brier"]}
    effects = {}
    for name, (value, parts, curvature) in found.items():
        if not math.isfinite(value) or not np.linalg.det(curvature) > 0:
            continue
        of_patients = np.stack([_sums(row, clusters) for row in parts])
        bread = np.linalg.inv(curvature)
        variance = float((bread @ of_patients @ of_patients.T @ bread)[-1, -1]) * count / (count - 1)
        if variance > _LEAST_VARIANCE:
            effects[name] = Effect(value, variance)
    return effects


def _sums(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    return np.bincount(clusters, values)
