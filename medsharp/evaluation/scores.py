"""Scores that are no probabilities: ranked and thresholded as they are; what needs a probability is withheld."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from medsharp.errors import InputError
from medsharp.evaluation.answers import SCORE
from medsharp.evaluation.by_patient import RANKED, by_unit_of
from medsharp.evaluation.evaluate import Evaluation, evaluate_predictions
from medsharp.evaluation.findings import is_answered
from medsharp.evaluation.frozen import thresholds_of
from medsharp.evaluation.predictions import check_predictions, clusters_of
from medsharp.evaluation.statistics.figures import Cases
from medsharp.evaluation.statistics.registry import CALIBRATION, USE, keys_where
from medsharp.keys import text_of

WITHHELD = "the table has scores, no probabilities"
"""The reason that stands in place of every figure that needs a probability."""

WITHHELD_NOTE = f"Calibration, net benefit and risk-coverage are not given: {WITHHELD}."
"""The sentence that stands beside the figures."""

_NEED_PROBABILITIES = {*keys_where(section=USE), *keys_where(section=CALIBRATION)}
_BINS = 20


def evaluate_scores(
    table: pd.DataFrame,
    *,
    classes: Sequence[str],
    positive: str,
    threshold: float,
    name: str,
    warnings: Sequence[str] = (),
    **options: Any,
) -> Evaluation:
    """Evaluate scores of any scale, of which the higher speak for the positive class.

    Figures of ranking and of decisions depend on the order of the scores and on which of them reach the threshold, and
    on nothing else: they are computed from the scores' ranks. Calibration, net benefit and risk-coverage read a
    probability, and are null with the reason.

    Args:
        table: As `read_predictions` gives it, with `score`.
        classes: Its labels.
        positive: The class of interest.
        threshold: On the scale of the scores; one that equals it counts as positive.
        name: Of the data set.
        warnings: Sentences that must stand beside the figures.
        options: As `evaluate_predictions` takes them.

    Raises:
        InputError: The threshold is no number, or as `evaluate_predictions`.
    """
    if not np.isfinite(threshold):
        raise InputError(f"{name}: threshold {threshold} is not a number on the scale of the scores")
    ranks = _Ranks(table[SCORE].to_numpy(dtype=float))
    probability = ranks.of(table[SCORE].to_numpy(dtype=float))
    others = [label for label in classes if label != positive]
    shares = {f"p_{label}": (1 - probability) / len(others) for label in others} | {f"p_{positive}": probability}
    standing_in = table.assign(**shares)
    ranked = evaluate_predictions(
        standing_in.drop(columns=SCORE),
        classes=classes,
        positive=positive,
        threshold=ranks.threshold(threshold),
        name=name,
        warnings=[*warnings, WITHHELD_NOTE],
        **options,
    )
    content = ranked.content
    content |= {
        "scale": SCORE,
        "threshold": float(threshold),
        "thresholds": thresholds_of(np.array([threshold])),
        "operating_point": content["operating_point"] | {"threshold": float(threshold)},
        "figures": without_probabilities(content["figures"]),
        "subgroups": [without_probabilities(group) for group in content["subgroups"]],
        **_by_unit(check_predictions(standing_in, classes, name).rows, positive, threshold, options),
        "interactions": [_tested(entry) for entry in content["interactions"]],
        "abstention": _abstention(content["abstention"]),
        "site_summary": _summary(content["site_summary"]),
        "curves": _curves(content["curves"], ranks, table, positive),
        "failures": _failures(content["failures"], ranks),
        "confusion": None,
        "multiclass": None,
    }
    estimates = {name: found for name, found in ranked.estimates.items() if name not in _NEED_PROBABILITIES}
    return replace(ranked, content=content, estimates=estimates)


class _Ranks:
    """The distinct scores, each standing for a probability in the same order: (k + 1/2) / U of the k-th of U."""

    def __init__(self, scores: np.ndarray) -> None:
        self._distinct = np.unique(scores[np.isfinite(scores)])

    def of(self, scores: np.ndarray) -> np.ndarray:
        """Return what stands for each score [N]; NaN where there is none."""
        place = np.searchsorted(self._distinct, scores)
        return np.where(np.isfinite(scores), (place + 0.5) / len(self._distinct), np.nan)

    def threshold(self, threshold: float) -> float:
        """Return what the same images reach."""
        place = int(np.searchsorted(self._distinct, threshold))
        return (place + 0.5) / len(self._distinct) if place < len(self._distinct) else 1.0

    def back(self, probability: float) -> float:
        """Return the score that a probability stands for."""
        return float(self._distinct[round(probability * len(self._distinct) - 0.5)])


def without_probabilities(figures: dict[str, Any]) -> dict[str, Any]:
    """Return figures by name with the reason in place of those that need a probability; other entries as they are."""
    return {
        name: {"value": None, "low": None, "high": None, "n": figure["n"], "reason": WITHHELD}
        if name in _NEED_PROBABILITIES and isinstance(figure, dict)
        else figure
        for name, figure in figures.items()
    }


def _by_unit(rows: pd.DataFrame, positive: str, threshold: float, options: dict[str, Any]) -> dict[str, Any]:
    """Return the figures by patient and by lesion, of the mean of the scores themselves and not of their ranks."""
    labels = (rows["label"] == positive).to_numpy(dtype=bool)
    cases = Cases(labels, rows[SCORE].to_numpy(dtype=float), clusters_of(rows), float(threshold))
    return by_unit_of(
        rows,
        cases,
        resamples=options.get("resamples", 2000),
        rng=np.random.default_rng(options.get("seed", 0)),
        interval=options.get("interval", "percentile"),
        figures=RANKED,
    )


def _tested(column: dict[str, Any]) -> dict[str, Any]:
    return column | {
        "figures": {name: test for name, test in column["figures"].items() if name not in _NEED_PROBABILITIES}
    }


def _abstention(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what was refused without what needs a probability; how sure a score is of its decision is not known."""
    if found is None:
        return None
    anyway = found["anyway"] or {}
    if "figures" in anyway:
        anyway = anyway | {"figures": without_probabilities(anyway["figures"])}
    return found | {"anyway": anyway or None, "risk_coverage": None}


def _summary(found: dict[str, Any] | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return found | {
        "figures": {name: part for name, part in found["figures"].items() if name not in _NEED_PROBABILITIES}
    }


def _curves(curves: dict[str, Any], ranks: _Ranks, table: pd.DataFrame, positive: str) -> dict[str, Any]:
    """Return ROC and precision-recall curves and the histogram on the scale of the scores; no others."""
    rows = table[is_answered(table)]
    scores, labels = rows[SCORE].to_numpy(dtype=float), (text_of(rows, "label") == positive).to_numpy(dtype=bool)
    edges = np.histogram_bin_edges(scores, _BINS)
    thresholds = [None if cut is None else ranks.back(cut) for cut in curves["roc"]["threshold"]]
    return {
        "roc": curves["roc"] | {"threshold": thresholds},
        "precision_recall": curves["precision_recall"],
        "histogram": {
            "edges": edges.tolist(),
            "positive": np.histogram(scores[labels], edges)[0].tolist(),
            "negative": np.histogram(scores[~labels], edges)[0].tolist(),
        },
    }


def _failures(failures: dict[str, Any], ranks: _Ranks) -> dict[str, Any]:
    """Return the mistakes with their scores; which class is likeliest is not known."""
    return {
        kind: part
        | {
            "images": [
                {key: value for key, value in image.items() if key not in ("probability", "most_probable")}
                | {"score": ranks.back(image["probability"])}
                for image in part["images"]
            ]
        }
        for kind, part in failures.items()
    }
