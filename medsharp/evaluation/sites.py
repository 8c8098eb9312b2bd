"""Figures of several hospitals in one: a random-effects summary, and the rows of a forest plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import expit

from medsharp.evaluation.grouping import natural, places_of
from medsharp.evaluation.notes import is_leaked
from medsharp.evaluation.predictions import text_of
from medsharp.evaluation.statistics.figures import Cases
from medsharp.evaluation.statistics.intervals import Z
from medsharp.evaluation.statistics.pooling import Pooled, pool_effects, pool_shares
from medsharp.evaluation.statistics.registry import FIGURES, SUMMARISED
from medsharp.evaluation.statistics.site_effects import (
    Effect,
    Share,
    area_effect,
    effective_counts,
    log_odds,
    probability_effects,
    shares_of,
)
from medsharp.quantities import counted

if TYPE_CHECKING:
    from medsharp.evaluation.evaluate import Evaluation

LEAST_SITES = 3
"""Fewer sites tell nothing about how sites differ."""

LEAST_IMAGES = 20
"""Sites with fewer images count with their shares alone, as no other variance can be told from so few."""

_SHARES = ("sensitivity", "specificity", "ppv", "npv")
_MANY_SITES, _FEW_PATIENTS = 10, 20
_CAUTION = (
    f"many sites, and most with fewer than {_FEW_PATIENTS} patients of one class: the logit AUROC of so few is biased, "
    "and this interval misses the truth more often than in 5 of 100 studies"
)

_LIMITS = ("value", "low", "high", "prediction_low", "prediction_high")
_DELTA = "delta method, patients"


@dataclass(frozen=True)
class Site:
    """One hospital's part of a summary.

    Attributes:
        name: Of the hospital.
        images: How many.
        patients: How many, or clusters.
        shares: Counts by figure.
        effects: Other figures with their variances, AUROC on the logit scale.
        figures: As in `evaluation.json`, for the rows of a forest plot, as far as they are known.
    """

    name: str
    images: int
    patients: int
    shares: dict[str, Share]
    effects: dict[str, Effect]
    figures: dict[str, Any] = field(default_factory=dict)


def site_of(name: str, cases: Cases, figures: dict[str, Any] | None = None) -> Site:
    """Return what a hospital's images bring to a summary."""
    images = len(cases.labels)
    data = cases.labels, cases.scores, cases.clusters
    effects = probability_effects(*data) if images >= LEAST_IMAGES else {}
    area = area_effect(*data) if images >= LEAST_IMAGES else None
    if area is not None:
        effects["auroc"] = area
    return Site(name, images, cases.patients(), shares_of(*data, cases.threshold), effects, figures or {})


def sites_of(rows: pd.DataFrame, cases: Cases, subgroups: Sequence[dict[str, Any]]) -> list[Site]:
    """Return every recorded site of a table, however many there are.

    Args:
        rows: The images, in the order of `cases`.
        cases: Labels, scores, clusters.
        subgroups: Whose figures are given in the rows of a forest plot, for the sites among them.
    """
    names = text_of(rows, "site")
    shown = {group["group"]: group for group in subgroups if group["by"] == "site"}
    codes, kinds = pd.factorize(names.where(names != ""))
    sites = [
        site_of(str(name), cases.chosen(places), shown.get(str(name)))
        for name, places in zip(kinds, places_of(codes, len(kinds)), strict=True)
    ]
    return sorted(sites, key=lambda site: natural(site.name))


def decided_by(site: Site, decided: Site) -> Site:
    """Return a site whose shares are those of another one's decisions about the same images."""
    return replace(site, shares=decided.shares, figures={**site.figures, **{n: decided.figures[n] for n in _SHARES}})


def summarise_sites(sites: Sequence[Site]) -> dict[str, Any] | None:
    """Return the random-effects summary of each figure over sites; None for fewer than two sites.

    Shares are summarised from their counts (`pool_shares`), divided by the design effect where patients have several
    images, AUROC on the logit scale, the others as they are.

    Returns:
        `sites` (name, images, patients), and `figures`: by name `value`, `low`, `high` (of the median site),
        `prediction_low`, `prediction_high`, `tau2`, `i2`, `q`, `q_p`, `scale`, `method`, and `sites`, the rows of a
        forest plot with their weights; or a `reason` in place of numbers. Where the usual summary does not hold,
        `normal_normal` gives its `value`, `low`, `high`, and as `reason` why another one stands. `caution` says of an
        interval that it is known to be too narrow.
    """
    return _summarised(sites) if len(sites) > 1 else None


def _summarised(sites: Sequence[Site]) -> dict[str, Any]:
    return {
        "least_sites": LEAST_SITES,
        "sites": [{"name": site.name, "images": site.images, "patients": site.patients} for site in sites],
        "figures": {name: _summary(name, sites) for name in SUMMARISED},
    }


