"""Paired comparison of models on the same images."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medsharp.errors import InputError
from medsharp.evaluation.comparison.holm import holm
from medsharp.evaluation.comparison.mcnemar import mcnemar
from medsharp.evaluation.comparison.models import Aligned, Group, Model, align
from medsharp.evaluation.comparison.seeds import THESE_NETWORKS, Networks, mixed_interval
from medsharp.evaluation.comparison.words import conclusions, limits_of_use
from medsharp.evaluation.frozen import threshold_text
from medsharp.evaluation.statistics.bootstrap import Statistic, affordable, bootstrap
from medsharp.evaluation.statistics.calibration import probability_scores
from medsharp.evaluation.statistics.decision import net_benefit_at
from medsharp.evaluation.statistics.delong import (
    delong_covariance,
    obuchowski_covariance,
    placements,
    two_sided,
)
from medsharp.evaluation.statistics.discrimination import WeightedRanks, areas
from medsharp.evaluation.statistics.intervals import Z, normal, percentile
from medsharp.evaluation.statistics.thresholded import decisions

COMPARED = (
    "auroc",
    "auprc",
    "sensitivity",
    "specificity",
    "balanced_accuracy",
    "net_benefit_at_threshold",
    "brier",
    "log_loss",
    "calibration_intercept",
    "calibration_slope",
)
"""Figures that are compared."""

_AT_ONE_THRESHOLD = "net_benefit_at_threshold"
_LEAST_DEFINED = 0.95
_FEWEST_FOR_PERCENTILES = 1000


@dataclass(frozen=True)
class Comparison:
    """What `comparison.json` holds."""

    content: dict[str, Any] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the content as plain values."""
        return self.content


@dataclass(frozen=True)
class _Measured:
    """Figures of each model, on the images as they are [K] and on resampled patients [R, K]."""

    values: dict[str, np.ndarray]
    replicates: dict[str, np.ndarray]


