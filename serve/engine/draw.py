"""What is said of an image and drawn of it, at the size at which it is shown."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from medsharp.images import Box
from medsharp.inference import Prediction, overlay
from medsharp.inference.heatmap import FAINT


@dataclass(frozen=True)
class Assessment:
    """One image, what the model says of it, and pictures of both to show.

    Attributes:
        prediction: The model's answer; its `error` says why there is none.
        image: PNG data URI of what was looked at, or None.
        heatmap: PNG data URI of the same under the heat map, or None.
        size: Height and width in pixels of the image as uploaded, or None.
        evidence: Whether the heat map shows anything; None where none was drawn.
        box: The part of the image that was looked at, in its pixels; None where that is all of it.
        is_fault: Whether there is no answer for a fault of the server, not of the image.
    """

    prediction: Prediction
    image: str | None = None
    heatmap: str | None = None
    size: tuple[int, int] | None = None
    evidence: bool | None = None
    box: Box | None = None
    is_fault: bool = False


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


def heatmap_uri(prediction: Prediction, picture: np.ndarray, side: int) -> tuple[str | None, bool | None]:
    """Draw an image under its heat map.

    Args:
        prediction: Of the image.
        picture: uint8 [h, w], the image at that size.
        side: Its longest side at most.

    Returns:
        A PNG data URI, and whether it shows anything; None for both without a number.
    """
    relevance = prediction.heatmap(side)
    if relevance is None:
        return None, None
    return png_uri(overlay(picture, relevance)), bool(np.abs(relevance).max() >= FAINT)
