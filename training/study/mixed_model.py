"""A linear mixed model over all cells: optimizers fixed; folds, seeds, networks and what they do to each random."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from medsharp.quantities import p_equals

_LEAST = 12
_NOTHING = 1e-6
"""Of AUROC: a residual spread below is what rounding and an iterated fit leave, not chance."""
_OWN = "optimizer:network:place"
_SETTING = "network:place"
_BASIC = ("fold", "seed", "network")
_COLUMNS = {_SETTING: "setting", _OWN: "own"}
"""Sources of variance that are no column of the cells, and the column that is made for each."""


def fit_mixed_model(figures: pd.DataFrame, reference: str) -> dict[str, Any]:
    """Fit `auroc ~ optimizer + place` with random intercepts by restricted likelihood.

    A place is a hospital that is trained on and the part that is tested; a fold is one of its hospital. Random are
    folds, seeds, networks, networks at a place, and what an optimizer does beyond its mean effect on a network at a
    place. The last is what its mean effect must be judged by: cells of one network and place share it, so that taken
    for independent they make intervals and p values far too small. Those are of Student's t with the degrees of freedom
    of that interaction, `sum(optimizers - 1) - (optimizers - 1)` over networks and places.

    A source of variance that has one level only is left out, and named; so is the interaction, where each optimizer has
    one network and place only, or where the fit does not converge with it. Residuals are looked at: normality
    (Shapiro-Wilk), equal spread between optimizers (Brown-Forsythe), the largest.

    Args:
        figures: Rows of one budget, of `internal` or of external parts, with `auroc`.
        reference: The optimizer that the others are compared with.

    Returns:
        `optimizers` (`value`, `low`, `high`, `p` by name), `degrees_of_freedom` (None where cells are taken as
        independent), `variances` by source, `residuals`, `notes`; or a `reason` why there is none.
    """
    if len(figures) < _LEAST or figures["optimizer"].nunique() < 2:
        return {"reason": f"{len(figures)} cells are too few"}
    place = figures["hospital"] + " " + figures["part"]
    table = figures.assign(
        place=place,
        fold=figures["hospital"] + " " + figures["fold"].astype(str),
        seed=figures["seed"].astype(str),
        setting=figures["network"] + " " + place,
        own=figures["optimizer"] + " " + figures["network"] + " " + place,
    )
    if np.ptp(table["auroc"]) < _NOTHING:
        return {"reason": "all cells have the same AUROC"}
    sources = [name for name in _BASIC if table[name].nunique() > 1]
    if not sources:
        return {"reason": "one fold, seed and network: nothing is random"}
    notes = [f"one {name} only: no variance of it" for name in _BASIC if name not in sources]
    if table["network"].nunique() > 1 and table["place"].nunique() > 1:
        sources.append(_SETTING)
    optimizers = table["optimizer"].nunique()
    free = table["own"].nunique() - optimizers - (table["setting"].nunique() - 1)
    found, why = None, "each optimizer has one network and place only"
    if free > 0:
        found = _fit(table, reference, [*sources, _OWN])
        why = found.failure or "the fit with it does not converge"
    if found is None or found.result is None or not found.result.converged:
        notes.append(f"no variance of {_OWN}: {why}")
        found, free = _fit(table, reference, sources), 0
    if found.result is None:
        return {"reason": f"the fit failed: {found.failure}"}
    fit = found.result
    if not fit.scale**0.5 > _NOTHING:
        return {"reason": "nothing varies beyond optimizers, places, folds, seeds and networks"}
    notes += found.warnings
    if not fit.converged:
        notes.append("the fit did not converge; its figures are not to be relied on")
    names = {name: key for name in sorted(set(table["optimizer"])) if (key := _key(fit.params.index, name))}
    return {
        "optimizers": {name: _effect(fit.params[key], fit.bse[key], free) for name, key in names.items()},
        "degrees_of_freedom": free or None,
        "variances": found.variances | {"residual": float(fit.scale)},
        "residuals": look_at_residuals(fit.resid.to_numpy(), table["optimizer"].to_numpy()),
        "cells": len(table),
        "notes": notes,
    }


@dataclass(frozen=True)
class _Fit:
    """What came of fitting: statsmodels' result, or why there is none."""

    result: Any
    variances: dict[str, float]
    warnings: list[str]
    failure: str = ""


def _fit(table: pd.DataFrame, reference: str, sources: Sequence[str]) -> _Fit:
    import statsmodels.formula.api as formulas

    place = " + C(place)" if table["place"].nunique() > 1 else ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = formulas.mixedlm(
            f"auroc ~ C(optimizer, Treatment('{reference}')){place}",
            table,
            groups=np.ones(len(table)),  # crossed effects: all cells are one group
            re_formula="0",
            vc_formula={name: f"0 + C({_COLUMNS.get(name, name)})" for name in sources},
        )
        try:
            result = model.fit(reml=True, method=["lbfgs", "powell"])
        except (np.linalg.LinAlgError, ValueError) as error:
            return _Fit(None, {}, [], str(error))
        if result.scale**0.5 > _NOTHING and not np.isfinite(result.bse_fe).all():
            return _Fit(None, {}, [], "errors are not finite")
    said = sorted({str(entry.message).splitlines()[0].rstrip(". ") for entry in caught})
    return _Fit(result, dict(zip(model.exog_vc.names, map(float, result.vcomp), strict=True)), said)


def _effect(value: float, error: float, free: int) -> dict[str, float]:
    """Return an effect with its 95 % interval and p value, of Student's t, or of the normal where `free` is 0."""
    law = stats.t(free) if free else stats.norm()
    half = float(law.ppf(0.975)) * float(error)
    p = float(2 * law.sf(abs(value) / error))
    return {"value": float(value), "low": float(value) - half, "high": float(value) + half, "p": p}


def look_at_residuals(residuals: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Say how far residuals are from normal and from an equal spread in all groups.

    Args:
        residuals: [N].
        groups: The optimizer of each [N].
    """
    spread = float(residuals.std(ddof=1))
    if not spread > _NOTHING:
        return {"sentences": ["nothing varies beyond the model"]}
    parts = [residuals[groups == group] for group in np.unique(groups)]
    normal = float(stats.shapiro(residuals).pvalue)
    equal = float(stats.levene(*parts, center="median").pvalue) if min(map(len, parts)) > 1 else None
    largest = float(np.abs(residuals).max() / spread)
    doubts = []
    if normal < 0.05:
        doubts.append(f"residuals are not normal (Shapiro-Wilk {p_equals(normal)})")
    if equal is not None and equal < 0.05:
        doubts.append(f"optimizers vary unequally (Brown-Forsythe {p_equals(equal)})")
    if largest > 4:
        doubts.append(f"the largest residual is {largest:.1f} standard deviations")
    return {
        "shapiro_p": normal,
        "brown_forsythe_p": equal,
        "largest": largest,
        "sorted": np.sort(residuals / spread).tolist(),
        "sentences": doubts or ["residuals look normal and equally spread"],
    }


def _key(index: pd.Index, optimizer: str) -> str | None:
    return next((str(key) for key in index if str(key).endswith(f"[T.{optimizer}]") and "optimizer" in str(key)), None)
