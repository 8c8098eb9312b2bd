"""The tables of predictions in a bundle, in which no image and no patient has a name."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from medsharp.bundle.prediction_sets import to_table
from medsharp.keys import patients_of


def validation_table(labels: np.ndarray, shares: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """Return the predictions that fixed temperature and operating point, numbered, for conformal prediction sets.

    Args:
        labels: int [N].
        shares: Calibrated probabilities [N, C].
        classes: In the order of the columns.
    """
    return pd.DataFrame(
        {
            "image": [f"validation {number}" for number in range(1, len(labels) + 1)],
            "label": [classes[label] for label in labels],
            **{f"p_{name}": to_table(shares[:, column]) for column, name in enumerate(classes)},
        }
    )


def internal_table(rows: pd.DataFrame, shares: np.ndarray, classes: Sequence[str], split: str) -> pd.DataFrame:
    """Return the predictions that internal figures are made of; names of images, patients and groups are hashed.

    Args:
        rows: Of a manifest [N].
        shares: Calibrated probabilities [N, C].
        classes: In the order of the columns.
        split: What the images are: `test`, `val` or `out-of-fold`.
    """
    # The key is thrown away: names cannot be found again by hashing a list of likely ones.
    hashed = partial(_hashed, key=secrets.token_bytes(32))
    group = rows["group"].where(rows["group"] != "", rows["image"])
    # A patient who is not known stays so: the report says patients only of patients.
    patients = patients_of(rows)
    patient = patients.map(hashed).where(patients != "", "")
    return pd.DataFrame(
        {
            "image": rows["image"].map(hashed),
            "patient": patient,
            "group": group.map(hashed),
            "site": rows["site"],
            "label": rows["label"],
            **{f"p_{name}": to_table(shares[:, number]) for number, name in enumerate(classes)},
            "device": rows["device"],
            "birads": rows["birads"],
            "split": split,
        }
    )


def _hashed(text: str, key: bytes) -> str:
    return hashlib.blake2b(text.encode("utf-8"), key=key, digest_size=8).hexdigest()
