"""Predictions of several models in one table, each image decided at the frozen threshold of the model that saw it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from medsharp.errors import InputError
from medsharp.evaluation.by_patient import by_unit_of
from medsharp.evaluation.evaluate import Evaluation, evaluate_predictions
from medsharp.evaluation.failures import failures_of
from medsharp.evaluation.frozen import of_decided, thresholds_of
from medsharp.evaluation.headings import THRESHOLD
from medsharp.evaluation.predictions import check_predictions, clusters_of
from medsharp.evaluation.sites import decided_by
from medsharp.evaluation.statistics.figures import Cases
from medsharp.evaluation.statistics.registry import DECIDED

_NO_ONE_THRESHOLD = ("net_benefit_at_threshold", "net_benefit_gain_at_threshold", "interventions_avoided")
_AGAINST_READERS = ("model_sensitivity", "model_specificity", "sensitivity_difference", "specificity_difference")
_ABSTAINING = ("error_rate", "risk", "risk_coverage")
_DECIDED = DECIDED.difference(_NO_ONE_THRESHOLD).union(_AGAINST_READERS, _ABSTAINING)


def evaluate_at_own_thresholds(
    table: pd.DataFrame,
    *,
    classes: Sequence[str],
    positive: str,
    name: str,
    warnings: Sequence[str] = (),
    **options: Any,
) -> Evaluation:
    """Evaluate predictions, each of which is decided at the `threshold` that stands in its row.

    Where there are several thresholds, figures of decisions come from scores that are shifted on the scale of log odds
    until all thresholds lie at their median, so that each image is called what its own threshold calls it. Figures of
    ranking and calibration, of several classes together and by patient are of the probabilities as they are.

    Args:
        table: As `evaluate_predictions` takes it, with `threshold`.
        classes: In the order of the columns.
        positive: The class of interest.
        name: Of the data set.
        warnings: Sentences that must stand beside the figures.
        options: As `evaluate_predictions` takes them.

    Raises:
        InputError: A threshold is no probability, or as `evaluate_predictions`.
    """
    table = table.assign(**{THRESHOLD: of_decided(table, table[THRESHOLD].astype(float))})
    thresholds = table[THRESHOLD].to_numpy(dtype=float)
    if not ((thresholds >= 0) & (thresholds <= 1)).all():
        raise InputError(f"{name}: a threshold is not a probability between 0 and 1")
    settings = {"classes": classes, "positive": positive, "name": name, **options}
    distinct = np.unique(thresholds)
    if len(distinct) == 1:
        return evaluate_predictions(table, threshold=float(distinct[0]), warnings=warnings, **settings)
    common = float(np.median(distinct))
    sentence = (
        f"each image is decided at the threshold of the model that predicted it: {len(distinct)} of them, from "
        f"{distinct[0]:.4f} to {distinct[-1]:.4f}; plots show their median"
    )
    plain = evaluate_predictions(table, threshold=common, warnings=[*warnings, sentence], **settings)
    decided = evaluate_predictions(_shifted(table, classes, positive, common), threshold=common, **settings)
    content = _merged(plain.content, decided.content)
    # The most probable class is chosen by no threshold.
    content["multiclass"] = plain.content["multiclass"]
    content["thresholds"] = thresholds_of(distinct)
    content["operating_point"] = decided.content["operating_point"]
    rows = check_predictions(table, classes, name).rows
    own = rows["threshold"].to_numpy(dtype=float)
    cases = Cases(
        (rows["label"] == positive).to_numpy(dtype=bool),
        rows[f"p_{positive}"].to_numpy(dtype=float),
        clusters_of(rows),
        common,
    )
    content |= by_unit_of(
        rows,
        cases,
        resamples=options.get("resamples", 2000),
        rng=np.random.default_rng(options.get("seed", 0)),
        interval=options.get("interval", "percentile"),
        thresholds=own,
    )
    content["failures"] = failures_of(rows, classes=classes, positive=positive, threshold=own)
    estimates = {key: (decided if key in _DECIDED else plain).estimates[key] for key in plain.estimates}
    return Evaluation(content, estimates, decided_by(plain.site, decided.site))


def _shifted(table: pd.DataFrame, classes: Sequence[str], positive: str, common: float) -> pd.DataFrame:
    """Return the table with probabilities of the positive class that reach `common` where they reached their own."""
    scores = table[f"p_{positive}"].to_numpy(dtype=float)
    own = table["threshold"].to_numpy(dtype=float)
    with np.errstate(invalid="ignore"):
        moved = expit(logit(scores) - logit(own) + logit(common))
    # Rounding, and scores and thresholds of 0 or 1, which have no odds, decide nothing; no score stays none.
    flagged = scores >= own
    moved = np.where(np.isfinite(moved) | np.isnan(scores), moved, flagged.astype(float))
    moved = np.where(flagged, np.maximum(moved, common), np.minimum(moved, np.nextafter(common, 0)))
    others = [f"p_{label}" for label in classes if label != positive]
    rest = table[others].to_numpy(dtype=float)
    total = rest.sum(axis=1, keepdims=True)
    shares = np.divide(rest, total, out=np.full_like(rest, 1 / len(others)), where=total > 0)
    return table.assign(**{f"p_{positive}": moved}, **dict(zip(others, (shares * (1 - moved)[:, None]).T, strict=True)))


def _merged(plain: Any, decided: Any) -> Any:
    """Return the content of `plain` with figures of decisions as in `decided`, wherever they stand."""
    if isinstance(plain, dict) and isinstance(decided, dict):
        merged = {
            key: decided[key] if key in _DECIDED and key in decided else _merged(value, decided.get(key))
            for key, value in plain.items()
        }
        for key in _NO_ONE_THRESHOLD:
            # A curve may have the name of a figure; it looks at every threshold, and stays.
            if isinstance(merged.get(key), dict) and not isinstance(merged[key].get("value", []), list):
                merged[key] = {
                    "value": None, "low": None, "high": None, "n": merged[key].get("n"),
                    "reason": "the images have several thresholds",
                }  # fmt: skip
        return merged
    if isinstance(plain, list) and isinstance(decided, list) and len(plain) == len(decided):
        return [_merged(one, other) for one, other in zip(plain, decided, strict=True)]
    return plain
