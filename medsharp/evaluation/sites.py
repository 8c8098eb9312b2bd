"""Figures of several hospitals in one: a random-effects summary, and the rows of a forest plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medsharp.evaluation.statistics.random_effects import random_effects

if TYPE_CHECKING:
    from medsharp.evaluation.evaluate import Evaluation

LEAST_SITES = 3
"""Fewer sites tell nothing about how sites differ."""

_LOGIT = ("auroc", "sensitivity", "specificity", "ppv", "npv")
_PLAIN = ("brier", "calibration_intercept", "calibration_slope")
SUMMARISED = (*_LOGIT, *_PLAIN)
"""Figures that are summarised over sites."""

_LEAST_SPREAD = 1e-10


@dataclass(frozen=True)
class Site:
    """One hospital's part.

    Attributes:
        name: Of the hospital.
        figures: As in `evaluation.json`.
        replicates: Bootstrap values by figure [R].
        images: How many.
        patients: How many, or clusters.
    """

    name: str
    figures: dict[str, Any]
    replicates: dict[str, np.ndarray] = field(repr=False)
    images: int
    patients: int


def summarise_sites(sites: Sequence[Site]) -> dict[str, Any] | None:
    """Return the random-effects summary of each figure over sites; None for fewer than two sites.

    Shares and AUROC are summarised on the logit scale and turned back, the others as they are. A site's variance is
    that of its bootstrap values; a share of 0 or 1 counts with half a patient more on either side, of the patients that
    the share is about. An AUROC of 0 or 1 has no logit, and its site no weight.

    Returns:
        `sites` (name, images, patients), and `figures`: by name `value`, `low`, `high`, `prediction_low`,
        `prediction_high`, `tau2`, `i2`, `q`, `q_p`, `scale`, `method`, and `sites`, the rows of a forest plot with
        their weights; or a `reason` in place of numbers.
    """
    if len(sites) < 2:
        return None
    return {
        "least_sites": LEAST_SITES,
        "sites": [{"name": site.name, "images": site.images, "patients": site.patients} for site in sites],
        "figures": {name: _summary(name, sites) for name in SUMMARISED if any(name in s.figures for s in sites)},
    }


def summarise_evaluations(evaluations: Sequence[Evaluation]) -> dict[str, Any] | None:
    """Return the summary over external data sets, each taken as one hospital; None for fewer than two."""
    parts = []
    for evaluation in evaluations:
        entry = evaluation.as_dict()
        if entry["role"] == "external":
            counts = entry["counts"]
            parts.append(
                Site(entry["name"], entry["figures"], evaluation.replicates, counts["images"], counts["clusters"])
            )
    return summarise_sites(parts)


def _summary(name: str, sites: Sequence[Site]) -> dict[str, Any]:
    back: Callable[[float], float] = _expit if name in _LOGIT else float
    rows: list[dict[str, Any]] = []
    effects, variances = [], []
    for site in sites:
        figure = site.figures.get(name) or {"value": None, "low": None, "high": None}
        row = {key: figure.get(key) for key in ("value", "low", "high")} | {"name": site.name, "weight": None}
        estimate = _estimate(name, site)
        if estimate is not None:
            effects.append(estimate[0])
            variances.append(estimate[1])
            row["weight"] = len(effects) - 1
        rows.append(row)
    empty = dict.fromkeys(("value", "low", "high", "prediction_low", "prediction_high", "tau2", "i2", "q", "q_p"))
    if len(effects) < LEAST_SITES:
        for row in rows:
            row["weight"] = None
        reason = f"{len(effects)} sites with this figure; a summary needs at least {LEAST_SITES}"
        return {**empty, "reason": reason, "sites": rows}
    found = random_effects(np.array(effects), np.array(variances))
    for row in rows:
        if row["weight"] is not None:
            row["weight"] = float(found.weights[row["weight"]])
    return {
        "value": back(found.mean),
        "low": back(found.low),
        "high": back(found.high),
        "prediction_low": back(found.prediction_low),
        "prediction_high": back(found.prediction_high),
        "tau2": found.tau2,
        "i2": found.i2,
        "q": found.q,
        "q_p": found.q_p,
        "scale": "logit" if name in _LOGIT else "as it is",
        "method": "random effects, REML, Hartung-Knapp",
        "sites": rows,
    }


def _estimate(name: str, site: Site) -> tuple[float, float] | None:
    """Return estimate and variance on the scale of the summary, or None where the site has none."""
    figure = site.figures.get(name)
    if figure is None or figure["value"] is None:
        return None
    value = float(figure["value"])
    replicates = site.replicates[name]
    finite = replicates[np.isfinite(replicates)]
    if name in _LOGIT:
        if value in (0.0, 1.0):
            if name == "auroc" or "patients" not in figure:
                return None
            # The patients that the share is about: for sensitivity, those with a positive image.
            part, rest = value * figure["patients"] + 0.5, (1 - value) * figure["patients"] + 0.5
            return math.log(part / rest), 1 / part + 1 / rest
        inner = np.clip(finite, 1e-6, 1 - 1e-6)
        value, finite = math.log(value / (1 - value)), np.log(inner / (1 - inner))
    variance = float(np.var(finite, ddof=1)) if len(finite) > 1 else 0.0
    return (value, variance) if variance > _LEAST_SPREAD else None


def _expit(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0
