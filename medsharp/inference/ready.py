"""Images predicted when they are first decoded, as the check for duplicates does: meanwhile the next are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from medsharp.data.lesion import BOX, lesion_box
from medsharp.data.manifest import Manifest, frame_of, name_of
from medsharp.errors import InputError
from medsharp.images import DecodedImage
from medsharp.inference.prediction import Prediction
from medsharp.inference.predictor import Predictor
from medsharp.inference.reading import Prepared, Reading

MOST_BYTES = 512 * 2**20
"""Of pixels that wait for the network; an image that comes when they are used up is decoded again."""

_Key = tuple[Path, Any]


class ReadyImages:
    """Predictions by file and frame.

    Args:
        predictor: Whose they are.
        most_bytes: Of pixels that wait.
    """

    def __init__(self, predictor: Predictor, most_bytes: int = MOST_BYTES) -> None:
        self._predictor = predictor
        self._lock = Lock()  # images are decoded several at once
        self._left = most_bytes
        self._waiting: dict[_Key, Prepared] = {}
        self._predicted: dict[_Key, Prediction] = {}

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
                self._waiting[_key(manifest, row)] = prepared

    def predict(self, manifest: Manifest, rows: Sequence[Any]) -> None:
        """Predict those of a manifest's rows that were kept, in one batch, others being decoded meanwhile."""
        with self._lock:
            batch = {
                key: (name_of(row), self._waiting.pop(key))
                for key, row in ((_key(manifest, row), row) for row in rows)
                if key in self._waiting
            }
            self._left += sum(prepared.pixels.nbytes for _, prepared in batch.values())
        readings = [Reading(name, name, prepared=prepared) for name, prepared in batch.values()]
        self._predicted |= zip(batch, self._predictor.predict_readings(readings), strict=True)

    def take(self, manifest: Manifest, row: Any, prediction: Prediction) -> None:
        """Take the prediction of a manifest's row that was made elsewhere, in a batch as `predict` makes it."""
        self._predicted[_key(manifest, row)] = prediction

    def of(self, manifest: Manifest, row: Any) -> Prediction | None:
        """Return the prediction of a manifest's row, if it was kept and predicted."""
        return self._predicted.get(_key(manifest, row))


def _key(manifest: Manifest, row: Any) -> _Key:
    return manifest.path(row["image"]), frame_of(row)
