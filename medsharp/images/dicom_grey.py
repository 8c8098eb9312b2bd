"""Stored DICOM values to 8-bit grey: modality and VOI transformations, photometric interpretation, colour."""

from __future__ import annotations

from typing import Any

import numpy as np

from medsharp.images.decoded import luminance


def grey_of_monochrome(stored: np.ndarray, dataset: Any) -> np.ndarray:
    """Apply the modality and VOI transformations and MONOCHROME1's inversion (PS3.3, C.7.6.3, C.11.1 and C.11.2).

    The first window of several is used, a VOI table before a window. Without either the whole range of stored values is
    shown, so that frames of a clip are alike.

    Args:
        stored: Integers [H, W] of at most 16 bits.
        dataset: Holds `BitsStored`, `PixelRepresentation` and the transformations.

    Returns:
        uint8 [H, W].
    """
    bits, signed = int(dataset.BitsStored), bool(dataset.PixelRepresentation)
    low = -(2 ** (bits - 1)) if signed else 0
    # What is outside the stored bits is an overlay's or damage.
    values = np.arange(low, low + 2**bits, dtype=np.int32)
    table = np.rint(255.0 * _shares(values, dataset).clip(0.0, 1.0)).astype(np.uint8)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        table = 255 - table
    return table[np.clip(stored.astype(np.int32) - low, 0, len(table) - 1)]


def grey_of_colour(samples: np.ndarray, interpretation: str, dataset: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the luminance uint8 [H, W] of RGB samples [H, W, 3] or of palette indices [H, W], and what is coloured."""
    from pydicom.pixels.processing import apply_color_lut

    bits = int(dataset.BitsStored)
    if interpretation == "PALETTE COLOR":
        samples = apply_color_lut(samples, dataset)
        # Some scanners store tables of 8 bits as if they had 16.
        bits = 16 if samples.dtype == np.uint16 and samples.max() > 255 else 8
    if bits > 8:
        samples = samples >> (bits - 8)
    return luminance(np.ascontiguousarray(samples[..., :3].astype(np.uint8)))


def _shares(values: np.ndarray, dataset: Any) -> np.ndarray:
    """Return for each stored value its place between black (0) and white (1)."""
    from pydicom.pixels import apply_modality_lut
    from pydicom.pixels.processing import apply_voi

    modality = np.asarray(apply_modality_lut(values, dataset))
    tables = dataset.get("VOILUTSequence")
    if tables:
        return np.asarray(apply_voi(modality, dataset), dtype=np.float64) / (2.0 ** int(tables[0].LUTDescriptor[2]) - 1)
    modality = modality.astype(np.float64)
    window = _window(dataset)
    if window is None:
        low, high = modality.min(), modality.max()
        return (modality - low) / max(high - low, 1e-12)
    centre, width, function = window
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (modality - centre) / width, -700.0, 700.0)))
    if function == "LINEAR_EXACT":
        return (modality - centre) / width + 0.5
    return (modality - (centre - 0.5)) / max(width - 1.0, 1e-12) + 0.5


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
