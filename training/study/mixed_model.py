"""A linear mixed model over all cells: optimizers fixed; folds, seeds and networks random."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

_LEAST = 12
_NOTHING = 1e-6
"""Of AUROC: a residual spread below is what rounding and an iterated fit leave, not chance."""


def fit_mixed_model(figures: pd.DataFrame, reference: str) -> dict[str, Any]:
    """Fit `auroc ~ optimizer + place` with random intercepts of folds, seeds and networks, by restricted likelihood.

    A place is a hospital that is trained on and the part that is tested; a fold is one of its hospital. A source of
    variance that has one level only is left out, and named. Residuals are looked at: normality (Shapiro-Wilk), equal
    spread between optimizers (Brown-Forsythe), the largest.

    Args:
        figures: Rows of one budget, of `internal` or of external parts, with `auroc`.
        reference: The optimizer that the others are compared with.

    Returns:
        `optimizers` (`value`, `low`, `high`, `p` by name), `variances` by source, `residuals`, `notes`; or a `reason`
        why there is none.
    """
    import statsmodels.formula.api as formulas

    if len(figures) < _LEAST or figures["optimizer"].nunique() < 2:
        return {"reason": f"{len(figures)} cells are too few"}
    table = figures.assign(
        place=figures["hospital"] + " " + figures["part"],
        fold=figures["hospital"] + " " + figures["fold"].astype(str),
        seed=figures["seed"].astype(str),
    )
    if np.ptp(table["auroc"]) < _NOTHING:
        return {"reason": "all cells have the same AUROC"}
    sources = [name for name in ("fold", "seed", "network") if table[name].nunique() > 1]
    if not sources:
        return {"reason": "one fold, seed and network: nothing is random"}
    notes = [f"one {name} only: no variance of it" for name in ("fold", "seed", "network") if name not in sources]
    place = " + C(place)" if table["place"].nunique() > 1 else ""
    formula = f"auroc ~ C(optimizer, Treatment('{reference}')){place}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = formulas.mixedlm(
            formula,
            table,
            groups=np.ones(len(table)),  # crossed effects: all cells are one group
            re_formula="0",
            vc_formula={name: f"0 + C({name})" for name in sources},
        )
        try:
            fit = model.fit(reml=True, method=["lbfgs", "powell"])
        except (np.linalg.LinAlgError, ValueError) as error:
            return {"reason": f"the fit failed: {error}"}
        if not fit.scale**0.5 > _NOTHING:
            return {"reason": "nothing varies beyond optimizers, places, folds, seeds and networks"}
        intervals, values = fit.conf_int(), fit.pvalues
    notes += sorted({str(entry.message).splitlines()[0] for entry in caught})
    if not fit.converged:
        notes.append("the fit did not converge; its figures are not to be relied on")
    names = {name: key for name in sorted(set(table["optimizer"])) if (key := _key(fit.params.index, name))}
    return {
        "optimizers": {
            name: {
                "value": float(fit.params[key]),
                "low": float(intervals.loc[key].iloc[0]),
                "high": float(intervals.loc[key].iloc[1]),
                "p": float(values[key]),
            }
            for name, key in names.items()
        },
        "variances": dict(zip(model.exog_vc.names, map(float, fit.vcomp), strict=True))
        | {"residual": float(fit.scale)},
        "residuals": look_at_residuals(fit.resid.to_numpy(), table["optimizer"].to_numpy()),
        "cells": len(table),
        "notes": notes,
    }


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
        doubts.append(f"residuals are not normal (Shapiro-Wilk p {normal:.3f})")
    if equal is not None and equal < 0.05:
        doubts.append(f"optimizers vary unequally (Brown-Forsythe p {equal:.3f})")
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
