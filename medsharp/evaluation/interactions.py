"""Whether a figure differs between the groups of a column: one test a column, not a look at every group."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit
from scipy.stats import chi2

from medsharp.evaluation.grouping import Group, Grouping
from medsharp.evaluation.statistics.bootstrap import affordable, draw
from medsharp.evaluation.statistics.estimate import LEAST_DEFINED, Estimate
from medsharp.evaluation.statistics.figures import Cases, estimates_of, measure
from medsharp.evaluation.statistics.holm import holm
from medsharp.evaluation.statistics.scalars import statistics_of
from medsharp.evaluation.statistics.site_effects import log_odds
from medsharp.evaluation.subgroups import LEAST_EVENTS, SMALLEST, columns_of

TESTED = ("auroc", "sensitivity", "specificity", "calibration_intercept", "calibration_slope")
"""Figures whose difference between groups is tested: ranks and shares on the logit scale, the others as they are."""

METHOD = "Wald, covariance of the groups from a paired patient bootstrap"

_NOTHING: dict[str, Any] = {"q": None, "df": None, "p": None}
_UNTOLD = "the groups' covariance cannot be told from these resamples"
_SHARES = ("sensitivity", "specificity")
_RESAMPLES = 1000
_BUDGET = 20_000_000


def interactions_of(
    rows: pd.DataFrame,
    cases: Cases,
    *,
    resamples: int,
    rng: np.random.Generator,
    by: Sequence[Grouping] = (),
) -> list[dict[str, Any]]:
    """Test for each column whether its groups differ in each figure of `TESTED`.

    With the figures `t` of K groups and their covariance `S`, `Q = (L t)' (L S L')^-1 (L t)`, where `L t` are the
    differences from the last group, is chi-squared with K - 1 degrees of freedom if all groups are alike. For groups
    that share no patient that is Cochran's Q (Biometrics 10, 1954). `S` comes from one bootstrap of patients for all
    groups, as a patient may have images in several.

    The columns asked for are tested; where none was, those that make subgroups of themselves. p values of a figure are
    adjusted over the columns (Holm).

    Args:
        rows: The images, in the order of `cases`.
        cases: Labels, scores, clusters, threshold.
        resamples: Of patients, 1,000 at most.
        rng: Their draws.
        by: Columns asked for.

    Returns:
        For each column `by`, `method` and `figures`: by name `q`, `df`, `p`, `p_holm`, `groups` (those compared) and
        `left_out` (the others, each with the reason), or nulls with a `reason`.
    """
    asked = {grouping.column for grouping in by}
    columns = {name: groups for name, groups in columns_of(rows, by).items() if not asked or name in asked}
    if not columns or cases.patients() < 2:
        return []
    wished = affordable(min(resamples, _RESAMPLES), len(cases.labels), _BUDGET)
    drawn = draw(int(cases.clusters.max()) + 1, wished, rng)
    found: list[dict[str, Any]] = [
        {"by": name, "method": METHOD, "figures": _tests(groups, cases, drawn, rng)} for name, groups in columns.items()
    ]
    for key in TESTED:
        tests = [entry["figures"][key] for entry in found]
        for test, adjusted in zip(tests, holm([test["p"] for test in tests]), strict=True):
            test["p_holm"] = adjusted
    return found


def wald(values: np.ndarray, covariance: np.ndarray) -> tuple[float, int, float]:
    """Return Q, its degrees of freedom and the p value of the hypothesis that all values are the same.

    Args:
        values: [K].
        covariance: [K, K].
    """
    contrasts = np.hstack([np.eye(len(values) - 1), -np.ones((len(values) - 1, 1))])  # [K - 1, K]
    differences = contrasts @ values
    q = float(differences @ np.linalg.solve(contrasts @ covariance @ contrasts.T, differences))
    return q, len(values) - 1, float(chi2.sf(q, len(values) - 1))


def _tests(groups: Sequence[Group], cases: Cases, drawn: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    parts: dict[str, tuple[Cases, dict[str, Estimate]]] = {}
    small = {name: f"fewer than {SMALLEST} images" for name, places in groups if len(places) < SMALLEST}
    large = {name: places for name, places in groups if name not in small}
    if _too_many(large.values(), cases, len(drawn)):
        return {key: _NOTHING | {"groups": list(large), "left_out": dict(small), "reason": _UNTOLD} for key in TESTED}
    for name, places in large.items():
        part = cases.chosen(places)
        # The same draws for every group: what a patient does to two of them is in their covariance.
        draws = drawn[:, np.unique(cases.clusters[places])]
        present = np.asarray(draws.any(axis=1))
        measured = measure(part.clusters, statistics_of(part, TESTED), resamples=0, rng=rng, drawn=draws[present])
        estimates = estimates_of(part, measured, LEAST_EVENTS)
        parts[name] = part, {key: _aligned(estimates[key], present) for key in TESTED}
    return {key: _test(key, parts, dict(small)) for key in TESTED}


def _too_many(groups: Collection[np.ndarray], cases: Cases, resamples: int) -> bool:
    """Whether so many groups have events for every figure that these resamples cannot tell their covariance."""
    positives = np.array([int(cases.labels[places].sum()) for places in groups])
    negatives = np.array([len(places) for places in groups]) - positives
    return resamples <= 2 * int((np.minimum(positives, negatives) >= LEAST_EVENTS).sum())


def _aligned(estimate: Estimate, present: np.ndarray) -> Estimate:
    """Return the estimate with NaN for the resamples that have none of the group's patients."""
    if not len(estimate.replicates):
        return estimate
    replicates = np.full(len(present), np.nan)
    replicates[present] = estimate.replicates
    return replace(estimate, replicates=replicates)


