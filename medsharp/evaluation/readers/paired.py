"""One reader beside the model: AUROC, sensitivity and specificity on the same images, patients as clusters."""

from __future__ import annotations

from typing import Any

import numpy as np

from medsharp.evaluation.least import SMALLEST
from medsharp.evaluation.statistics.bootstrap import Statistic
from medsharp.evaluation.statistics.delong import logit_interval, obuchowski_covariance, placements, two_sided
from medsharp.evaluation.statistics.discrimination import WeightedRanks
from medsharp.evaluation.statistics.estimate import NEWCOMBE, Estimate, Interval
from medsharp.evaluation.statistics.figures import Cases, Measured, measure, share_estimate
from medsharp.evaluation.statistics.intervals import Z, perfect_auroc

OBUCHOWSKI = "Obuchowski, patients"


def too_little(cases: Cases) -> str:
    """Return why these images are too few to compare on; empty where they are not."""
    if len(cases.labels) < SMALLEST:
        return f"fewer than {SMALLEST} have a judgement"
    return "all with a judgement are of one class" if cases.labels.all() or not cases.labels.any() else ""


def paired_areas(cases: Cases, ratings: np.ndarray) -> dict[str, Any]:
    """Return AUROC of reader and model, and the model's less the reader's.

    Args:
        cases: The images that the reader judged.
        ratings: The reader's judgements of them [n].
    """
    found = placements(cases.labels, np.stack([cases.scores, ratings]))
    covariance = obuchowski_covariance(found, cases.labels, cases.clusters)
    model, reader = (float(area) for area in found.areas)
    return {
        "auroc": area_figure(reader, float(covariance[1, 1]), cases),
        "model_auroc": area_figure(model, float(covariance[0, 0]), cases),
        "auroc_difference": _area_difference(model - reader, covariance, len(ratings)),
    }


def area_figure(area: float, variance: float, cases: Cases) -> dict[str, Any]:
    """Return an AUROC with Obuchowski's interval on the logit scale; Newcombe's where the ranking is perfect."""
    figure = {"value": area, "low": None, "high": None, "n": len(cases.labels)}
    if area in (0.0, 1.0):
        low, high = perfect_auroc(cases.patients(cases.labels), cases.patients(~cases.labels))
        low, high = (low, high) if area == 1.0 else (1 - high, 1 - low)
        return figure | {"low": low, "high": high, "method": NEWCOMBE}
    low_limit, high_limit = logit_interval(area, variance)
    if low_limit is None:
        return figure | {"reason": "its variance is 0 or cannot be estimated from so few patients"}
    return figure | {"low": low_limit, "high": high_limit, "method": OBUCHOWSKI}


def _area_difference(value: float, covariance: np.ndarray, images: int) -> dict[str, Any]:
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    figure = {"value": value, "low": None, "high": None, "n": images}
    if not variance > 0:
        return figure | {"p": None, "reason": "its variance is 0 or cannot be estimated from so few patients"}
    half = Z * variance**0.5
    limits = {"low": value - half, "high": value + half, "method": f"{OBUCHOWSKI}, paired"}
    return figure | limits | {"p": two_sided(value, variance)}


def paired_rates(
    cases: Cases,
    ratings: np.ndarray,
    cutoffs: dict[str, float],
    *,
    resamples: int,
    rng: np.random.Generator,
    interval: Interval,
) -> list[dict[str, Any]]:
    """Return sensitivity and specificity of the reader from each cut point on, beside the model's.

    The same resampled patients serve both, so that differences are paired; they are the model's less the reader's.

    Args:
        cases: The images that the reader judged, with the model's threshold.
        ratings: The reader's judgements of them [n].
        cutoffs: Name to the rating from which on an image is called positive.
        resamples: Of patients.
        rng: Their draws.
        interval: How intervals are made of them.
    """
    if not cutoffs:
        return []
    statistic = _rates(cases, ratings, list(cutoffs.values()))
    measured = measure(cases.clusters, [statistic], resamples=resamples, rng=rng, interval=interval)
    about = {"sensitivity": cases.labels, "specificity": ~cases.labels}
    rows: list[dict[str, Any]] = []
    for place, name in enumerate(cutoffs):
        found: dict[str, Estimate] = {}
        for key, images in about.items():
            found[key] = share_estimate(measured, f"{place}:{key}", images, cases)
            found[f"model_{key}"] = share_estimate(measured, f"model_{key}", images, cases)
        for key, images in about.items():
            found[f"{key}_difference"] = _difference(measured, f"{place}:{key}_difference", images)
        for key, other in (("specificity", "sensitivity"), ("sensitivity", "specificity")):
            matched = f"{place}:model_{key}_at_same_{other}"
            found[f"model_{key}_at_same_{other}"] = share_estimate(measured, matched, about[key], cases)
            found[f"{key}_difference_at_same_{other}"] = _difference(
                measured, f"{place}:{key}_difference_at_same_{other}", about[key]
            )
        rows.append({"from": name} | {key: estimate.figure(interval) for key, estimate in found.items()})
    return rows


