"""Simulated studies for the statistics: patients with several images each, and tables of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

Study = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="session")
def study() -> Callable[..., Study]:
    """Labels bool, scores and patients, one or two images each: [N] each, in no order."""

    def made(patients: int = 200, seed: int = 0, ties: bool = False) -> Study:
        rng = np.random.default_rng(seed)
        clusters = np.repeat(np.arange(patients), rng.integers(1, 3, patients))
        labels = (rng.random(patients) < 0.35)[clusters]
        odds = rng.normal(size=len(clusters)) + rng.normal(size=patients)[clusters] + 1.5 * labels - 1
        scores = 1 / (1 + np.exp(-odds))
        order = rng.permutation(len(labels))
        return labels[order], (np.round(scores, 1) if ties else scores)[order], clusters[order]

    return made


@pytest.fixture(scope="session")
def table() -> Callable[..., pd.DataFrame]:
    """Predictions of a study as a table."""

    def made(labels: np.ndarray, scores: np.ndarray, patients: np.ndarray | None = None) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "image": [f"{number}.png" for number in range(len(labels))],
                "patient": [str(patient) for patient in (np.arange(len(labels)) if patients is None else patients)],
                "label": np.where(labels, "malignant", "benign"),
                "p_benign": 1 - scores,
                "p_malignant": scores,
            }
        )

    return made


@pytest.fixture(scope="session")
def evaluated() -> Callable[..., dict]:
    """The content of an evaluation of a table."""
    from medsharp.evaluation import evaluate_predictions

    def made(predictions: pd.DataFrame, **options: object) -> dict:
        settings = {"classes": ["benign", "malignant"], "positive": "malignant", "threshold": 0.4, "name": "here"}
        return evaluate_predictions(predictions, **{"resamples": 200, **settings, **options}).as_dict()  # type: ignore[arg-type]

    return made
