"""The curves of one data set, each with its pointwise 95 % band: points for plots, in `evaluation.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medsharp.birads import is_suspicious
from medsharp.evaluation.statistics.calibration import recalibration_curve, reliability
from medsharp.evaluation.statistics.decision import CUTS, SENSIBLE
from medsharp.evaluation.statistics.discrimination import GRID, precision_recall_curve, roc_curve
from medsharp.evaluation.statistics.figures import Cases, Measured
from medsharp.evaluation.statistics.intervals import percentile_band
from medsharp.evaluation.statistics.selective import COVERAGES
from medsharp.evaluation.statistics.smooth_calibration import SmoothCalibration

_MOST_POINTS = 1000


def curves_of(cases: Cases, smooth: SmoothCalibration, measured: Measured) -> dict[str, Any]:
    """Return ROC, precision-recall, reliability, histogram, net benefit and risk-coverage.

    Args:
        cases: Labels and scores.
        smooth: The local regression whose values were measured.
        measured: Values and replicates of `roc_band`, `precision_band`, `recalibration`, `smooth_calibration`,
            `net_benefit`, `treat_all`, `net_benefit_gain`, `avoided` and `risk_at_coverage`.
    """
    labels, scores = cases.labels, cases.scores
    values, replicates = measured.values, measured.replicates
    false, true = roc_curve(labels, scores)
    recall, precision = precision_recall_curve(labels, scores)
    thresholds = scores[np.r_[True, scores[1:] != scores[:-1]]]
    bands = {
        name: percentile_band(replicates[name])
        for name in ("roc_band", "precision_band", "net_benefit", "net_benefit_gain", "avoided", "risk_at_coverage")
    }
    edges = np.linspace(0, 1, 21)

    def limits(name: str) -> dict[str, list[float]]:
        return {"low": bands[name][0], "high": bands[name][1]}

    return {
        "roc": {
            "false_positive_rate": _thinned(false),
            "true_positive_rate": _thinned(true),
            # The first point, (0, 0), is reached by no threshold.
            "threshold": [None, *_thinned(np.r_[np.inf, thresholds])[1:]],
            "band": {"false_positive_rate": GRID.tolist(), **limits("roc_band")},
        },
        "precision_recall": {
            "recall": _thinned(recall),
            "precision": _thinned(precision),
            "band": {"recall": GRID.tolist(), **limits("precision_band")},
        },
        "reliability": {
            "bins": reliability(labels, scores, cases.clusters),
            "curve": recalibration_curve(labels, scores, values["recalibration"], replicates["recalibration"]),
            "smooth": smooth.curve(values["smooth_calibration"], replicates["smooth_calibration"]),
        },
        "histogram": {
            "edges": edges.tolist(),
            "positive": np.histogram(scores[labels], edges)[0].tolist(),
            "negative": np.histogram(scores[~labels], edges)[0].tolist(),
        },
        "net_benefit": {
            "threshold": CUTS.tolist(),
            "model": values["net_benefit"].tolist(),
            **limits("net_benefit"),
            "treat_all": values["treat_all"].tolist(),
            "gain": {"value": values["net_benefit_gain"].tolist(), **limits("net_benefit_gain")},
            "interventions_avoided": {"value": values["avoided"].tolist(), **limits("avoided")},
        },
        "risk_coverage": {
            "coverage": COVERAGES.tolist(),
            "risk": values["risk_at_coverage"].tolist(),
            **limits("risk_at_coverage"),
        },
    }


def with_sensible(curves: dict[str, Any], positive: str, classes: Sequence[str]) -> dict[str, Any]:
    """Return curves with the thresholds from which biopsy is sensible, where positive is what it looks for."""
    if "net_benefit" not in curves or not is_suspicious(positive, classes):
        return curves
    return curves | {"net_benefit": curves["net_benefit"] | {"sensible": list(SENSIBLE)}}


def _thinned(values: np.ndarray) -> list[float]:
    """Return at most `_MOST_POINTS` evenly spaced points of a curve, its ends among them."""
    kept = np.linspace(0, len(values) - 1, min(len(values), _MOST_POINTS)).round().astype(int)
    return [float(value) for value in values[kept]]
