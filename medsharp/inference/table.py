"""Predictions as a table: what is written to predictions.csv and scored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from medsharp.bundle import BundleSpec, digest_of
from medsharp.bundle.prediction_sets import PREDICTION_SET, written_set
from medsharp.data.lesion import BOX, lesion_box
from medsharp.data.manifest import Manifest, frame_of, name_of
from medsharp.errors import InputError
from medsharp.evaluation.findings import CHECKS, REASONS, REFUSED, STATUS, fate_of
from medsharp.evaluation.frozen import MARGIN, SIDE, threshold_columns
from medsharp.images import DecodedImage, ImageLimits
from medsharp.images.box import Box
from medsharp.inference import lesion_share
from medsharp.inference.prediction import Prediction
from medsharp.inference.predictor import Predictor
from medsharp.inference.reading import Frames, Given
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
    images, tables, before = IncludedImages(manifest), [], 0
    for block in images.blocks():

        def report(done: int, _: int, what: str, before: int = before) -> None:
            if progress is not None:
                progress(before + done, len(images), what)

        tables.append(
            predict_block(predictor, block, shares=images.want_shares, frames=frames, ready=ready, progress=report)
        )
        before += len(block.table)
    return pd.concat(tables, ignore_index=True)


class IncludedImages:
    """The images of a manifest that nothing excludes, in blocks that are predicted together.

    Args:
        manifest: All of them.

    Attributes:
        manifest: Of those that are included.
        size: Images of a block; the last may have fewer.
        want_shares: Whether masks are to tell how large lesions are, as nothing else does.
        count: Of blocks.

    Raises:
        InputError: There is none.
    """

    def __init__(self, manifest: Manifest) -> None:
        rows = manifest.included
        if rows.empty:
            raise InputError(f"{manifest.info.name} has no image that is not excluded")
        lines = tuple(manifest.line(row) for row in rows.index)
        self.manifest = replace(manifest, table=rows.reset_index(drop=True), lines=lines)
        self.want_shares = lesion_share.COLUMN not in rows and bool((rows["mask"] != "").any())
        self.size = BLOCK
        self.count = -(-len(rows) // self.size)

    def __len__(self) -> int:
        return len(self.manifest.table)

    def block(self, number: int) -> Manifest:
        """Return the manifest of a block's images, by its number from 0."""
        return part_of(self.manifest, number * self.size, (number + 1) * self.size)

    def blocks(self) -> Iterator[Manifest]:
        """Give the manifest of each block."""
        return map(self.block, range(self.count))


