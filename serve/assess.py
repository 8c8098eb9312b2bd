"""Uploaded bytes to what is shown of them, one request at a time, for the page and the API alike."""

from __future__ import annotations

import base64
import io
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from medsharp.images import read_image
from medsharp.inference import Prediction, Predictor, overlay

FAINT = 0.1
"""A heat map that nowhere reaches this looks like the image alone, and is said to show nothing."""


@dataclass(frozen=True)
class Assessment:
    """One image, what the model says of it, and pictures of both to show.

    Attributes:
        prediction: The model's answer; its `error` says why there is none.
        image: PNG data URI of the decoded image, or None.
        heatmap: PNG data URI of the image under the heat map, or None.
        size: Height and width in pixels of the image as uploaded, or None.
        evidence: Whether the heat map shows anything.
    """

    prediction: Prediction
    image: str | None = None
    heatmap: str | None = None
    size: tuple[int, int] | None = None
    evidence: bool = True


class Assessor:
    """Runs a predictor for many visitors.

    One request is worked on at a time: ONNX Runtime uses all cores for one, and memory stays bounded.

    Args:
        predictor: The loaded bundle.
        max_file_bytes: An image of more bytes is refused.
    """

    def __init__(self, predictor: Predictor, max_file_bytes: int) -> None:
        self.predictor = predictor
        self._limits = replace(predictor.limits, max_bytes=max_file_bytes)
        self._lock = threading.Lock()

    def assess(
        self,
        contents: Sequence[bytes],
        names: Sequence[str],
        *,
        image_side: int | None = None,
        heatmap_side: int | None = None,
    ) -> list[Assessment]:
        """Predict every image; one that cannot be read gets an error and does not stop the others.

        Args:
            contents: The bytes of each file.
            names: How each is called in its answer.
            image_side: Draw the image, at most this many pixels high and wide; None draws nothing.
            heatmap_side: The same for the heat map.
        """
        with self._lock:
            predictions = self.predictor.predict(contents, names=names, limits=self._limits)
            return [
                self._draw(content, prediction, image_side, heatmap_side)
                for content, prediction in zip(contents, predictions, strict=True)
            ]

    def _draw(
        self, content: bytes, prediction: Prediction, image_side: int | None, heatmap_side: int | None
    ) -> Assessment:
        if prediction.error is not None or (image_side is None and heatmap_side is None):
            return Assessment(prediction)
        pixels = read_image(
            content, name=prediction.name, limits=self._limits, frame=prediction.frame or "sharpest"
        ).pixels
        image = heatmap = None
        evidence = True
        if image_side is not None:
            image = png_uri(pixels, image_side)
        if heatmap_side is not None:
            relevance = prediction.heatmap()
            if relevance is not None:
                heatmap = png_uri(overlay(pixels, relevance), heatmap_side)
                evidence = bool(relevance.max() >= FAINT)
        return Assessment(prediction, image, heatmap, (pixels.shape[0], pixels.shape[1]), evidence)


def png_uri(pixels: np.ndarray, largest_side: int) -> str:
    """Encode an image as a data URI, so that it travels inside the answer and no file is written.

    Args:
        pixels: uint8 [H, W] or [H, W, 3].
        largest_side: It is made smaller to this height and width if it is larger.
    """
    picture = Image.fromarray(pixels)
    picture.thumbnail((largest_side, largest_side), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def is_missing(value: float) -> bool:
    """Say whether a probability is absent: an image that could not be read has NaN for it."""
    return math.isnan(value)
