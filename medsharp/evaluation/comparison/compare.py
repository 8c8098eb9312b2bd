"""Paired comparison of models on the same images."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medsharp.errors import InputError
from medsharp.evaluation.comparison.mcnemar import mcnemar
from medsharp.evaluation.comparison.models import Aligned, Group, align
from medsharp.evaluation.comparison.seeds import THESE_NETWORKS, Networks, mixed_interval
from medsharp.evaluation.comparison.words import conclusions, limits_of_use
from medsharp.evaluation.frozen import threshold_text
from medsharp.evaluation.statistics.bootstrap import affordable, draw
from medsharp.evaluation.statistics.delong import delong_covariance, obuchowski_covariance, placements, two_sided
from medsharp.evaluation.statistics.estimate import LEAST_DEFINED, ONE_PATIENT, Estimate
from medsharp.evaluation.statistics.figures import Cases, estimates_of, measure
from medsharp.evaluation.statistics.holm import holm
from medsharp.evaluation.statistics.intervals import Z
from medsharp.evaluation.statistics.registry import COMPARED, DECIDED
from medsharp.evaluation.statistics.scalars import statistics_of
from medsharp.keys import named

_AT_ONE_THRESHOLD = "net_benefit_at_threshold"
_OTHER_PRICES = "the models have different thresholds, which price a false alarm differently"

Estimates = dict[str, Estimate]
"""Of one network by the name of the figure, or of one figure by the name of the network."""


@dataclass(frozen=True)
class Comparison:
    """What `comparison.json` holds."""

    content: dict[str, Any] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the content as plain values."""
        return self.content


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
    drawn = affordable(resamples, aligned.scores.size)
    draws = draw(aligned.patients, drawn, np.random.default_rng(seed))
    networks = [_estimates(aligned, place, draws) for place in range(len(aligned.scores))]
    found = placements(aligned.labels, aligned.scores)
    covariances = {
        "delong": delong_covariance(found),
        "obuchowski": obuchowski_covariance(found, aligned.labels, aligned.clusters),
    }
    ends = list(itertools.accumulate(len(group.models) for group in groups))
    members = [list(range(end - len(group.models), end)) for group, end in zip(groups, ends, strict=True)]
    pairs = [
        _pair(groups, members, one, other, aligned, networks, covariances, margin)
        for one, other in itertools.combinations(range(len(groups)), 2)
    ]
    for test in ("auroc", "sensitivity", "specificity"):
        for pair, adjusted in zip(pairs, holm([pair["figures"][test]["p"] for pair in pairs]), strict=True):
            pair["figures"][test]["p_holm"] = adjusted
    counts = {
        "images": len(aligned.labels),
        "positives": int(aligned.labels.sum()),
        "clusters": aligned.patients,
        "patients_known": aligned.patients_known,
        "deciding": aligned.deciding,
        "refused": aligned.refused,
        "left_out": aligned.left_out,
    }
    for pair in pairs:
        pair["conclusions"] = conclusions(pair, counts, len(pairs))
    content = {
        "format": 1,
        "positive": positive,
        "classes": list(classes),
        "counts": counts,
        "groups": [_summary(group, places, aligned, networks) for group, places in zip(groups, members, strict=True)],
        "pairs": pairs,
        "margin": margin,
        "limits": limits_of_use(counts, [len(group.models) for group in groups], pairs=len(pairs)),
        "intervals": {"level": 0.95, "resamples": drawn, "seed": seed, "unit": aligned.unit},
    }
    return Comparison(content)


def _estimates(aligned: Aligned, place: int, draws: np.ndarray) -> Estimates:
    """Estimate the figures of one network, on draws that are the same for all of them."""
    scores, thresholds = aligned.scores[place], aligned.thresholds[place]
    if np.ptp(thresholds) == 0:
        return _at_threshold(aligned, scores, float(thresholds[0]), COMPARED, draws)
    # Each image has a threshold of its own: what is called at it is decided, whatever the probabilities.
    called = (scores >= thresholds).astype(np.float64)
    decided = tuple(name for name in COMPARED if name in DECIDED and name != _AT_ONE_THRESHOLD)
    others = tuple(name for name in COMPARED if name not in DECIDED)
    nothing = Estimate(np.nan, np.full(len(draws), np.nan), reason="its images have different thresholds")
    return (
        _at_threshold(aligned, scores, 0.5, others, draws)
        | _at_threshold(aligned, called, 0.5, decided, draws)
        | {_AT_ONE_THRESHOLD: nothing}
    )


def _at_threshold(
    aligned: Aligned, scores: np.ndarray, threshold: float, names: Sequence[str], draws: np.ndarray
) -> Estimates:
    order = np.argsort(-scores, kind="stable")
    cases = Cases(aligned.labels[order], scores[order], aligned.clusters[order], threshold)
    found = estimates_of(cases, measure(cases.clusters, statistics_of(cases, names), drawn=draws))
    return {name: found[name] for name in names}


