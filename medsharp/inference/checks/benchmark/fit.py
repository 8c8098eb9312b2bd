"""Fitting `ultrasound.json`: a logistic regression, and where its limit lies."""

from __future__ import annotations

from typing import Any

import numpy as np

from medsharp.inference.checks.statistics import NAMES
from medsharp.inference.checks.ultrasound import MOST

FALSE_ALARMS = 0.01
"""Share of the changed ultrasound images that the limit refuses: they stand for hospitals that were not seen."""

_STRENGTH = 0.1
"""Inverse of the penalty on squared weights."""


def fit_likeness(ultrasound: np.ndarray, changed: np.ndarray, others: np.ndarray) -> dict[str, Any]:
    """Fit the log odds that a picture is breast ultrasound, and set them to 0 at the limit.

    Both sides weigh the same, whatever their numbers.

    Args:
        ultrasound: Statistics of images as they are, float64 [N, K].
        changed: Of changed copies of them (`changes.changed`) [M, K].
        others: Of pictures of other kinds [L, K].

    Returns:
        What `ultrasound.json` holds: the intercept, and of each statistic mean, scale and weight.
    """
    from sklearn.linear_model import LogisticRegression

    values = np.concatenate([ultrasound, changed, others])
    labels = np.repeat([1, 1, 0], [len(ultrasound), len(changed), len(others)])
    mean, scale = values.mean(axis=0), values.std(axis=0) + 1e-6
    standard = np.clip((values - mean) / scale, -MOST, MOST)
    model = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=5000).fit(standard, labels)
    weights = model.coef_[0]
    scores = standard[len(ultrasound) : len(ultrasound) + len(changed)] @ weights
    return {
        "intercept": round(float(-np.quantile(scores, FALSE_ALARMS)), 5),
        "statistics": {
            name: [round(float(value), 6) for value in row]
            for name, row in zip(NAMES, np.stack([mean, scale, weights], axis=1), strict=True)
        },
    }
