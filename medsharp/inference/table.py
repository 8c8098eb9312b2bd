"""Predictions as a table: what is written to predictions.csv and scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.inference.prediction import Prediction
from medsharp.inference.predictor import Predictor

_LEADING = ("image", "patient", "site", "label")


def predictions_table(predictions: Sequence[Prediction], classes: Sequence[str] | None = None) -> pd.DataFrame:
    """Lay predictions out: image, p_<class>..., decision, flags, error.

    Args:
        predictions: As `Predictor.predict` gives them.
        classes: The columns; those of the first prediction without an error by default.
    """
    if classes is None:
        classes = next((list(p.probabilities) for p in predictions if p.error is None), [])
    return pd.DataFrame(
        {
            "image": [p.name for p in predictions],
            **{f"p_{name}": [p.probabilities.get(name) for p in predictions] for name in classes},
            "decision": [p.decision for p in predictions],
            "flags": ["; ".join(p.flags) for p in predictions],
            "error": [p.error or "" for p in predictions],
        }
    )


def predict_manifest(
    predictor: Predictor, manifest: Manifest, *, progress: Callable[[int, int, str], None] | None = None
) -> pd.DataFrame:
    """Predict the images of a manifest that nothing excludes.

    Returns:
        A row an image, in the manifest's order: image, patient, site, label, p_<class>..., decision, flags, error, and
        the manifest's other columns.

    Raises:
        InputError: The manifest excludes every image.
    """
    rows = manifest.included.reset_index(drop=True)
    if rows.empty:
        raise InputError(f"{manifest.info.name} has no image that is not excluded")
    files = [manifest.path(name) for name in rows["image"]]
    predictions = predictor.predict(files, names=list(rows["image"]), progress=progress)
    table = predictions_table(predictions, predictor.spec.classes).drop(columns="image")
    others = [name for name in rows.columns if name not in _LEADING and name not in ("mask", "exclude")]
    return pd.concat([rows[list(_LEADING)], table, rows[others]], axis=1)
