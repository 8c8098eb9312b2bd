"""Stored DICOM values to 8-bit grey: modality and VOI transformations, photometric interpretation, colour."""

from __future__ import annotations

from typing import Any

import numpy as np

from medsharp.images.decoded import luminance
from medsharp.images.values import UNDECLARED, ValueRange, is_undeclared, to_grey

_ALIKE = 0.9
"""Share of pixels, most of them tissue and so grey, by which a wrong label of colours shows."""

_NEAR = 2
"""Levels by which a grey pixel's channels may differ after compression."""


def grey_of_monochrome(
    stored: np.ndarray, dataset: Any, declared: ValueRange | None = None
) -> tuple[np.ndarray, ValueRange | None, list[str]]:
    """Apply the modality and VOI transformations and MONOCHROME1's inversion (PS3.3, C.7.6.3, C.11.1 and C.11.2).

    The first window of several is used, a VOI table before a window. Without either the whole range of stored values is
    shown, so that frames of a clip are alike. Padding is black.

    Args:
        stored: Integers [H, W] of at most 16 bits.
        dataset: Holds `BitsStored`, `PixelRepresentation` and the transformations.
        declared: What is black and white after the modality transformation, in place of windows and tables; for more
            than 8 bits stored.

    Returns:
        uint8 [H, W], the range that was not the object's own window or table, and what a user should know.
    """
    bits, signed = int(dataset.BitsStored), bool(dataset.PixelRepresentation)
    low = -(2 ** (bits - 1)) if signed else 0
    # What is outside the stored bits is an overlay's or damage.
    values = np.arange(low, low + 2**bits, dtype=np.int32)
    shares, used = _shares(values, dataset, declared if bits > 8 else None)
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
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the luminance uint8 [H, W] of RGB samples [H, W, 3] or of palette indices [H, W], and their colours."""
    from pydicom.pixels.processing import apply_color_lut

    bits = int(dataset.BitsStored)
    if interpretation == "PALETTE COLOR":
        # The whole table, as what a frame uses of it says nothing of the table's bits.
        low = -(2 ** (bits - 1)) if int(dataset.PixelRepresentation) else 0
        table = apply_color_lut(np.arange(low, low + 2**bits, dtype=np.int32), dataset)
        # Some scanners store tables of 8 bits as if they had 16.
        bits = 16 if table.dtype == np.uint16 and table.max() > 255 else 8
        samples = table[np.clip(samples.astype(np.int32) - low, 0, len(table) - 1)]
    elif bits > 8 and declared is not None:
        samples, bits = to_grey(samples, declared), 8
    if bits > 8:
        samples = samples >> (bits - 8)
    return luminance(np.ascontiguousarray(samples[..., :3].astype(np.uint8)))


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


def _shares(values: np.ndarray, dataset: Any, declared: ValueRange | None) -> tuple[np.ndarray, ValueRange | None]:
    """Return for each stored value its place between black (0) and white (1), and the range where it gave them."""
    from pydicom.pixels import apply_modality_lut
    from pydicom.pixels.processing import apply_voi

    modality = np.asarray(apply_modality_lut(values, dataset))
    if declared is not None:
        return (modality.astype(np.float64) - declared.low) / (declared.high - declared.low), declared
    tables = dataset.get("VOILUTSequence")
    if tables:
        shown = np.asarray(apply_voi(modality, dataset), dtype=np.float64)
        return shown / (2.0 ** int(tables[0].LUTDescriptor[2]) - 1), None
    modality = modality.astype(np.float64)
    window = _window(dataset)
    if window is None:
        low, high = modality.min(), modality.max()
        return (modality - low) / max(high - low, 1e-12), ValueRange(float(low), float(high))
    centre, width, function = window
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (modality - centre) / width, -700.0, 700.0))), None
    if function == "LINEAR_EXACT":
        return (modality - centre) / width + 0.5, None
    return (modality - (centre - 0.5)) / max(width - 1.0, 1e-12) + 0.5, None


def _window(dataset: Any) -> tuple[float, float, str] | None:
    if not dataset.get("WindowWidth") or dataset.get("WindowCenter") is None:
        return None
    centre, width = (
        float(np.atleast_1d(np.asarray(dataset[tag].value, dtype=np.float64))[0])
        for tag in ("WindowCenter", "WindowWidth")
    )
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    usable = np.isfinite(centre) and width >= (1.0 if function == "LINEAR" else np.finfo(float).tiny)
    return (centre, width, function) if usable else None