def predict_block(
    predictor: Predictor,
    block: Manifest,
    *,
    shares: bool,
    frames: Frames = "sharpest",
    ready: ReadyImages | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Predict the images of a block, as `predict_manifest` does all of them.

    Args:
        predictor: The loaded bundle.
        block: Of `IncludedImages`.
        shares: Whether its masks tell how large lesions are.
        frames: As for `predict_manifest`.
        ready: As for `predict_manifest`.
        progress: As for `predict_manifest`.
    """
    records = block.table.to_dict("records")
    early = [] if ready is None else [one for row in records if (one := ready.of(block, row)) is not None]
    done = {one.source for one in early}
    left_over = [row for row in records if name_of(row) not in done]
    unread = {row["image"] for row in records} - {row["image"] for row in left_over}
    with block.at_hand(without=unread) as here:
        source = RowSource.of(here, frames, predictor.limits)
        left = replace(source, records=left_over)
        late = predictor.predict_given(left.given(), lesion=left.lesion, progress=progress)
        covered = source.shares() if shares else None
    return laid_out(block.table, [*early, *late], predictor.spec, covered)


@dataclass(frozen=True)
class RowSource:
    """Rows of a manifest as sources of images.

    Attributes:
        manifest: Whose rows they are; its images are files.
        records: The rows.
        frames: Of DICOM clips of which a row names no frame.
        limits: Of mask files.
    """

    manifest: Manifest
    records: Sequence[dict[Any, Any]]
    frames: Frames
    limits: ImageLimits

    @classmethod
    def of(cls, manifest: Manifest, frames: Frames, limits: ImageLimits) -> RowSource:
        """Return all rows of a manifest."""
        return cls(manifest, manifest.table.to_dict("records"), frames, limits)

    def given(self) -> list[Given]:
        """Return what a predictor is given of each."""
        return [
            Given(
                self.manifest.path(row["image"]),
                name_of(row),
                frame_of(row) if row.get("frame") else self.frames,
                self.manifest.range_of(row),
            )
            for row in self.records
        ]

    def lesion(self, place: int, name: str, image: DecodedImage) -> Box:
        """Return the box of the lesion of a row, by its place."""
        row = self.records[place]
        try:
            return lesion_box(name, row.get(BOX, ""), self.manifest.masks(row), image, self.limits)
        except InputError as error:
            raise InputError(self.manifest.as_stored(str(error))) from error

    def shares(self) -> list[float | None]:
        """Return the share of each image that its masks cover."""
        return lesion_share.lesion_shares([self.manifest.masks(row) for row in self.records], self.limits)


def part_of(manifest: Manifest, start: int, stop: int) -> Manifest:
    """Return the manifest of some of a manifest's rows, each known by its line in the file."""
    return replace(
        manifest, table=manifest.table.iloc[start:stop].reset_index(drop=True), lines=manifest.lines[start:stop]
    )


def laid_out(
    rows: pd.DataFrame, predictions: Sequence[Prediction], spec: BundleSpec, shares: Sequence[float | None] | None
) -> pd.DataFrame:
    """Lay predictions out in the order of the rows that they are of.

    Args:
        rows: A manifest's, index 0, 1, 2, ...
        predictions: Of them, several for a clip, those of a row in the order of its frames.
        spec: Of the bundle that predicted.
        shares: Of each row's image that its masks cover, where that is wanted.
    """
    numbers = {name_of(row): number for number, row in enumerate(rows.to_dict("records"))}
    predictions = sorted(predictions, key=lambda one: numbers[one.source])
    if shares is not None:
        rows = rows.assign(**{lesion_share.COLUMN: np.array(shares, dtype=float)})
    rows = rows.loc[[numbers[one.source] for one in predictions]].reset_index(drop=True)
    return with_rows(rows, predictions, spec)


def with_rows(rows: pd.DataFrame, predictions: Sequence[Prediction], spec: BundleSpec) -> pd.DataFrame:
    """Lay predictions out beside the rows of a manifest that they are of, as `predict_manifest` does.

    Args:
        rows: A manifest's, index 0, 1, 2, ...
        predictions: One for each row, in the same order.
        spec: Of the bundle that predicted.
    """
    table = predictions_table(predictions, spec.classes).assign(**frozen_columns(spec))
    return _beside(rows.assign(image=table["image"]), table.drop(columns="image"))


def columns_of(rows: pd.DataFrame, classes: Sequence[str], *, shares: bool) -> list[str]:
    """Return the columns of what `laid_out` makes.

    Args:
        rows: A manifest's.
        classes: Of the bundle.
        shares: Whether masks tell how large lesions are.
    """
    table = predictions_table([], classes).drop(columns="image").assign(**threshold_columns(None, "", ""))
    rows = rows.iloc[:0].assign(**{lesion_share.COLUMN: 0.0} if shares else {})
    return [str(name) for name in _beside(rows, table)]


def _beside(rows: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    others = [name for name in rows.columns if name not in _LEADING and name not in ("mask", "exclude")]
    # An audit leaves flags of its own, which are not those of the reading.
    further = rows[others].rename(columns={name: f"manifest_{name}" for name in others if name in table})
    return pd.concat([rows[list(_LEADING)], table, further], axis=1)
