"""Images of a manifest as the network takes them, and what the checks of the picture measure of them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

from medsharp.cores import usable_cores
from medsharp.data.lesion import BOX, lesion_box
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.export.checks import measured
from medsharp.images import ImageLimits
from medsharp.preprocess import PreprocessSpec, preprocess
from medsharp.progress import Progress

CALIBRATION_IMAGES = 64
"""Training images that the ranges of int8 activations are taken from; more widen them by outliers."""


def spread(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return so many of the rows, evenly spread over them: tables are in an order of classes or sites."""
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))]


def check_without_lesion(no_lesion: Manifest | None, classes: Sequence[str]) -> None:
    """Refuse images without a lesion that the model has a class for, before any image is read.

    Raises:
        InputError: It has: it answers such images itself, and none of them is unlike what it knows.
    """
    known = sorted(set() if no_lesion is None else set(no_lesion.included["label"]) & set(classes))
    if known:
        raise InputError(
            f"the model has the class '{known[0]}', and says itself where an image is of it; leave out --no-lesion"
        )


def load_inputs(
    rows: pd.DataFrame, manifest: Manifest, limits: ImageLimits, place: PreprocessSpec, progress: Progress | None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Read images as the network takes them.

    Args:
        rows: Of the manifest's table.
        manifest: Says where they are, and their masks where only the lesion is looked at.
        limits: What is refused before it is decoded.
        place: How an image becomes an input.
        progress: Called with images done, images in all and what is being done.

    Returns:
        The inputs, uint8 [rows, S, S], and what the checks of the picture measure, float [rows] each.

    Raises:
        InputError: An image is missing or cannot be read.
    """

    def load(row: dict[Hashable, Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        name = row["image"]
        image = manifest.read(row, limits)
        lesion = None
        if place.crop == "lesion":
            lesion = lesion_box(name, row.get(BOX, ""), manifest.masks(row), image, limits)
        return preprocess(image.pixels, place, lesion=lesion, coloured=image.coloured), measured([image])

    loaded, values = [], []
    with ThreadPoolExecutor(usable_cores()) as pool:
        for image, value in pool.map(load, rows.to_dict("records")):
            loaded.append(image)
            values.append(value)
            if progress is not None:
                progress(len(loaded), len(rows), "reading internal images")
    inputs = np.stack(loaded) if loaded else np.zeros((0, place.size, place.size), dtype=np.uint8)
    return inputs, {key: np.concatenate([value[key] for value in [measured([]), *values]]) for key in measured([])}
