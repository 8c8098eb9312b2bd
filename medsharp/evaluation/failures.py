"""The images that the model got wrong at the operating point, the most confident mistakes first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from medsharp.evaluation.predictions import text_of

MOST = 20
"""How many of each kind are listed."""

_COLUMNS = ("site", "device", "birads", "histology", "flags")


def failures_of(
    rows: pd.DataFrame, *, classes: Sequence[str], positive: str, threshold: float | np.ndarray
) -> dict[str, Any]:
    """Return positive images below the threshold and negative images at or above it.

    A mistake is the more confident the further the probability lies on the wrong side. Images are named as the user's
    own table names them; the patient is not.

    Args:
        rows: Checked predictions.
        classes: In the order of the columns.
        positive: The class of interest.
        threshold: A probability that equals it counts as positive; one for all, or one each [N].

    Returns:
        `missed` and `false_alarms`, each with how many there are (`total`) and the first `MOST` as `images`: name,
        label, probability of the positive class, the most probable class where there are more than two, and site,
        device, BI-RADS, histology and flags where they are known.
    """
    scores = rows[f"p_{positive}"].to_numpy(dtype=float)
    labels = (rows["label"] == positive).to_numpy(dtype=bool)
    names = rows["image"].astype(str).to_numpy()
    missed, alarms = labels & (scores < threshold), ~labels & (scores >= threshold)
    return {
        "missed": _listed(rows, classes, scores, _order(missed, scores, names)),
        "false_alarms": _listed(rows, classes, scores, _order(alarms, -scores, names)),
    }


def _order(chosen: np.ndarray, key: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Return the places of the chosen images, smallest key first, equal ones by name."""
    places = np.flatnonzero(chosen)
    return places[np.lexsort((names[places], key[places]))]


def _listed(rows: pd.DataFrame, classes: Sequence[str], scores: np.ndarray, places: np.ndarray) -> dict[str, Any]:
    shown = rows.iloc[places[:MOST]]
    images: list[dict[str, Any]] = [
        {"image": str(name), "label": str(label), "probability": float(score)}
        for name, label, score in zip(shown["image"], shown["label"], scores[places[:MOST]], strict=True)
    ]
    if len(classes) > 2:
        likeliest = shown[[f"p_{name}" for name in classes]].to_numpy(dtype=float).argmax(axis=1)
        for image, place in zip(images, likeliest, strict=True):
            image["most_probable"] = classes[int(place)]
    for column in _COLUMNS:
        for image, text in zip(images, text_of(shown, column), strict=True):
            if text:
                image[column] = text
    return {"total": len(places), "images": images}