def _test(key: str, parts: dict[str, tuple[Cases, dict[str, Estimate]]], left_out: dict[str, str]) -> dict[str, Any]:
    names, values, columns, floors = [], [], [], []
    for name, (part, estimates) in parts.items():
        estimate = estimates[key]
        reason = _unfit(key, estimate)
        if reason:
            left_out[name] = reason
            continue
        scaled, least = _scale(key, estimate.value, part)
        names.append(name)
        values.append(float(scaled(np.asarray(estimate.value))))
        columns.append(scaled(estimate.replicates))
        floors.append(least)
    nothing = _NOTHING | {"groups": names, "left_out": left_out}
    if len(names) < 2:
        return nothing | {"reason": "fewer than two groups have this figure"}
    replicates = np.stack(columns, axis=1)  # [R, K]
    replicates = replicates[np.isfinite(replicates).all(axis=1)]
    covariance = np.cov(replicates, rowvar=False) + np.diag(floors)
    if len(replicates) <= 2 * len(names) or np.linalg.matrix_rank(covariance, hermitian=True) < len(names):
        return nothing | {"reason": _UNTOLD}
    q, df, p = wald(np.array(values), covariance)
    return nothing | {"q": q, "df": df, "p": p}


def _unfit(key: str, estimate: Estimate) -> str:
    """Say why a group takes no part in a test; empty where it does."""
    if not estimate.exists:
        return estimate.reason or "it does not exist for these images"
    if key == "auroc" and estimate.value in (0.0, 1.0):
        return "the ranking is perfect, which has no logit"
    if not len(estimate.replicates):
        return "one patient only"
    lacking = 1 - np.isfinite(estimate.replicates).mean()
    if lacking > 1 - LEAST_DEFINED:
        return f"it does not exist in {lacking:.0%} of the resamples"
    return ""


def _scale(key: str, value: float, part: Cases) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    """Return what puts a figure on the scale of the test, and what its variance lacks there.

    A share has half a patient added on either side, so that a share of 0 or 1 keeps a logit; as resampling does not
    move it, its variance is that of log odds of so many patients. An AUROC, which a resample can make perfect, keeps
    half a pair of patients away from 0 and 1.
    """
    positives, negatives = part.patients(part.labels), part.patients(~part.labels)
    if key == "auroc":
        nearest = 0.5 / (positives * negatives)
        return lambda area: logit(np.clip(area, nearest, 1 - nearest)), 0.0
    if key not in _SHARES:
        return lambda figure: figure, 0.0
    count = positives if key == "sensitivity" else negatives
    floor = 0.0
    if value in (0.0, 1.0):
        floor = float(log_odds(np.array([value * count]), np.array([float(count)]))[1][0])
    return lambda share: logit((share * count + 0.5) / (count + 1)), floor
