"""Limits of the input checks for a bundle, with their rates there, and what it knows of its features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import NormalDist

import numpy as np

from medsharp.bundle import CheckLimit
from medsharp.images import DecodedImage
from medsharp.inference.checks.answers import ANSWER_CHECKS, Answers
from medsharp.inference.checks.learned import Learned, learn
from medsharp.inference.checks.picture import Picture
from medsharp.inference.checks.registry import IMAGE_CHECKS

FALSE_ALARMS = {
    "not_ultrasound": 0.005,
    "dark": 0.005,
    "bright": 0.005,
    "no_lesion": 0.05,
    "distance": 0.01,
    "energy": 0.01,
}
"""Share of the bundle's own images that a limit lets be found."""

LEAST = 60
"""Images from which on features are learned from one half, and limits set on the other."""

_FOLDS = 5

_ENOUGH = 3
"""Values beyond a quantile from which on it is taken of the values themselves."""

_FAR = 4.0
"""Standard deviations that stand for it where images are refused: a small sample shall refuse none of its kind."""

_ALIKE = 1e-4
"""Spread of values below which they say nothing of an image."""


def measured(images: Iterable[DecodedImage]) -> dict[str, np.ndarray]:
    """Return the values of the checks of the picture, by key: float [N]."""
    values = [[check.measure(picture) for check in IMAGE_CHECKS] for picture in map(Picture, images)]
    columns = np.array(values).reshape(-1, len(IMAGE_CHECKS)).T
    return {check.key: column for check, column in zip(IMAGE_CHECKS, columns, strict=True)}


def picture_limits(values: Mapping[str, np.ndarray]) -> dict[str, CheckLimit]:
    """Return the limit of each check of the picture, and what share of the bundle's own images lies beyond it.

    A limit that is fitted lets at most a stated share of these images be found. A check that also has one for every
    bundle keeps that, unless it would find more of such images: a model of other images than the check knows must
    answer them.

    Args:
        values: As `measured` gives them, of validation images.
    """
    limits = {}
    for check in IMAGE_CHECKS:
        own, limit = values[check.key], check.limit
        if check.fitted:
            share = FALSE_ALARMS[check.key]
            quantile = _limit(own, check.above, share)
            if limit is None or (quantile > limit if check.above else quantile < limit):
                limit = _limit(own, check.above, share, _FAR if check.outcome == "refusal" else None)
        assert limit is not None  # a check has one, or is fitted
        limits[check.key] = CheckLimit(limit=limit, false_alarms=_share(own, limit, check.above), images=len(own))
    return limits


def answer_limits(
    features: np.ndarray, logits: np.ndarray, labels: np.ndarray, clusters: np.ndarray, without: np.ndarray
) -> tuple[dict[str, CheckLimit], Learned | None]:
    """Learn from one half of the patients, and set limits on the other.

    Args:
        features: Of images with a lesion, float [N, D].
        logits: Of the same [N, C].
        labels: Their classes, int [N].
        clusters: Their patients, int [N].
        without: Features of images without a lesion [M, D]; M may be 0.

    Returns:
        The limits by key, and what they are limits of; nothing of fewer than `LEAST` images.
    """
    if len(features) < LEAST:
        return {}, None
    rng = np.random.default_rng(0)
    kinds = np.unique(clusters)
    half = np.isin(clusters, rng.permutation(kinds)[: len(kinds) // 2])
    if len(np.unique(labels[half])) < len(np.unique(labels)) or not (~half).any():
        return {}, None
    learned = learn(features[half], labels[half], without)
    answers = Answers(features[~half], logits[~half], learned)
    limits = {}
    for check in ANSWER_CHECKS:
        if check.key == "no_lesion" and not len(without):
            continue
        values = check.measure(answers)
        if np.ptp(values) < _ALIKE:
            continue  # the energy of a mean of probabilities is 0 of every image
        limit = _limit(values, check.above, FALSE_ALARMS[check.key])
        share = _share(values, limit, check.above)
        limits[check.key] = CheckLimit(limit=limit, false_alarms=share, images=len(values))
    if len(without) == 1:
        limits["no_lesion"] = limits["no_lesion"].model_copy(update={"without": 1})
    elif len(without):
        found = _found(features[half], labels[half], features[~half], without, rng)
        limits["no_lesion"] = limits["no_lesion"].model_copy(update={"found": found, "without": len(without)})
    return limits, learned


def _found(
    features: np.ndarray, labels: np.ndarray, others: np.ndarray, without: np.ndarray, rng: np.random.Generator
) -> float:
    """Return the share of images without a lesion that a fit without them finds, at its own limit."""
    part = rng.permutation(len(without)) % _FOLDS
    found = np.zeros(len(without), dtype=bool)
    for fold in range(_FOLDS):
        own = part == fold
        learned = learn(features, labels, without[~own])
        limit = _limit(learned.no_lesion_odds(others), True, FALSE_ALARMS["no_lesion"])
        found[own] = learned.no_lesion_odds(without[own]) > limit
    return float(found.mean())


def _limit(values: np.ndarray, above: bool, share: float, far: float | None = None) -> float:
    """Return the quantile; of too few values for it, what a normal distribution has there, or beyond all of them.

    Args:
        values: Of the bundle's own images.
        above: Whether what is found lies above.
        share: That may be found.
        far: Standard deviations that stand for the quantile of few values; those of the share by default.
    """
    if len(values) * share >= _ENOUGH:
        return float(np.quantile(values, 1 - share if above else share))
    deviations = NormalDist().inv_cdf(1 - share) if far is None else far
    if above:
        return max(float(values.mean() + deviations * values.std()), float(values.max()))
    return min(float(values.mean() - deviations * values.std()), float(values.min()))


def _share(values: np.ndarray, limit: float, above: bool) -> float:
    return float((values > limit if above else values < limit).mean())
