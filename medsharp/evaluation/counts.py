"""Who is in the figures, and who is not and why: the flow of images and patients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from medsharp.evaluation.headings import GROUPS
from medsharp.evaluation.predictions import Predictions, patients_of, text_of


def counts_of(
    predictions: Predictions,
    clusters: np.ndarray,
    *,
    classes: Sequence[str],
    positive: str,
    excluded: dict[str, int],
    submitted_patients: int | None = None,
) -> dict[str, Any]:
    """Count images and patients by label, site, device and BI-RADS, and what was left out by reason.

    Args:
        predictions: The checked table.
        clusters: What is resampled together [N].
        classes: In the order of the columns.
        positive: The class of interest.
        excluded: Images left out before prediction, by reason.
        submitted_patients: Patients before any image was left out, where they are known.
    """
    rows = predictions.rows
    labels = text_of(rows, "label")
    patients = patients_of(rows)
    known = patients != ""
    reasons = Counter(excluded) + Counter(predictions.excluded)
    return {
        "submitted": len(rows) + len(predictions.refused) + predictions.failed + sum(reasons.values()),
        "submitted_patients": submitted_patients,
        "excluded": dict(reasons.most_common()),
        "failed": predictions.failed,
        "refused": len(predictions.refused),
        "images": len(rows),
        "patients": int(patients[known].nunique()) if known.any() else None,
        "patients_known": bool(known.all()),
        "images_without_patient": int((~known).sum()),
        "clusters": int(clusters.max()) + 1,
        "positives": int((labels == positive).sum()),
        "labels": {name: int((labels == name).sum()) for name in classes},
        "clusters_by_label": {name: len(np.unique(clusters[(labels == name).to_numpy()])) for name in classes},
        "clusters_of_several_labels": int((labels.groupby(clusters).nunique() > 1).sum()),
        "by": {column: _by(text_of(rows, column)) for column in GROUPS if (text_of(rows, column) != "").any()},
        "flags": flags_in(text_of(rows, "flags")),
    }


def patients_before(table: pd.DataFrame) -> int | None:
    """Count the patients of a table, with those whose images are left out; None where an image has none."""
    patients = patients_of(table)
    return int(patients.nunique()) if len(patients) and (patients != "").all() else None


def confusion_of(rows: pd.DataFrame, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count images by label and by most probable class."""
    shares = rows[[f"p_{name}" for name in classes]].to_numpy(dtype=float)
    chosen = np.array(list(classes), dtype=object)[shares.argmax(axis=1)]
    return {
        label: {other: int(((rows["label"] == label) & (chosen == other)).sum()) for other in classes}
        for label in classes
    }


def _by(names: pd.Series) -> dict[str, int]:
    return {str(name): int(count) for name, count in names.where(names != "", "not recorded").value_counts().items()}


def flags_in(flags: pd.Series) -> dict[str, int]:
    """Count flags, several of which stand in a cell with semicolons between."""
    parts = flags[flags != ""].str.split(";").explode().str.strip()
    return {str(flag): int(count) for flag, count in parts[parts != ""].value_counts().items()}
