"""Uploaded bytes to what the network takes and what is drawn later; the full pixels of a large image go no further."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from medsharp.errors import InputError
from medsharp.images import Box, DecodedImage, ImageLimits
from medsharp.inference import Predictor
from medsharp.inference.heatmap import shrink
from medsharp.inference.reading import Reading, read_source


@dataclass(frozen=True)
class ReadOptions:
    """What of an upload is looked at.

    Attributes:
        frame: Of a DICOM clip, counted from 1; None takes the sharpest.
        box: The part of the image that is looked at, in pixels of the image as it is decoded; None takes all of it.
    """

    frame: int | None = None
    box: Box | None = None


@dataclass(frozen=True)
class Decoded:
    """An image that was decoded and made ready, or why it was not.

    Attributes:
        reading: Without pixels.
        size: Height and width of the image, all of it; None where it could not be decoded.
        pictures: What was looked at, uint8 [h, w], by the longest side at which it is shown.
        seconds: Wall time.
    """

    reading: Reading
    size: tuple[int, int] | None = None
    pictures: dict[int, np.ndarray] = field(default_factory=dict)
    seconds: float = 0.0


def decode(
    content: bytes,
    name: str,
    predictor: Predictor,
    limits: ImageLimits,
    options: ReadOptions,
    sides: Iterable[int],
    wanted: Callable[[], bool] = lambda: True,
) -> Decoded:
    """Decode an image and make it ready for the network.

    Args:
        content: The file.
        name: What to call it.
        predictor: Whose preprocessing and checks are used.
        limits: What is refused.
        options: What of it is looked at.
        sides: Longest sides at which it is shown.
        wanted: Asked before each frame of a clip whether anybody still waits.
    """
    start = time.perf_counter()
    (reading,) = read_source(
        (0, content, name),
        limits=limits,
        frames="sharpest" if options.frame is None else options.frame,
        lesion=None,
        value_range=predictor.value_range,
        wanted=wanted,
    )
    image = reading.image
    if image is None:
        return Decoded(reading, seconds=time.perf_counter() - start)
    height, width = image.pixels.shape
    try:
        if options.box is not None:
            image = _part(image, options.box, name, limits)
        prepared = predictor.prepare(image)
    except InputError as error:
        reading = Reading(reading.name, reading.source, error=str(error))
        return Decoded(reading, (height, width), seconds=time.perf_counter() - start)
    pictures = {side: shrink(image.pixels, side) for side in set(sides)}
    seconds = time.perf_counter() - start
    reading = replace(reading, image=None, prepared=prepared, seconds=seconds)
    return Decoded(reading, (height, width), pictures, seconds)


def _part(image: DecodedImage, box: Box, name: str, limits: ImageLimits) -> DecodedImage:
    """Return the part of an image inside a box.

    Raises:
        InputError: The box reaches beyond the image, or too little is left.
    """
    height, width = image.pixels.shape
    if not (0 <= box.top < box.bottom <= height and 0 <= box.left < box.right <= width):
        raise InputError(
            f"{name} is {width} x {height} pixels; the box from {box.left}, {box.top} to {box.right}, {box.bottom} "
            "(left, top, right, bottom) does not lie in it"
        )
    limits.check_size(box.width, box.height, f"the box in {name}")
    return image.part(box)
