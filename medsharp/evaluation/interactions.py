"""Whether a figure differs between the groups of a column: one test a column, not a look at every group."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from scipy.special import logit
from scipy.stats import chi2

from medsharp.evaluation.grouping import OVERLAPPING, Grouping
from medsharp.evaluation.least import LEAST_EVENTS, SMALLEST
from medsharp.evaluation.statistics.estimate import LEAST_DEFINED
from medsharp.evaluation.statistics.figures import Cases, withheld
from medsharp.evaluation.statistics.holm import holm
from medsharp.evaluation.statistics.registry import FIGURES
from medsharp.evaluation.statistics.site_effects import log_odds
from medsharp.evaluation.subgroups import TESTED, Subgroup

METHOD = "Wald, covariance of the groups from a paired patient bootstrap"

_NOTHING: dict[str, Any] = {"q": None, "df": None, "p": None}
_UNTOLD = "the groups' covariance cannot be told from these resamples"
_SHARES = ("sensitivity", "specificity")


def interactions_of(groups: Sequence[Subgroup], by: Sequence[Grouping] = ()) -> list[dict[str, Any]]:
    """Test for each column whether its groups differ in each figure of `TESTED`.

    With the figures `t` of K groups and their covariance `S`, `Q = (L t)' (L S L')^-1 (L t)`, where `L t` are the
    differences from the last group, is chi-squared with K - 1 degrees of freedom if all groups are alike. For groups
    that share no patient that is Cochran's Q (Biometrics 10, 1954). `S` comes from one bootstrap of patients for all
    groups, as a patient may have images in several. All groups of a column are compared, those that no table lists too.

    The columns asked for are tested; where none was, those that make subgroups of themselves. p values of a figure are
    adjusted over the columns (Holm).

    Args:
        groups: As `groups_of` gives them.
        by: Columns asked for.

    Returns:
        For each column `by`, `method` and `figures`: by name `q`, `df`, `p`, `p_holm`, `groups` (those compared) and
        `left_out` (the others, each with the reason), or nulls with a `reason`.
    """
    asked = {grouping.column for grouping in by}
    tested = [group for group in groups if (group.by in asked if asked else group.by not in OVERLAPPING)]
    found: list[dict[str, Any]] = [
        {"by": column, "method": METHOD, "figures": _tests(list(of_it))}
        for column, of_it in itertools.groupby(tested, key=lambda group: group.by)
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


def _tests(groups: Sequence[Subgroup]) -> dict[str, Any]:
    small = {group.name: f"fewer than {SMALLEST} images" for group in groups if not group.has_enough}
    large = [group for group in groups if group.has_enough]
    if _too_many(large):
        names = [group.name for group in large]
        return {key: _NOTHING | {"groups": names, "left_out": dict(small), "reason": _UNTOLD} for key in TESTED}
    return {key: _test(key, large, dict(small)) for key in TESTED}


def _too_many(groups: Collection[Subgroup]) -> bool:
    """Whether so many groups have events for every figure that the resamples cannot tell their covariance."""
    positives = np.array([int(group.whole.labels[group.places].sum()) for group in groups])
    negatives = np.array([len(group.places) for group in groups]) - positives
    enough = int((np.minimum(positives, negatives) >= LEAST_EVENTS).sum())
    return any(len(group.draws) <= 2 * enough for group in groups)


def _test(key: str, groups: Sequence[Subgroup], left_out: dict[str, str]) -> dict[str, Any]:
    names, values, columns, floors = [], [], [], []
    for group in groups:
        reason = _unfit(key, group)
        if reason:
            left_out[group.name] = reason
            continue
        estimate = group.estimates[key]
        scaled, least = _scale(key, estimate.value, group.cases)
        names.append(group.name)
        values.append(float(scaled(np.asarray(estimate.value))))
        replicates = np.full(len(group.present), np.nan)  # of resamples without any of its patients
        replicates[group.present] = scaled(estimate.replicates)
        columns.append(replicates)
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


def _unfit(key: str, group: Subgroup) -> str:
    """Say why a group takes no part in a test; empty where it does."""
    reason = withheld(FIGURES[key], group.cases, LEAST_EVENTS)
    if reason:
        return reason
    estimate = group.estimates[key]
    if not estimate.exists:
        return estimate.reason or "it does not exist for these images"
    if key == "auroc" and estimate.value in (0.0, 1.0):
        return "the ranking is perfect, which has no logit"
    if not len(estimate.replicates):
        return "one patient only"
    lacking = 1 - np.isfinite(estimate.replicates).sum() / len(group.present)
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
