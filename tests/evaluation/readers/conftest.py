"""A study of several readers beside one model: unequal classes, clustered, tied, readers of unequal skill."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

CATEGORIES = ("2", "3", "4A", "4B", "4C", "5")


@pytest.fixture(scope="session")
def recorded() -> dict[str, Any]:
    """What R's pROC said; `record.R` beside it recorded it."""
    return json.loads((Path(__file__).parent / "recorded.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def study() -> Callable[..., pd.DataFrame]:
    """Predictions with `birads` of one reader and `birads_b`, `reader_c` of two more, one to three images a patient."""

    def made(patients: int = 130, seed: int = 3, readers: int = 3) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        who = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
        images = len(who)
        labels = (rng.random(patients) < 0.3)[who]
        seen = rng.normal(size=patients)[who] * 0.7 + rng.normal(size=images) * 0.5  # what all of them see
        odds = 1.4 * labels + seen + rng.normal(size=images) * 0.5 - 0.8
        table = {
            "image": [f"{n}.png" for n in range(images)],
            "patient": [f"P{n}" for n in who],
            "label": np.where(labels, "malignant", "benign"),
            "p_malignant": np.round(1 / (1 + np.exp(-odds)), 3),
        }
        table["p_benign"] = np.round(1 - table["p_malignant"], 3)
        for place, name in enumerate(("birads", "birads_b", "reader_c")[:readers]):
            judged = (1.8 - 0.5 * place) * labels + seen + rng.normal(size=images) * (0.5 + 0.2 * place)
            step = np.digitize(judged, [-0.7, 0.1, 0.7, 1.4, 2.2])
            table[name] = np.array(CATEGORIES, dtype=object)[step]
        return pd.DataFrame(table)

    return made
