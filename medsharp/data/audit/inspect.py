"""One look at one image for everything that can be told without the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from medsharp.data.audit.flow import measure_colour
from medsharp.data.audit.stated import Statement
from medsharp.data.audit.views import is_dual_view
from medsharp.data.duplicates.crops import Features, describe
from medsharp.data.duplicates.look import Look, look_at_pixels
from medsharp.data.lesion import doubts_of_place, part_on
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.files import sha256_file
from medsharp.images import DecodedImage, ImageLimits, read_marks
from medsharp.images.decoded import LEAST_FLOW
from medsharp.images.values import is_doubtful
from medsharp.preprocess import find_drawings
from medsharp.progress import Progress

LEAST_SIDE = 64
ODDEST_SHAPE = 2.0
_ROUNDED = 0.55
"""Pixels by which a side of a reduced image may miss its stated share."""


@dataclass(frozen=True)
class Inspection:
    """What one image shows.

    Attributes:
        look: For the search for duplicates.
        features: For the search for crops; None where the image cannot be used.
        found: Kinds of findings and their details.
    """

    look: Look
    features: Features | None
    found: tuple[tuple[str, str], ...]


def inspect_images(
    manifest: Manifest,
    rows: Sequence[int],
    limits: ImageLimits = ImageLimits(),
    progress: Progress | None = None,
    stated: Mapping[int, Mapping[str, Statement]] = MappingProxyType({}),
) -> list[Inspection]:
    """Inspect the images and masks of some rows, several at once, in their order.

    Args:
        manifest: Whose images.
        rows: Which of its table.
        limits: Images beyond them count as unreadable.
        progress: Called with images done, images in all and what is being done.
        stated: By row and kind of finding, what the data set's own table says; it goes before what pixels show.
    """
    said = [stated.get(row, {}) for row in rows]
    entries = [{str(key): value for key, value in manifest.table.loc[row].items()} for row in rows]
    inspections: list[Inspection] = []
    pool = ThreadPoolExecutor()
    try:
        for inspection in pool.map(partial(_inspect, manifest, limits=limits), entries, said):
            inspections.append(inspection)
            if progress is not None:
                progress(len(inspections), len(entries), f"inspecting {manifest.info.name}")
    finally:
        # An interrupt leaves at once; what waits is not begun.
        pool.shutdown(cancel_futures=True)
    return inspections


def _inspect(
    manifest: Manifest, entry: dict[str, str], stated: Mapping[str, Statement], *, limits: ImageLimits
) -> Inspection:
    path = manifest.path(entry["image"])
    try:
        decoded = manifest.read(entry, limits)
        seen = look_at_pixels(decoded.pixels, sha256_file(path), decoded.flags)
    except InputError as error:
        return Inspection(Look("", f"unreadable: {error}"), None, (("unreadable", str(error)),))
    if seen.reason:
        return Inspection(seen, None, (("constant", f"grey {int(decoded.pixels[0, 0])} everywhere"),))
    found = [*_shape(*seen.size), *_as_stated([*_colour(decoded), *_drawn(decoded)], stated)]
    found += [("values", flag) for flag in seen.flags if is_doubtful(flag)]
    if not _agrees_with_table(entry, seen.size):
        sides = f"{entry['stated_width']} x {entry['stated_height']}"
        found.append(
            ("table-size", f"{seen.size[0]} x {seen.size[1]} pixels; stated_width and stated_height say {sides}")
        )
    for mask in manifest.masks(entry):
        found += _mask(mask, decoded, entry["label"], limits)
    return Inspection(seen, describe(decoded.pixels), tuple(found))


def _shape(width: int, height: int) -> list[tuple[str, str]]:
    found = []
    if min(width, height) < LEAST_SIDE:
        found.append(("tiny", f"{width} x {height} pixels"))
    if max(width, height) > ODDEST_SHAPE * min(width, height):
        found.append(("shape", f"{width} x {height} pixels"))
    return found


def _colour(image: DecodedImage) -> list[tuple[str, str]]:
    if image.colours is None:
        return []
    colour = measure_colour(image.colours)
    if colour.flow >= LEAST_FLOW:
        return [("doppler", f"{colour.flow:.2%} of pixels are red or blue flow in the tissue")]
    if colour.tinted:
        return [("colour", "the whole image is tinted")]
    return [("colour", f"{colour.coloured:.2%} of pixels coloured")]


def _drawn(image: DecodedImage) -> list[tuple[str, str]]:
    found = []
    if is_dual_view(image.pixels):
        found.append(("dual-view", "a gap or seam near the middle"))
    # The brightest channel, as a blue drawing is dark in grey.
    drawings = find_drawings(image.pixels if image.colours is None else image.colours.max(axis=-1))
    if drawings.crosses:
        found.append(("calipers", f"{drawings.crosses} {'cross' if drawings.crosses == 1 else 'crosses'}"))
    if drawings.letters:
        found.append(("text", f"{drawings.letters} letters in a row"))
    if drawings.ticks:
        found.append(("ruler", f"{drawings.ticks} ticks at equal distances"))
    return found


def _as_stated(found: list[tuple[str, str]], stated: Mapping[str, Statement]) -> list[tuple[str, str]]:
    """Put what the data set's table says in the place of what pixels show."""
    settled = [(kind, str(statement)) for kind, statement in stated.items() if statement.holds]
    for kind, detail in found:
        if kind not in stated:
            settled.append((kind, detail))
        elif kind == "doppler" and not stated[kind].holds:
            settled.append(("colour", f"{detail}, but {stated[kind]}"))
    return settled


def _mask(path: Path, image: DecodedImage, label: str, limits: ImageLimits) -> list[tuple[str, str]]:
    try:
        marks = read_marks(path, limits=limits)
    except InputError as error:
        return [("mask-missing", str(error).replace(str(path), path.name))]
    mask = marks.pixels
    found = [("mask-doubtful", f"{path.name}: {doubt}") for doubt in (*marks.doubts, *doubts_of_place(image, marks))]
    if part_on(image, marks) is None:
        (height, width), (high, wide) = mask.shape, image.pixels.shape
        found.append(("mask-size", f"{path.name}: {width} x {height} on {wide} x {high} pixels"))
    if label != "normal" and not mask.any():
        found.append(("mask-empty", path.name))
    return found


def stated_size(entry: dict[str, str]) -> tuple[int, int] | None:
    """Return width and height as the data set's own table gives them."""
    width, height = entry.get("stated_width", ""), entry.get("stated_height", "")
    return (int(width), int(height)) if width.isdigit() and height.isdigit() and int(width) * int(height) else None


def _agrees_with_table(entry: dict[str, str], size: tuple[int, int]) -> bool:
    """Whether an image has the stated size, or that size reduced (its sides rounded)."""
    stated = stated_size(entry)
    if stated is None or stated == size:
        return True
    scale = max(size) / max(stated)
    return scale < 1 and all(abs(actual - scale * said) <= _ROUNDED for actual, said in zip(size, stated, strict=True))
