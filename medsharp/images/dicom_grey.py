"""Stored DICOM values to 8-bit grey: modality and VOI transformations, photometric interpretation, colour."""

from __future__ import annotations

from typing import Any

import numpy as np

from medsharp.images.decoded import luminance
from medsharp.images.dicom_tables import LookUpTable, palette_of, read_table
from medsharp.images.values import BYTE_PALETTE, UNDECLARED, ValueRange, is_undeclared, to_grey

_ALIKE = 0.9
"""Share of pixels, most of them tissue and so grey, by which a wrong label of colours shows."""

_NEAR = 2
"""Levels by which a grey pixel's channels may differ after compression."""


def grey_of_monochrome(
    stored: np.ndarray, dataset: Any, declared: ValueRange | None = None, frame: int = 1
) -> tuple[np.ndarray, ValueRange | None, list[str]]:
    """Apply the modality and VOI transformations and MONOCHROME1's inversion (PS3.3, C.7.6.3, C.11.1 and C.11.2).

    The first window of several is used, a VOI table before a window; an enhanced object has them in functional groups,
    of the frame or of all (PS3.3, C.7.6.16). Without either the whole range of stored values is shown, so that frames
    of a clip are alike. Padding is black.

    Args:
        stored: Integers [H, W] of at most 16 bits.
        dataset: Holds `BitsStored`, `PixelRepresentation` and the transformations.
        declared: What is black and white after the modality transformation, in place of windows and tables; for more
            than 8 bits stored.
        frame: Which one this is, counted from 1.

    Returns:
        uint8 [H, W], the range that was not the object's own window or table, and what a user should know.
    """
    bits, signed = int(dataset.BitsStored), bool(dataset.PixelRepresentation)
    low = -(2 ** (bits - 1)) if signed else 0
    # What is outside the stored bits is an overlay's or damage.
    values = np.arange(low, low + 2**bits, dtype=np.int32)
    shares, used = _shares(values, dataset, declared if bits > 8 else None, frame)
    table = np.rint(255.0 * shares.clip(0.0, 1.0)).astype(np.uint8)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        table = 255 - table
    padding = _padding(dataset, bits, low)
    table[padding] = 0
    places = np.clip(stored.astype(np.int32) - low, 0, len(table) - 1)
    if used is None or bits <= 8:
        return table[places], None, []
    said = []
    if declared is None and signed:
        said = ["signed values without a window"]
    elif declared is None and bits == 16 and is_undeclared(float(places.max()), ValueRange(0.0, len(table) - 1.0)):
        said = [UNDECLARED]
    return table[places], used, said


def _padding(dataset: Any, bits: int, low: int) -> slice:
    """Return which stored values are padding (PS3.3, C.7.5.1.1.2), counted from the lowest."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return slice(0, 0)
    last = dataset.get("PixelPaddingRangeLimit")
    ends = sorted(_stored(int(value), bits, low) for value in (first, first if last is None else last))
    return slice(ends[0] - low, ends[1] - low + 1)


def _stored(value: int, bits: int, low: int) -> int:
    """Read a value as stored ones are, whatever sign its element was written with."""
    return (value - low) % 2**bits + low


def grey_of_colour(
    samples: np.ndarray, interpretation: str, dataset: Any, declared: ValueRange | None = None
) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Return the luminance of colours.

    Args:
        samples: RGB [H, W, 3], or palette indices [H, W].
        interpretation: Which of them.
        dataset: Holds the palette.
        declared: What is black and white in RGB of more than 8 bits.

    Returns:
        uint8 [H, W], the colours where some were really coloured, and what a user should know.
    """
    bits, said = int(dataset.BitsStored), []
    if interpretation == "PALETTE COLOR":
        low = -(2 ** (bits - 1)) if int(dataset.PixelRepresentation) else 0
        values = np.arange(low, low + 2**bits)
        palette = palette_of(dataset, low)
        # The whole table, as what a frame uses of it says nothing of the table's bits.
        table = np.stack([one.look_up(values) for one in palette], axis=-1)  # [values, 3]
        # Some scanners store tables of 8 bits as if they had 16.
        bits = 16 if table.max() > 255 else 8
        said = [BYTE_PALETTE] if bits == 8 < palette[0].bits and table.any() else []
        samples = table[np.clip(samples.astype(np.int32) - low, 0, len(table) - 1)]
    elif bits > 8 and declared is not None:
        samples, bits = to_grey(samples, declared), 8
    if bits > 8:
        samples = samples >> (bits - 8)
    grey, colours = luminance(np.ascontiguousarray(samples[..., :3].astype(np.uint8)))
    return grey, colours, said


