"""What a predictor reads: one image of a source, one frame of a clip, or every frame, or why it cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np
from PIL import Image

from medsharp.errors import InputError
from medsharp.files import is_utf8, not_utf8, readable
from medsharp.images import DecodedImage, Frame, ImageLimits, Source, read_frames, read_image
from medsharp.images.box import Box
from medsharp.images.in_memory import is_dataset
from medsharp.images.values import declared_range
from medsharp.inference.checks.finding import Finding
from medsharp.inference.heatmap import shrink
from medsharp.preprocess import Placement

Frames = Frame | Literal["all"]

FindLesion = Callable[[int, str, DecodedImage], Box]
"""Gives the box of the lesion of source number n, its name and its image; an InputError where there is none."""


@dataclass(frozen=True)
class Given:
    """A source, and what is known of it.

    Attributes:
        source: A file, its bytes, or an image in memory.
        name: How it is called; the path, or `image 1`, where it is empty.
        frames: Of a DICOM clip; None leaves that to what is said of all sources.
        value_range: What is black and white in values of more than 8 bits, where it is known.
    """

    source: Source
    name: str = ""
    frames: Frames | None = None
    value_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Prepared:
    """An image as a network takes it, and what is told of it afterwards.

    Attributes:
        pixels: uint8 [S, S].
        shape: Height and width of the image as it was decoded.
        where: Where it lies in `pixels`, for a heat map.
        flags: What decoding did.
        frame: Of a clip.
        findings: Of the checks of the picture.
    """

    pixels: np.ndarray
    shape: tuple[int, int]
    where: Placement
    flags: tuple[str, ...] = ()
    frame: int | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether a check of the picture refuses it, so that the network need not be asked."""
        return any(finding.outcome == "refusal" for finding in self.findings)


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
        seconds: Wall time of reading it and making it ready.
        picture: The image no larger than it is shown, uint8 [h, w], where that was asked for.
    """

    name: str
    source: str = ""
    image: DecodedImage | None = None
    lesion: Box | None = None
    error: str | None = None
    prepared: Prepared | None = None
    seconds: float = 0.0
    picture: np.ndarray | None = None


def read_source(
    source: tuple[int, Source, str],
    *,
    limits: ImageLimits,
    frames: Frames,
    lesion: FindLesion | None,
    value_range: tuple[float, float] | None = None,
    wanted: Callable[[], bool] = lambda: True,
) -> Iterator[Reading]:
    """Read a source; what is wrong with it, or with a frame of it, becomes a reading too.

    Args:
        source: Its number, the file or its bytes, and its name.
        limits: What is refused.
        frames: Which of a clip; a name that ends in `#` and the frame's number stays as it is.
        lesion: Finds the lesion, where it is needed.
        value_range: What is black and white in values of more than 8 bits.
        wanted: Asked before each frame of a clip whether anybody still waits.
    """
    number, given, name = source
    try:
        if frames == "all":
            images = read_frames(given, name=name, limits=limits, value_range=value_range)
        else:
            image = read_image(given, name=name, limits=limits, frame=frames, value_range=value_range, wanted=wanted)
            images = iter([image])
        for image in images:
            plain = frames == "sharpest" or image.frame is None or name.endswith(f"#{image.frame}")
            called = name if plain else f"{name}#{image.frame}"
            yield Reading(called, name, image, None if lesion is None else lesion(number, name, image))
    except InputError as error:
        yield Reading(name, name, error=str(error))


def read_given(number: int, given: Given, *, limits: ImageLimits, lesion: FindLesion | None) -> Iterator[Reading]:
    """Read a source with what is known of it, as `read_source` does.

    Args:
        number: Of the source, from 0.
        given: With `frames`.
        limits: What is refused.
        lesion: Finds the lesion, where it is needed.
    """
    name = given.name or _name_of(given.source, number)
    if not is_utf8(name):  # no table or page could hold the row
        shown = readable(name)
        return iter([Reading(shown, shown, error=not_utf8(name, "file"))])
    source, frames = (number, given.source, name), "sharpest" if given.frames is None else given.frames
    return read_source(source, limits=limits, frames=frames, lesion=lesion, value_range=given.value_range)


def _name_of(source: Source, number: int) -> str:
    return str(source) if isinstance(source, (str, Path)) else f"image {number + 1}"


def prepared_readings(
    readings: Iterator[Reading], prepare: Callable[[DecodedImage, Box | None], Prepared], picture_side: int | None
) -> Iterator[Reading]:
    """Make readings ready for the network and let go of their pixels, but for a picture to show.

    Args:
        readings: Of one source.
        prepare: Makes an image ready, given its lesion.
        picture_side: Longest side of the picture that is kept, in pixels; None keeps none.
    """
    while True:
        start = perf_counter()
        one = next(readings, None)
        if one is None:
            return
        if one.image is not None:
            picture = None if picture_side is None else shrink(one.image.pixels, picture_side)
            try:
                one = replace(one, image=None, prepared=prepare(one.image, one.lesion), picture=picture)
            except InputError as error:
                one = Reading(one.name, one.source, error=str(error))
        yield replace(one, seconds=perf_counter() - start)


def assert_several(sources: object) -> None:
    """Check that sources are not one, whose letters, bytes, rows or elements would each be taken for an image.

    Raises:
        InputError: They are one.
    """
    one = isinstance(sources, (str, bytes, bytearray, memoryview, PathLike, Image.Image))
    one = one or (isinstance(sources, np.ndarray) and sources.ndim < 3) or is_dataset(sources)
    if one:
        raise InputError(f"give a list of images, [image] for one, and not a {type(sources).__name__} by itself")


def given_together(
    sources: Sequence[Source],
    names: Sequence[str] | None,
    frames: Frames | Sequence[Frames],
    value_ranges: Sequence[tuple[float, float] | None],
) -> list[Given]:
    """Join what is given of each source.

    Raises:
        InputError: `sources` is a single one, or `names`, `frames` or `value_ranges` has another length, or holds what
            is no range.
    """
    assert_several(sources)
    count = len(sources)
    if names is not None and len(names) != count:
        raise InputError(f"{len(names)} names for {count} images")
    wanted = [frames] * count if isinstance(frames, (str, int)) else list(frames)
    if len(wanted) != count:
        raise InputError(f"{len(wanted)} frames for {count} images")
    ranges = [declared_range(one) for one in value_ranges] or [None] * count
    if len(ranges) != count:
        raise InputError(f"{len(ranges)} ranges of values for {count} images")
    return [Given(*one) for one in zip(sources, names or [""] * count, wanted, ranges, strict=True)]
