"""Uploaded bytes to what is shown of them, for the page and the API alike."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from medsharp.inference import Prediction, Predictor, overlay
from medsharp.inference.heatmap import FAINT, shrink
from medsharp.inference.reading import Reading, read_source


@dataclass(frozen=True)
class Assessment:
    """One image, what the model says of it, and pictures of both to show.

    Attributes:
        prediction: The model's answer; its `error` says why there is none.
        image: PNG data URI of the decoded image, or None.
        heatmap: PNG data URI of the image under the heat map, or None.
        size: Height and width in pixels of the image as uploaded, or None.
        evidence: Whether the heat map shows anything; None where none was drawn.
    """

    prediction: Prediction
    image: str | None = None
    heatmap: str | None = None
    size: tuple[int, int] | None = None
    evidence: bool | None = None


class Assessor:
    """Reads, predicts and draws images with one predictor.

    Images are worked on one after another, each decoded once and drawn no larger than it is shown, so that a request
    needs little more memory than its largest image.

    Args:
        predictor: The loaded bundle.
        max_file_bytes: An image of more bytes is refused.
    """

    def __init__(self, predictor: Predictor, max_file_bytes: int) -> None:
        self.predictor = predictor
        self._limits = replace(predictor.limits, max_bytes=max_file_bytes)

    def assess(
        self,
        contents: Sequence[bytes],
        names: Sequence[str],
        *,
        image_side: int | None = None,
        heatmap_side: int | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> list[Assessment]:
        """Predict every image; one that cannot be read gets an error and does not stop the others.

        Args:
            contents: The bytes of each file.
            names: How each is called in its answer.
            image_side: Draw the image, at most this many pixels high and wide; None draws nothing.
            heatmap_side: The same for the heat map.
            wanted: Asked before each image; the rest is left out when nobody waits for the answer any longer.
        """
        assessments = []
        for number, (content, name) in enumerate(zip(contents, names, strict=True)):
            if not wanted():
                break
            source = (number, content, name)
            (reading,) = read_source(
                source,
                limits=self._limits,
                frames="sharpest",
                lesion=None,
                value_range=self.predictor.value_range,
            )
            (prediction,) = self.predictor.predict_readings([reading])
            assessments.append(_draw(reading, prediction, image_side, heatmap_side))
        return assessments


def _draw(reading: Reading, prediction: Prediction, image_side: int | None, heatmap_side: int | None) -> Assessment:
    if reading.image is None:
        return Assessment(prediction)
    pixels = reading.image.pixels
    height, width = pixels.shape
    image = None if image_side is None else png_uri(shrink(pixels, image_side))
    relevance = None if heatmap_side is None else prediction.heatmap(heatmap_side)
    if heatmap_side is None or relevance is None:
        return Assessment(prediction, image, None, (height, width))
    heatmap = png_uri(overlay(shrink(pixels, heatmap_side), relevance))
    return Assessment(prediction, image, heatmap, (height, width), bool(np.abs(relevance).max() >= FAINT))


def png_uri(pixels: np.ndarray) -> str:
    """Encode an image as a data URI, so that it travels inside the answer and no file is written.

    Args:
        pixels: uint8 [H, W] or [H, W, 3].
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def is_missing(value: float) -> bool:
    """Say whether a probability is absent: an image that could not be read has NaN for it."""
    return math.isnan(value)
