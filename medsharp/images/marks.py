"""Which pixels of a mask are marked, however the mask is coded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from medsharp.images.decoded import COLOUR_DIFFERENCE, COLOURED_SHARE
from medsharp.images.dicom_start import is_dicom
from medsharp.images.limits import ImageLimits
from medsharp.images.pictures import UPRIGHT, Picture, open_picture
from medsharp.images.read import read_bytes, read_image
from medsharp.images.values import ValueRange

MOST_CLASSES = 31
"""Up to here, whole numbers are the classes 0, 1, 2, ... and not shades of grey."""

_TOPS = (1.0, 255.0, 4095.0, 65535.0)
_BORDER, _SOLID = 0.95, 1e-3


@dataclass(frozen=True)
class Marks:
    """A mask.

    Attributes:
        pixels: bool [H, W], what is marked.
        values: What it was read from [H, W].
        orientation: How the file is stored, as EXIF numbers it; both are upright.
    """

    pixels: np.ndarray
    values: np.ndarray = field(repr=False)
    orientation: int = UPRIGHT

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why it may mean something else, for a person; empty where nothing speaks for that."""
        marked, values = self.pixels, self.values
        doubts = []
        border = np.concatenate([marked[0], marked[-1], marked[1:-1, 0], marked[1:-1, -1]])
        if values.min() == values.max() != 0:
            doubts.append(f"it is {float(values.max()):g} everywhere")
        elif marked.all():
            doubts.append("everything is marked")
        elif border.mean() > _BORDER:
            doubts.append("its border is marked: perhaps it is inverted")
        dropped = _solid(values, ~marked & (values > values.min()))
        if dropped.mean() > _SOLID:
            level = float(values[dropped].max())
            doubts.append(f"areas of grey {level:g} are not marked")
        return tuple(doubts)


def read_marks(source: Path | str | bytes, *, name: str | None = None, limits: ImageLimits = ImageLimits()) -> Marks:
    """Read a mask.

    Marked is, by the first that applies:

    1. Transparency over a single colour: what is opaque.
    2. Two values: of a grey and a colour the colour, else the brighter.
    3. Whole numbers of at most 31, of which there are several, as classes: all but 0.
    4. What is brighter than the middle of 0 to 1, of 0 to 255, of 12 or 16 bits, or of 0 to the brightest where nothing
       reaches that; and all that is coloured.

    Lossy compression leaves noise of a few levels: for such files only the last holds, and nothing is marked where
    nothing is brighter than 31.

    Args:
        source: A file, or its bytes.
        name: What to call it in errors; the path by default.
        limits: Checked before decoding.

    Raises:
        ImageError: It cannot be read.
    """
    data, name = read_bytes(source, name, limits)
    if is_dicom(data):
        # Values above 255 are marked by any rule; classes stay apart.
        grey = read_image(data, name=name, limits=limits, region=False, value_range=ValueRange(0.0, 255.0)).pixels
        return Marks(_of_values(grey, lossy=False), grey)
    with open_picture(data, name, limits) as picture:
        return replace(_of_picture(picture), orientation=picture.orientation)


def _of_picture(picture: Picture) -> Marks:
    if picture.is_deep:
        samples = picture.samples()
        values = np.nan_to_num(samples.values.astype(np.float64), posinf=0.0, neginf=0.0)
        values = values.max() - values if samples.white_is_zero else values
        return Marks(_of_values(values, picture.is_lossy), values)
    image = picture.image
    if image.mode in ("1", "L") and "transparency" not in image.info:
        grey = np.asarray(image.convert("L"))
        return Marks(_of_values(grey, picture.is_lossy), grey)
    if image.mode == "P" and _has_one_colour(image):
        grey = np.asarray(image)  # the indices are all that differs
        return Marks(_of_values(grey, picture.is_lossy), grey)
    rgba = np.asarray(image.convert("RGBA"))
    colours, alpha = rgba[..., :3], rgba[..., 3]
    if alpha.min() < alpha.max():
        if _is_constant(colours[alpha > 0]):
            return Marks(_of_values(alpha, picture.is_lossy), alpha)
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        colours = np.asarray(Image.alpha_composite(black, Image.fromarray(rgba)))[..., :3]
    return _of_colours(np.ascontiguousarray(colours), picture.is_lossy)


def _of_colours(rgb: np.ndarray, lossy: bool) -> Marks:
    grey = np.asarray(Image.fromarray(rgb).convert("L"))
    brightest, darkest = rgb.max(axis=-1), rgb.min(axis=-1)
    if not lossy and brightest.max() <= MOST_CLASSES:
        return Marks(_of_values(brightest, lossy), brightest)
    coloured = brightest - darkest > COLOUR_DIFFERENCE
    if lossy and coloured.mean() <= COLOURED_SHARE:
        coloured = np.zeros_like(coloured)
    if not coloured.any():
        return Marks(_of_values(grey, lossy), grey)
    if not lossy and _is_constant(rgb[coloured]) and _is_constant(rgb[~coloured]):
        return Marks(coloured, grey)  # a grey and a colour
    return Marks(_of_values(grey, lossy) | coloured, grey)


def _of_values(values: np.ndarray, lossy: bool) -> np.ndarray:
    """Apply the rules to one channel, [H, W] of any type without NaN."""
    most, least = float(values.max()), float(values.min())
    if not lossy:
        if most == least:  # all of the image is a lesion, or the background has a number
            return np.full(values.shape, most > next(top for top in _tops(values) if most <= top) / 2)
        if ((values == most) | (values == least)).all():
            return values == most
    if most <= MOST_CLASSES and (most > 1 or not _has_fractions(values)):
        return np.zeros(values.shape, dtype=bool) if lossy else values > 0
    top = next(top for top in _tops(values) if most <= top)
    return values > (top if most > top / 2 else most) / 2


def _tops(values: np.ndarray) -> tuple[float, ...]:
    """Return the ends of the ranges that masks of a type have."""
    return (*(_TOPS if values.dtype.kind == "f" else _TOPS[1:]), np.inf)


def _has_fractions(values: np.ndarray) -> bool:
    return values.dtype.kind == "f" and bool((values != np.rint(values)).any())


def _has_one_colour(image: Image.Image) -> bool:
    return "transparency" not in image.info and _is_constant(np.asarray(image.convert("RGB")).reshape(-1, 3))


def _is_constant(colours: np.ndarray) -> bool:
    """Whether colours [N, 3] are all the same; none are."""
    return len(colours) == 0 or bool((colours == colours[0]).all())


def _solid(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return the pixels of some whose eight neighbours have their value: areas, not edges that were smoothed."""
    solid = np.zeros(values.shape, dtype=bool)
    if not among.any():
        return solid
    centre = values[1:-1, 1:-1]
    inner = among[1:-1, 1:-1].copy()
    height, width = values.shape
    for down in range(3):
        for across in range(3):
            inner &= values[down : height - 2 + down, across : width - 2 + across] == centre
    solid[1:-1, 1:-1] = inner
    return solid