def looks_mislabelled(samples: np.ndarray, interpretation: str) -> bool:
    """Whether samples [H, W, 3], grey for their most part, are so only under the other label of colours.

    Grey in RGB has three equal channels; in YBR_FULL both colour differences are at the middle.
    """
    if samples.dtype.itemsize > 1 or samples.shape[-1] != 3:
        return False
    first, second, third = (samples[..., channel].astype(np.int16) for channel in range(3))
    alike = (np.abs(first - second) <= _NEAR) & (np.abs(first - third) <= _NEAR)
    middle = (np.abs(second - 128) <= _NEAR) & (np.abs(third - 128) <= _NEAR)
    expected, other = (alike, middle) if interpretation == "RGB" else (middle, alike)
    return bool(other.mean() > _ALIKE > expected.mean())


def _shares(
    values: np.ndarray, dataset: Any, declared: ValueRange | None, frame: int
) -> tuple[np.ndarray, ValueRange | None]:
    """Return for each stored value its place between black (0) and white (1), and the range where it gave them."""
    little_endian = bool(dataset.file_meta.TransferSyntaxUID.is_little_endian)
    modality = _modality(values, _functional_group(dataset, frame, "PixelValueTransformationSequence"), little_endian)
    if declared is not None:
        return (modality - declared.low) / (declared.high - declared.low), declared
    shown = _functional_group(dataset, frame, "FrameVOILUTSequence")
    table = _table(shown, "VOILUTSequence", little_endian, float(modality.min()))
    if table is not None:
        return table.look_up(modality) / (2.0**table.bits - 1), None
    window = _window(shown)
    if window is None:
        low, high = modality.min(), modality.max()
        return (modality - low) / max(high - low, 1e-12), ValueRange(float(low), float(high))
    centre, width, function = window
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (modality - centre) / width, -700.0, 700.0))), None
    if function == "LINEAR_EXACT":
        return (modality - centre) / width + 0.5, None
    return (modality - (centre - 0.5)) / max(width - 1.0, 1e-12) + 0.5, None


def _functional_group(dataset: Any, frame: int, keyword: str) -> Any:
    """Return what holds the elements of a functional group: its item for the frame, its item for all, or the object."""
    own, shared = dataset.get("PerFrameFunctionalGroupsSequence"), dataset.get("SharedFunctionalGroupsSequence")
    for groups, index in ((own, frame - 1), (shared, 0)):
        items = groups[index].get(keyword) if groups else None
        if items:
            return items[0]
    return dataset


def _modality(values: np.ndarray, holder: Any, little_endian: bool) -> np.ndarray:
    """Apply the modality transformation to stored values: float64 of their shape."""
    table = _table(holder, "ModalityLUTSequence", little_endian, float(values.min()))
    if table is not None:
        return table.look_up(values).astype(np.float64)
    modality = values.astype(np.float64)
    if "RescaleSlope" in holder and "RescaleIntercept" in holder:
        modality = modality * float(holder.RescaleSlope) + float(holder.RescaleIntercept)
    return modality


def _table(holder: Any, keyword: str, little_endian: bool, lowest: float) -> LookUpTable | None:
    """Return the first table of a sequence; None where there is none."""
    items = holder.get(keyword)
    if not items:
        return None
    return read_table(items[0].LUTDescriptor, items[0]["LUTData"].value, little_endian=little_endian, lowest=lowest)


def _window(holder: Any) -> tuple[float, float, str] | None:
    if not holder.get("WindowWidth") or holder.get("WindowCenter") is None:
        return None
    centre, width = (
        float(np.atleast_1d(np.asarray(holder[tag].value, dtype=np.float64))[0])
        for tag in ("WindowCenter", "WindowWidth")
    )
    function = str(holder.get("VOILUTFunction") or "LINEAR").strip().upper()
    usable = np.isfinite(centre) and width >= (1.0 if function == "LINEAR" else np.finfo(float).tiny)
    return (centre, width, function) if usable else None
