"""Images as a network takes them, kept from when they were first decoded: the check for duplicates decodes them all."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

from medsharp.data.lesion import BOX, lesion_box
from medsharp.data.manifest import Manifest, frame_of, name_of
from medsharp.errors import InputError
from medsharp.images import DecodedImage
from medsharp.inference.predictor import Predictor
from medsharp.inference.reading import Prepared

MOST_BYTES = 512 * 2**20
"""Of pixels that are kept; further images are decoded again. Some 14,000 images of 192 x 192 pixels."""


class ReadyImages:
    """Network inputs by file and frame.

    Args:
        predictor: Whose inputs they are.
        most_bytes: Of pixels. What follows once they are used up is not kept.
    """

    def __init__(self, predictor: Predictor, most_bytes: int = MOST_BYTES) -> None:
        self._predictor = predictor
        self._lock = Lock()  # images are decoded several at once
        self._left = most_bytes
        self._kept: dict[tuple[Path, Any], Prepared] = {}

    def keep(self, manifest: Manifest, row: Any, image: DecodedImage) -> None:
        """Keep the image of a manifest's row, unless its lesion is not known: that is told when it is predicted."""
        if self._left < self._predictor.preprocessing.size**2:  # uint8 [S, S]
            return
        lesion = None
        if self._predictor.preprocessing.crop == "lesion":
            try:
                limits = self._predictor.limits
                lesion = lesion_box(name_of(row), row.get(BOX, ""), manifest.masks(row), image, limits)
            except InputError:
                return
        prepared = self._predictor.prepare(image, lesion)
        with self._lock:
            if prepared.pixels.nbytes <= self._left:
                self._left -= prepared.pixels.nbytes
                self._kept[manifest.path(row["image"]), frame_of(row)] = prepared

    def of(self, manifest: Manifest, row: Any) -> Prepared | None:
        """Return the image of a manifest's row, if it was kept."""
        return self._kept.get((manifest.path(row["image"]), frame_of(row)))
