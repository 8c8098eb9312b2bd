"""Predictions as a table: what is written to predictions.csv and scored."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from medsharp.bundle import BundleSpec, digest_of
from medsharp.bundle.prediction_sets import PREDICTION_SET, written_set
from medsharp.data.lesion import BOX, lesion_box
from medsharp.data.manifest import Manifest, frame_of, name_of
from medsharp.errors import InputError
from medsharp.evaluation.findings import CHECKS, REASONS, REFUSED, STATUS, fate_of
from medsharp.evaluation.frozen import MARGIN, SIDE, threshold_columns
from medsharp.images import DecodedImage
from medsharp.images.box import Box
from medsharp.inference import lesion_share
from medsharp.inference.prediction import Prediction
from medsharp.inference.predictor import Predictor
from medsharp.inference.reading import Frames
from medsharp.inference.ready import ReadyImages
from medsharp.progress import Progress

BLOCK = 512
"""Rows that are predicted together: a batch is of one block, whichever blocks a process makes."""

_LEADING = ("image", "patient", "site", "label")


def predictions_table(predictions: Sequence[Prediction], classes: Sequence[str] | None = None) -> pd.DataFrame:
    """Lay predictions out: one row each.

    Columns: image, p_<class>..., threshold_side, threshold_margin, prediction_set, status, reasons,
    checks, flags, error.

    Args:
        predictions: As `Predictor.predict` gives them.
        classes: The columns; those of the first prediction without an error by default.
    """
    if classes is None:
        classes = next((list(p.probabilities) for p in predictions if p.probabilities), [])
    return pd.DataFrame(
        {
            "image": [p.name for p in predictions],
            **{f"p_{name}": [p.probabilities.get(name, math.nan) for p in predictions] for name in classes},
            SIDE: [p.side or "" for p in predictions],
            MARGIN: [p.margin for p in predictions],
            PREDICTION_SET: [written_set(p.prediction_set) for p in predictions],
            STATUS: [p.status for p in predictions],
            REASONS: ["; ".join(p.reasons) for p in predictions],
            CHECKS: ["; ".join(p.checks) for p in predictions],
            "flags": ["; ".join(p.flags) for p in predictions],
            "error": [p.error or "" for p in predictions],
        }
    )


def without_refused_answers(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table in which what a check refused has no number, as the served model gives none.

    Args:
        table: As `predict_manifest` gives it with `answer_anyway`.
    """
    refused = fate_of(table) == REFUSED
    table = table.copy()
    for name in map(str, table.columns):
        if name.startswith("p_") or name == MARGIN:
            table.loc[refused, name] = math.nan
    table.loc[refused, [name for name in (SIDE, PREDICTION_SET) if name in table]] = ""
    return table


def frozen_columns(spec: BundleSpec) -> dict[str, str | float]:
    """Return what every row of a bundle's predictions carries: its threshold, of which class, and from which bundle."""
    origin = f"frozen in the bundle {spec.name} ({digest_of(spec)[:12]})"
    return threshold_columns(spec.operating_point.threshold, spec.positive, origin)


