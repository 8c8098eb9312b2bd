"""One look at one image for everything that can be told without the others."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from medsharp.data.audit.overlays import count_overlays
from medsharp.data.audit.views import colour_shares, is_dual_view
from medsharp.data.duplicates.crops import Features, describe
from medsharp.data.duplicates.look import Look, look_at_pixels
from medsharp.data.lesion import part_on
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.files import sha256_file
from medsharp.images import DecodedImage, ImageLimits, read_marks
from medsharp.images.values import WORTH_SAYING
from medsharp.progress import Progress

LEAST_SIDE = 64
ODDEST_SHAPE = 2.0
_ROUNDED = 0.55
"""Pixels by which a side of a reduced image may miss its stated share."""

_FLOW = 5e-4
"""Share of red and blue pixels from which on it is Doppler; a few are compression or a coloured letter."""


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
) -> list[Inspection]:
    """Inspect the images and masks of some rows, several at once, in their order."""
    entries = [{str(key): value for key, value in manifest.table.loc[row].items()} for row in rows]
    inspections: list[Inspection] = []
    pool = ThreadPoolExecutor()
    try:
        for inspection in pool.map(partial(_inspect, manifest, limits=limits), entries):
            inspections.append(inspection)
            if progress is not None:
                progress(len(inspections), len(entries), f"inspecting {manifest.info.name}")
    finally:
        # An interrupt leaves at once; what waits is not begun.
        pool.shutdown(cancel_futures=True)
    return inspections


def _inspect(manifest: Manifest, entry: dict[str, str], *, limits: ImageLimits) -> Inspection:
    path = manifest.path(entry["image"])
    try:
        decoded = manifest.read(entry, limits)
        seen = look_at_pixels(decoded.pixels, sha256_file(path), decoded.flags)
    except InputError as error:
        return Inspection(Look("", f"unreadable: {error}"), None, (("unreadable", str(error)),))
    if seen.reason:
        return Inspection(seen, None, (("constant", f"grey {int(decoded.pixels[0, 0])} everywhere"),))
    found = [*_shape(*seen.size), *_colour(path, decoded.format, decoded.flags), *_drawn(decoded.pixels)]
    found += [("values", flag) for flag in decoded.flags if flag in WORTH_SAYING]
    if not _agrees_with_table(entry, seen.size):
        stated = f"{entry['stated_width']} x {entry['stated_height']}"
        found.append(("table-size", f"{seen.size[0]} x {seen.size[1]} pixels; the table says {stated}"))
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


def _colour(path: Path, kind: str, flags: tuple[str, ...]) -> list[tuple[str, str]]:
    if "colour" not in flags:
        return []
    if kind == "DICOM":
        return [("colour", "coloured pixels in a DICOM image")]
    flow, coloured = colour_shares(path)
    if flow >= _FLOW:
        return [("doppler", f"{flow:.2%} of pixels red or blue")]
    return [("colour", f"{coloured:.2%} of pixels coloured")]


def _drawn(pixels: np.ndarray) -> list[tuple[str, str]]:
    found = []
    if is_dual_view(pixels):
        found.append(("dual-view", "a gap or seam near the middle"))
    overlays = count_overlays(pixels)
    if overlays.calipers:
        found.append(("calipers", f"{overlays.calipers} crosses"))
    if overlays.letters:
        found.append(("text", f"{overlays.letters} letters in a row"))
    return found


def _mask(path: Path, image: DecodedImage, label: str, limits: ImageLimits) -> list[tuple[str, str]]:
    try:
        marks = read_marks(path, limits=limits)
    except InputError as error:
        return [("mask-missing", str(error).replace(str(path), path.name))]
    mask = marks.pixels
    found = [("mask-doubtful", f"{path.name}: {doubt}") for doubt in marks.doubts]
    if part_on(image, mask) is None:
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