def summarise_evaluations(evaluations: Sequence[Evaluation]) -> dict[str, Any] | None:
    """Return the summary over external data sets, each taken as one hospital; None for fewer than two.

    Returns:
        As `summarise_sites`, and `left_out`, the name of each that is not in it and the `reason` (see `apart`).
    """
    external = [evaluation for evaluation in evaluations if evaluation.as_dict()["role"] == "external"]
    reasons = [apart(evaluation.as_dict()) for evaluation in external]
    if sum(reason != POOLED for reason in reasons) < 2:
        return None
    left_out = [
        {"name": evaluation.as_dict()["name"], "reason": reason}
        for evaluation, reason in zip(external, reasons, strict=True)
        if reason
    ]
    kept = [evaluation.site for evaluation, reason in zip(external, reasons, strict=True) if not reason]
    return _summarised(kept) | {"left_out": left_out}


LEAKED, POOLED = "the model knows some of its images", "it has the images of others"


def apart(entry: dict[str, Any]) -> str:
    """Say why a data set of `evaluation.json` tells nothing of a further hospital; empty where it does."""
    return LEAKED if is_leaked(entry) else POOLED if entry.get("pooled") else ""


def _summary(name: str, sites: Sequence[Site]) -> dict[str, Any]:
    logit = FIGURES[name].pooled == "logit"
    back: Callable[[float], float] = (lambda value: float(expit(value))) if logit else float
    known = [number for number, site in enumerate(sites) if name in (site.shares if name in _SHARES else site.effects)]
    effects, variances, pooled = _estimates(name, [sites[number] for number in known])
    rows = [_row(name, site) for site in sites]
    for number, effect, variance in zip(known, effects, variances, strict=True):
        _complete(rows[number], name, sites[number], effect, Z * math.sqrt(variance), back)
    if pooled is None:
        reason = f"{counted(len(known), 'site')} with this figure; a summary needs at least {LEAST_SITES}"
        return {**dict.fromkeys((*_LIMITS, "tau2", "i2", "q", "q_p")), "reason": reason, "sites": rows}
    found = pooled.found
    for number, weight in zip(known, found.weights, strict=True):
        rows[number]["weight"] = float(weight)
    limits = (found.mean, found.low, found.high, found.prediction_low, found.prediction_high)
    summary: dict[str, Any] = {
        **{key: None if math.isnan(limit) else back(limit) for key, limit in zip(_LIMITS, limits, strict=True)},
        **{key: getattr(found, key) for key in ("tau2", "i2", "q", "q_p")},
        "scale": "logit" if logit else "as it is",
        "method": pooled.method,
        "sites": rows,
    }
    if name == "auroc" and _small(sites):
        summary["caution"] = _CAUTION
    if pooled.normal is not None:
        usual = {key: back(getattr(pooled.normal, key)) for key in ("low", "high")}
        summary["normal_normal"] = {"value": back(pooled.normal.mean), **usual, "reason": pooled.reason}
    return summary


def _small(sites: Sequence[Site]) -> bool:
    """Whether there are so many sites of so few patients that the bias of each AUROC shows in their summary."""
    smaller = [
        min(site.shares["sensitivity"].patients, site.shares["specificity"].patients)
        for site in sites
        if "auroc" in site.effects
    ]
    return len(smaller) >= _MANY_SITES and float(np.median(smaller)) < _FEW_PATIENTS


def _estimates(name: str, sites: Sequence[Site]) -> tuple[np.ndarray, np.ndarray, Pooled | None]:
    """Return estimate and variance of each site, on the scale of the summary, and the summary of enough sites."""
    enough = len(sites) >= LEAST_SITES
    if not sites:
        return np.empty(0), np.empty(0), None
    if name in _SHARES:
        counts = effective_counts([site.shares[name] for site in sites])
        return *log_odds(*counts), pool_shares(*counts) if enough else None
    effects, variances = np.array([site.effects[name] for site in sites]).T
    logit = FIGURES[name].pooled == "logit"
    return effects, variances, pool_effects(effects, variances, logit=logit) if enough else None


def _row(name: str, site: Site) -> dict[str, Any]:
    """Return a row of a forest plot as far as the site's figures are known."""
    figure = site.figures.get(name) or {}
    return {key: figure.get(key) for key in ("value", "low", "high", "method")} | {"name": site.name, "weight": None}


def _complete(
    row: dict[str, Any], name: str, site: Site, effect: float, half: float, back: Callable[[float], float]
) -> None:
    """Give a site that has no figures of its own the value and the limits that the summary stands on."""
    if row["value"] is None:
        value = site.shares[name].value if name in _SHARES else back(effect)
        row |= {"value": value, "low": back(effect - half), "high": back(effect + half), "method": _DELTA}