def predict_manifest(
    predictor: Predictor,
    manifest: Manifest,
    *,
    frames: Frames = "sharpest",
    ready: ReadyImages | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Predict the images of a manifest that nothing excludes.

    Args:
        predictor: The loaded bundle.
        manifest: The images, with masks or boxes where the bundle crops to the lesion.
        frames: Of DICOM clips of which the manifest names no frame: the sharpest, the one of a number, or `all`, which
            gives a row for each.
        ready: Images that were predicted before, by this very predictor, for `frames` of `sharpest`.
        progress: Called with images done, images in all and what is being done.

    Returns:
        A row an image, in the manifest's order: image, patient, site, label, p_<class>..., threshold_side (`above` or
        `below`), threshold_margin (the distance in log odds), prediction_set (the classes that cannot be ruled out),
        status, reasons, checks, flags, error, threshold, threshold_class, threshold_from, and the manifest's other
        columns, under `manifest_<name>` where a prediction has one of that name; with masks also `lesion_area`, the
        share of the image that they cover.

    Raises:
        InputError: The manifest excludes every image.
    """
    rows = included_rows(manifest)
    tables = []
    for start in range(0, len(rows), BLOCK):
        part = rows.iloc[start : start + BLOCK].reset_index(drop=True)

        def report(done: int, _: int, what: str, before: int = start) -> None:
            if progress is not None:
                progress(before + done, len(rows), what)

        tables.append(predict_rows(predictor, manifest, part, frames=frames, ready=ready, progress=report))
    return pd.concat(tables, ignore_index=True)


def included_rows(manifest: Manifest) -> pd.DataFrame:
    """Return the rows that nothing excludes, with an empty `lesion_area` where their masks are to tell it.

    Raises:
        InputError: There is none.
    """
    rows = manifest.included.reset_index(drop=True)
    if rows.empty:
        raise InputError(f"{manifest.info.name} has no image that is not excluded")
    if lesion_share.COLUMN not in rows and (rows["mask"] != "").any():
        rows[lesion_share.COLUMN] = math.nan
    return rows


def predict_rows(
    predictor: Predictor,
    manifest: Manifest,
    rows: pd.DataFrame,
    *,
    frames: Frames = "sharpest",
    ready: ReadyImages | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Predict some rows of a manifest, as `predict_manifest` does all of them.

    Args:
        predictor: The loaded bundle.
        manifest: Whose rows they are.
        rows: Some of `included_rows`, index 0, 1, 2, ...
        frames: As for `predict_manifest`.
        ready: As for `predict_manifest`.
        progress: As for `predict_manifest`.
    """
    rows = rows.copy()
    records = rows.to_dict("records")
    names = [name_of(row) for row in records]
    numbers = {name: number for number, name in enumerate(names)}
    early = [] if ready is None else [one for row in records if (one := ready.of(manifest, row)) is not None]
    left = sorted(set(numbers.values()) - {numbers[one.source] for one in early})

    def lesion(place: int, name: str, image: DecodedImage) -> Box:
        row = records[left[place]]
        return lesion_box(name, row.get(BOX, ""), manifest.masks(row), image, predictor.limits)

    late = predictor.predict(
        [manifest.path(records[number]["image"]) for number in left],
        names=[names[number] for number in left],
        frames=[frame_of(records[number]) if records[number].get("frame") else frames for number in left],
        lesion=lesion,
        value_ranges=[manifest.range_of(records[number]) for number in left],
        progress=progress,
    )
    predictions = sorted([*early, *late], key=lambda one: numbers[one.source])
    if lesion_share.COLUMN in rows and lesion_share.COLUMN not in manifest.table:
        shares = lesion_share.lesion_shares([manifest.masks(row) for row in records], predictor.limits)
        rows[lesion_share.COLUMN] = np.array(shares, dtype=float)
    rows = rows.loc[[numbers[prediction.source] for prediction in predictions]].reset_index(drop=True)
    return with_rows(rows, predictions, predictor.spec)


def with_rows(rows: pd.DataFrame, predictions: Sequence[Prediction], spec: BundleSpec) -> pd.DataFrame:
    """Lay predictions out beside the rows of a manifest that they are of, as `predict_manifest` does.

    Args:
        rows: A manifest's, index 0, 1, 2, ...
        predictions: One for each row, in the same order.
        spec: Of the bundle that predicted.
    """
    table = predictions_table(predictions, spec.classes).drop(columns="image").assign(**frozen_columns(spec))
    rows = rows.assign(image=[prediction.name for prediction in predictions])
    others = [name for name in rows.columns if name not in _LEADING and name not in ("mask", "exclude")]
    # An audit leaves flags of its own, which are not those of the reading.
    further = rows[others].rename(columns={name: f"manifest_{name}" for name in others if name in table})
    return pd.concat([rows[list(_LEADING)], table, further], axis=1)