def _pair(
    groups: Sequence[Group],
    members: Sequence[list[int]],
    one: int,
    other: int,
    aligned: Aligned,
    networks: Sequence[Estimates],
    covariances: dict[str, np.ndarray],
    margin: float | None,
) -> dict[str, Any]:
    contrast = np.zeros(len(aligned.scores))
    contrast[members[one]] = -1 / len(members[one])
    contrast[members[other]] = 1 / len(members[other])
    models = [model.name for group in groups for model in group.models]
    figures = {
        name: _difference(
            {models[place]: networks[place][name] for place in members[one]},
            {models[place]: networks[place][name] for place in members[other]},
            aligned.patients,
        )
        for name in COMPARED
    }
    if not _one_threshold(aligned, members[one] + members[other]):
        figures[_AT_ONE_THRESHOLD] = _nothing(_OTHER_PRICES)
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


def _difference(earlier: Estimates, later: Estimates, patients: int) -> dict[str, Any]:
    """Return the later side minus the earlier one, the mean of each side's networks, which are named."""
    one, other = list(earlier.values()), list(later.values())
    first, second = Estimate.mean(one), Estimate.mean(other)
    if not (first.exists and second.exists):
        lacking = {name: found for name, found in (earlier | later).items() if not found.exists}
        why = next((found.reason for found in lacking.values() if found.reason), "the images do not allow it")
        return _nothing(f"it does not exist for {named(list(lacking))}: {why}")
    result: dict[str, Any] = {"first": first.value, "second": second.value, "value": second.value - first.value}
    if len(one) > 1 or len(other) > 1:
        return result | _mixed(result["value"], [(-1, one), (1, other)], patients)
    return result | _of_patients(second - first, "paired ")


def _nothing(reason: str) -> dict[str, Any]:
    return {"p": None, "first": None, "second": None, "value": None, "low": None, "high": None, "reason": reason}


def _one_threshold(aligned: Aligned, places: list[int]) -> bool:
    return bool(np.ptp(aligned.thresholds[places]) == 0)


def _of_patients(estimate: Estimate, paired: str = "") -> dict[str, Any]:
    """Return the interval of single networks; of these only what has a test of its own gets a p value."""
    limits = estimate.interval()
    if isinstance(limits, str):
        return {"p": None, "low": None, "high": None, "reason": limits}
    finite = estimate.replicates[np.isfinite(estimate.replicates)]
    return {
        "low": limits.low,
        "high": limits.high,
        "p": None,
        "patient_sd": float(np.std(finite, ddof=1)),
        "seed_sd": None,
        "seed_share": None,
        "covers": THESE_NETWORKS,
        "method": f"{paired}{limits.method}",
    }


def _mixed(value: float, sides: Sequence[tuple[int, Sequence[Estimate]]], patients: int) -> dict[str, Any]:
    """Return the interval of a mean over seeds, or of a difference of two, for new patients and new seeds."""
    nothing = {"p": None, "low": None, "high": None}
    replicates = [np.stack([estimate.replicates for estimate in side], axis=1) for _, side in sides]  # [R, S] each
    if not len(replicates[0]):
        return nothing | {"reason": ONE_PATIENT}
    defined = np.isfinite(np.concatenate(replicates, axis=1)).all(axis=1)  # [R]
    if defined.mean() < LEAST_DEFINED:
        return nothing | {"reason": f"it does not exist in {1 - defined.mean():.0%} of the resamples"}
    groups = [
        Networks(sign, np.array([estimate.value for estimate in side]), part[defined])
        for (sign, side), part in zip(sides, replicates, strict=True)
    ]
    found = mixed_interval(value, groups, patients)
    lows, highs = zip(*(Estimate.mean(side).bounds for _, side in sides), strict=True)
    least, most = (lows[0], highs[0]) if len(sides) == 1 else (lows[1] - highs[0], highs[1] - lows[0])
    # Limits of Student's t know no end of a scale.
    ends = {"low": (max, least), "high": (min, most)}
    return found | {key: keep(found[key], end) for key, (keep, end) in ends.items() if found[key] is not None}


def _closed_form(value: float | None, contrast: np.ndarray, covariance: np.ndarray) -> dict[str, Any]:
    if value is None:
        return {"standard_error": None, "low": None, "high": None, "p": None}
    variance = float(contrast @ covariance @ contrast)
    if not variance > 0:
        return {"standard_error": None, "low": None, "high": None, "p": 1.0 if value == 0 else None}
    error = variance**0.5
    return {
        "standard_error": error,
        "low": max(-1.0, value - Z * error),
        "high": min(1.0, value + Z * error),
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


def _summary(group: Group, places: list[int], aligned: Aligned, networks: Sequence[Estimates]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name in COMPARED:
        side = [networks[place][name] for place in places]
        mean = Estimate.mean(side)
        if name == _AT_ONE_THRESHOLD and not _one_threshold(aligned, places):
            mean = Estimate(np.nan, mean.replicates, reason="its networks or images have different thresholds")
        if not mean.exists:
            reason = mean.reason or "it does not exist on these images"
            figures[name] = {"value": None, "low": None, "high": None, "reason": reason}
        else:
            limits = _mixed(mean.value, [(1, side)], aligned.patients) if len(side) > 1 else _of_patients(mean)
            figures[name] = {"value": mean.value, **limits, "networks": [estimate.value for estimate in side]}
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