def _difference(measured: Measured, name: str, about: np.ndarray) -> Estimate:
    """Return a difference of two shares of the images `about`; its interval is of the resamples alone."""
    return measured.estimate(name, n=int(about.sum()), bounds=(-1.0, 1.0))


def _rates(cases: Cases, ratings: np.ndarray, cutoffs: list[float]) -> Statistic:
    """Return what computes the rates of both from weights of the images."""
    ranks = WeightedRanks(cases.labels, cases.scores)
    called = (ratings[:, None] >= np.array(cutoffs)).astype(np.float64)  # [n, K]
    flagged = (cases.scores >= cases.threshold).astype(np.float64)[:, None]
    decided = np.hstack([flagged, called])  # [n, 1 + K], the model first
    sides = {"sensitivity": cases.labels.astype(np.float64), "specificity": (~cases.labels).astype(np.float64)}

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        ranking = ranks.ranking(weights)
        positives, negatives = ranking.true[:, -1:], ranking.false[:, -1:]  # [R, 1]
        rates = {
            "sensitivity": _share(weights @ (sides["sensitivity"][:, None] * decided), positives),
            "specificity": _share(weights @ (sides["specificity"][:, None] * (1 - decided)), negatives),
        }
        values = {f"model_{key}": rate[:, 0] for key, rate in rates.items()}
        for place in range(len(cutoffs)):
            reader = {key: rate[:, place + 1] for key, rate in rates.items()}
            matched = {
                "specificity": _matched(ranking.true, ranking.false, reader["sensitivity"]),
                "sensitivity": _matched_sensitivity(ranking.true, ranking.false, reader["specificity"]),
            }
            for key, other in (("sensitivity", "specificity"), ("specificity", "sensitivity")):
                values[f"{place}:{key}"] = reader[key]
                values[f"{place}:{key}_difference"] = values[f"model_{key}"] - reader[key]
                values[f"{place}:model_{key}_at_same_{other}"] = matched[key]
                values[f"{place}:{key}_difference_at_same_{other}"] = matched[key] - reader[key]
        return values

    return statistic


def _matched(true: np.ndarray, false: np.ndarray, sensitivity: np.ndarray) -> np.ndarray:
    """Return the highest specificity [R] with which the model finds at least so large a share of the positives.

    Args:
        true: Positives found from each distinct score on [R, U + 1].
        false: Negatives flagged likewise [R, U + 1].
        sensitivity: Of the reader [R].
    """
    found = np.full(len(true), np.nan)
    for row in np.flatnonzero(np.isfinite(sensitivity) & (false[:, -1] > 0)):
        # The small factor keeps a rate that is reached exactly from being missed by rounding.
        first = np.searchsorted(true[row], sensitivity[row] * true[row, -1] * (1 - 1e-9))
        found[row] = 1 - false[row, first] / false[row, -1]
    return found


def _matched_sensitivity(true: np.ndarray, false: np.ndarray, specificity: np.ndarray) -> np.ndarray:
    """Return the highest sensitivity [R] with which the model spares at least so large a share of the negatives."""
    found = np.full(len(true), np.nan)
    for row in np.flatnonzero(np.isfinite(specificity) & (true[:, -1] > 0)):
        # Negatives that may be flagged; half a part in 1e9 of an image allows for rounding.
        allowed = (1 - specificity[row]) * false[row, -1] + 1e-9 * false[row, -1]
        last = np.searchsorted(false[row], allowed, side="right") - 1
        found[row] = true[row, last] / true[row, -1]
    return found


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
