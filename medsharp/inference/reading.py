"""What a predictor reads: one image of a source, one frame of a clip, or every frame, or why it cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from medsharp.errors import InputError
from medsharp.images import DecodedImage, Frame, ImageLimits, ValueRange, read_frames, read_image
from medsharp.images.box import Box
from medsharp.preprocess import Placement

Source = Path | str | bytes

Frames = Frame | Literal["all"]

FindLesion = Callable[[int, str, DecodedImage], Box]
"""Gives the box of the lesion of source number n, its name and its image; an InputError where there is none."""


@dataclass(frozen=True)
class Prepared:
    """An image as a network takes it, and what is told of it afterwards.

    Attributes:
        pixels: uint8 [S, S].
        shape: Height and width of the image as it was decoded.
        where: Where it lies in `pixels`, for a heat map.
        flags: What decoding did.
        frame: Of a clip.
    """

    pixels: np.ndarray
    shape: tuple[int, int]
    where: Placement
    flags: tuple[str, ...] = ()
    frame: int | None = None


@dataclass(frozen=True)
class Reading:
    """An image that was read, or why it was not.

    Attributes:
        name: Of the source; with `#12` for a frame that was asked for.
        source: The name without a frame.
        image: None where there is an error.
        lesion: Its box, where the bundle crops to it.
        error: One sentence.
        prepared: The same image made ready for the network, where that was done already; it needs no `image` then.
    """

    name: str
    source: str = ""
    image: DecodedImage | None = None
    lesion: Box | None = None
    error: str | None = None
    prepared: Prepared | None = None


def read_source(
    source: tuple[int, Source, str],
    *,
    limits: ImageLimits,
    frames: Frames,
    lesion: FindLesion | None,
    value_range: ValueRange | None = None,
) -> Iterator[Reading]:
    """Read a source; what is wrong with it, or with a frame of it, becomes a reading too.

    Args:
        source: Its number, the file or its bytes, and its name.
        limits: What is refused.
        frames: Which of a clip; a name that ends in `#` and the frame's number stays as it is.
        lesion: Finds the lesion, where it is needed.
        value_range: What is black and white in values of more than 8 bits.
    """
    number, given, name = source
    try:
        if frames == "all":
            images = read_frames(given, name=name, limits=limits, value_range=value_range)
        else:
            image = read_image(given, name=name, limits=limits, frame=frames, value_range=value_range)
            images = iter([image])
        for image in images:
            plain = frames == "sharpest" or image.frame is None or name.endswith(f"#{image.frame}")
            called = name if plain else f"{name}#{image.frame}"
            yield Reading(called, name, image, None if lesion is None else lesion(number, name, image))
    except InputError as error:
        yield Reading(name, name, error=str(error))