def compare_models(
    groups: Sequence[Group],
    *,
    classes: Sequence[str],
    positive: str,
    margin: float | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare every two groups on the same images.

    Each resample of patients is the same for all models, so that differences are paired. Differences are the later
    group less the earlier one; with a margin, the later one is tested for being no worse in AUROC.

    Args:
        groups: Two or more; the first is the reference of non-inferiority where there are two.
        classes: In the order of the columns.
        positive: The class of interest.
        margin: How much lower an AUROC would still count as no worse, in (0, 1).
        resamples: Of patients.
        seed: Of the bootstrap.

    Raises:
        InputError: The models were not given the same images, names repeat, or an argument is wrong.
    """
    names = [group.name for group in groups]
    if len(groups) < 2:
        raise InputError("a comparison needs at least two models; give another predictions.csv")
    if len(set(names)) < len(names):
        raise InputError(f"two groups have the name '{next(n for n in names if names.count(n) > 1)}'; rename one")
    if positive not in classes:
        raise InputError(f"positive class '{positive}' is not among the classes {', '.join(classes)}; use --positive")
    if margin is not None and not 0 < margin < 1:
        raise InputError(f"margin is {margin}; give the AUROC that may be lost, such as 0.02")
    aligned = align(groups, classes, positive)
    models = [model for group in groups for model in group.models]
    drawn = affordable(resamples, len(aligned.labels) * len(models))
    measured = _measure(aligned, models, drawn, seed)
    found = placements(aligned.labels, aligned.scores)
    covariances = {
        "delong": delong_covariance(found),
        "obuchowski": obuchowski_covariance(found, aligned.labels, aligned.clusters),
    }
    ends = list(itertools.accumulate(len(group.models) for group in groups))
    members = [list(range(end - len(group.models), end)) for group, end in zip(groups, ends, strict=True)]
    pairs = [
        _pair(groups, members, one, other, aligned, measured, covariances, margin)
        for one, other in itertools.combinations(range(len(groups)), 2)
    ]
    for test in ("auroc", "sensitivity", "specificity"):
        for pair, adjusted in zip(pairs, holm([pair["figures"][test]["p"] for pair in pairs]), strict=True):
            pair["figures"][test]["p_holm"] = adjusted
    counts = {
        "images": len(aligned.labels),
        "positives": int(aligned.labels.sum()),
        "clusters": int(aligned.clusters.max()) + 1,
        "patients_known": aligned.patients_known,
        "deciding": aligned.deciding,
    }
    for pair in pairs:
        pair["conclusions"] = conclusions(pair, counts, len(pairs))
    content = {
        "format": 1,
        "positive": positive,
        "classes": list(classes),
        "counts": counts,
        "groups": [_summary(group, places, aligned, measured) for group, places in zip(groups, members, strict=True)],
        "pairs": pairs,
        "margin": margin,
        "limits": limits_of_use(counts, [len(group.models) for group in groups], pairs=len(pairs)),
        "intervals": {"level": 0.95, "resamples": drawn, "seed": seed, "unit": _unit(aligned)},
    }
    return Comparison(content)


def _measure(aligned: Aligned, models: Sequence[Model], resamples: int, seed: int) -> _Measured:
    statistics = [
        _named(number, part)
        for number in range(len(models))
        for part in _parts(aligned.labels, aligned.scores[number], aligned.thresholds[number])
    ]
    ones = np.ones((1, len(aligned.labels)))
    values: dict[str, np.ndarray] = {}
    for statistic in statistics:
        values.update(statistic(ones))
    missing = np.full(1, np.nan)  # a model of several thresholds has no net benefit
    replicates: dict[str, np.ndarray] = {}
    if aligned.clusters.max() > 0:
        rng = np.random.default_rng(seed)
        replicates = bootstrap(statistics, aligned.clusters, resamples=resamples, rng=rng)
    count = range(len(models))
    empty = np.full(resamples if replicates else 0, np.nan)
    return _Measured(
        {name: np.array([values.get(f"{number}:{name}", missing)[0] for number in count]) for name in COMPARED},
        {name: np.stack([replicates.get(f"{n}:{name}", empty) for n in count], axis=1) for name in COMPARED},
    )


def _parts(labels: np.ndarray, scores: np.ndarray, thresholds: np.ndarray) -> list[Statistic]:
    columns = (scores - labels) ** 2

    def brier(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"brier": weights @ columns / weights.sum(axis=1)}

    others = [probability_scores(labels, scores), brier]
    if np.ptp(thresholds) == 0:
        at = float(thresholds[0])
        return [WeightedRanks(labels, scores).statistic([areas, decisions(at), net_benefit_at(at)]), *others]
    called = WeightedRanks(labels, (scores >= thresholds).astype(float))
    return [WeightedRanks(labels, scores).statistic([areas]), called.statistic([decisions(0.5)]), *others]


def _named(number: int, statistic: Statistic) -> Statistic:
    def named(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {f"{number}:{name}": value for name, value in statistic(weights).items() if name in COMPARED}

    return named


def _pair(
    groups: Sequence[Group],
    members: Sequence[list[int]],
    one: int,
    other: int,
    aligned: Aligned,
    measured: _Measured,
    covariances: dict[str, np.ndarray],
    margin: float | None,
) -> dict[str, Any]:
    contrast = np.zeros(len(aligned.scores))
    contrast[members[one]] = -1 / len(members[one])
    contrast[members[other]] = 1 / len(members[other])
    patients = int(aligned.clusters.max()) + 1
    figures = {name: _difference(name, measured, members[one], members[other], patients) for name in COMPARED}
    if not _one_threshold(aligned, members[one] + members[other]):
        figures[_AT_ONE_THRESHOLD] = _nothing(
            "the models have different thresholds, which price a false alarm differently"
        )
    for method, covariance in covariances.items():
        figures["auroc"][method] = _closed_form(figures["auroc"]["value"], contrast, covariance)
    single = len(members[one]) == len(members[other]) == 1
    if single:
        figures["auroc"] |= {"p": figures["auroc"]["obuchowski"]["p"], "p_method": "Obuchowski, patients"}
    for name, about in (("sensitivity", aligned.labels), ("specificity", ~aligned.labels)):
        if single:
            right = aligned.called == aligned.labels  # [K, N]
            first, second = right[members[one][0], about], right[members[other][0], about]
            test = mcnemar(first, second, aligned.clusters[about])
            figures[name] |= {"mcnemar": test, "p": test["p"], "p_method": test["method"]}
    return {
        "first": groups[one].name,
        "second": groups[other].name,
        "networks": [len(members[one]), len(members[other])],
        "figures": figures,
        "non_inferiority": None if margin is None else non_inferiority(figures["auroc"], margin),
    }


def _difference(name: str, measured: _Measured, one: list[int], other: list[int], patients: int) -> dict[str, Any]:
    values, replicates = measured.values[name], measured.replicates[name]
    first, second = float(values[one].mean()), float(values[other].mean())
    if not np.isfinite([first, second]).all():
        return _nothing("it does not exist for one of the models on these images")
    networks = [Networks(sign, values[places], replicates[:, places]) for sign, places in ((-1, one), (1, other))]
    result: dict[str, Any] = {"first": first, "second": second, "value": second - first}
    return result | _limits(result["value"], networks, patients)


def _nothing(reason: str) -> dict[str, Any]:
    return {"p": None, "first": None, "second": None, "value": None, "low": None, "high": None, "reason": reason}


def _one_threshold(aligned: Aligned, places: list[int]) -> bool:
    return bool(np.ptp(aligned.thresholds[places]) == 0)


def _limits(value: float, groups: Sequence[Networks], patients: int) -> dict[str, Any]:
    """Return the interval of a mean or difference: percentiles for single networks, mixed for several seeds."""
    nothing = {"p": None, "low": None, "high": None}
    resamples = len(groups[0].replicates)
    if not resamples:
        return nothing | {"reason": "one patient only: no interval can be given"}
    defined = np.isfinite(np.concatenate([group.replicates for group in groups], axis=1)).all(axis=1)  # [R]
    if defined.sum() < _LEAST_DEFINED * resamples:
        return nothing | {"reason": f"it does not exist in {1 - defined.mean():.0%} of the resamples"}
    groups = [replace(group, replicates=group.replicates[defined]) for group in groups]
    replicates = np.sum([group.sign * group.replicates.mean(axis=1) for group in groups], axis=0)
    several = any(len(group.values) > 1 for group in groups)
    if np.ptp(replicates) == 0 and not several:
        agree = value == 0 and len(groups) > 1
        return nothing | {"reason": f"{'the two agree' if agree else 'it is the same'} in every resample"}
    if several:
        return mixed_interval(value, groups, patients)
    few = len(replicates) < _FEWEST_FOR_PERCENTILES
    low, high = normal(value, replicates) if few else percentile(replicates)
    return {
        "low": low,
        "high": high,
        "p": None,  # of single networks only what has a test of its own gets one
        "patient_sd": float(np.std(replicates, ddof=1)),
        "seed_sd": None,
        "seed_share": None,
        "covers": THESE_NETWORKS,
        "method": f"paired patient bootstrap, {'normal' if few else 'percentile'}",
    }


def _closed_form(value: float, contrast: np.ndarray, covariance: np.ndarray) -> dict[str, Any]:
    variance = float(contrast @ covariance @ contrast)
    if not variance > 0:
        return {"standard_error": None, "low": None, "high": None, "p": 1.0 if value == 0 else None}
    error = variance**0.5
    return {
        "standard_error": error,
        "low": value - Z * error,
        "high": value + Z * error,
        "p": two_sided(value, variance),
    }


def non_inferiority(auroc: dict[str, Any], margin: float) -> dict[str, Any]:
    """Say whether the later model loses less than the margin: the lower 95 % limit, a one-sided test at 2.5 %."""
    low, high = auroc["low"], auroc["high"]
    reason = "there is no interval" if low is None else auroc.get("p_reason")
    if reason is not None:
        return {"margin": margin, "low": low, "verdict": "not tested", "reason": reason}
    if low > -margin:
        verdict = "non-inferior"
    elif high < -margin:
        verdict = "inferior"
    else:
        verdict = "not shown"
    return {"margin": margin, "low": low, "verdict": verdict}


def _summary(group: Group, places: list[int], aligned: Aligned, measured: _Measured) -> dict[str, Any]:
    patients = int(aligned.clusters.max()) + 1
    figures: dict[str, Any] = {}
    for name in COMPARED:
        values, replicates = measured.values[name][places], measured.replicates[name][:, places]
        mean = float(values.mean())
        if name == _AT_ONE_THRESHOLD and not _one_threshold(aligned, places):
            reason = "its networks or images have different thresholds"
            figures[name] = {"value": None, "low": None, "high": None, "reason": reason}
        elif not np.isfinite(mean):
            figures[name] = {"value": None, "low": None, "high": None, "reason": "it does not exist on these images"}
        else:
            limits = _limits(mean, [Networks(1, values, replicates)], patients)
            figures[name] = {"value": mean, **limits, "networks": values.tolist()}
    return {
        "name": group.name,
        "models": [
            {
                "name": model.name,
                "threshold": model.threshold,
                "thresholds": threshold_text(np.unique(aligned.thresholds[place])),
                "threshold_from": model.threshold_from,
            }
            for model, place in zip(group.models, places, strict=True)
        ],
        "figures": figures,
    }


def _unit(aligned: Aligned) -> str:
    if aligned.patients_known:
        return "patients"
    known = int(aligned.clusters.max()) + 1 < len(aligned.labels)
    return "patients or groups of near-duplicates" if known else "images, as patients are unknown"
