"""Heat maps: evidence for the positive class, placed on the original image and coloured."""

from __future__ import annotations

import itertools

import numpy as np
from PIL import Image

from medsharp.errors import InputError
from medsharp.inference.session import Session
from medsharp.preprocess import Placement

_GRID = 12
_BATCH = 36

# Anchor colours of matplotlib's "inferno" (CC0), so that drawing needs no plotting library.
_INFERNO = np.array(
    [
        [0, 0, 4],
        [40, 11, 84],
        [101, 21, 110],
        [159, 42, 99],
        [212, 72, 66],
        [245, 125, 21],
        [250, 193, 39],
        [252, 255, 164],
    ],
    dtype=np.float64,
)
# Four thousand levels of a heat map: no difference from computing each pixel is visible in 8 bits.
_LEVELS = np.linspace(0, 1, 4096)
_COLOURS = np.stack(
    [np.interp(_LEVELS, np.linspace(0, 1, len(_INFERNO)), channel) for channel in _INFERNO.T], axis=-1
).astype(np.float32)  # [level, 3]
_OPACITIES = (0.65 * np.sqrt(_LEVELS)).astype(np.float32)
# Pixels coloured at once, so that a large image does not need many times its size in memory.
_BAND_PIXELS = 2**18


def evidence_of_cam(cam: np.ndarray, positive: int) -> np.ndarray:
    """Return float32 [B, h, w]: how much each place speaks for the positive class rather than the others on average.

    Args:
        cam: Class activation maps [B, C, h, w].
        positive: Number of the positive class.
    """
    others = np.delete(cam, positive, axis=1).mean(axis=1)
    return (cam[:, positive] - others).astype(np.float32)


def evidence_of_occlusion(session: Session, image: np.ndarray, positive: int) -> np.ndarray:
    """Return float32 [12, 12]: how much the margin of the positive class falls when that place is blurred to its mean.

    For networks whose pooling does not allow an exact class activation map (Zeiler and Fergus, ECCV 2014).

    Args:
        session: The network.
        image: Its input, uint8 [S, S].
        positive: Number of the positive class.
    """
    edges = np.linspace(0, image.shape[0], _GRID + 1).round().astype(int)
    occluded = []
    for top, bottom in itertools.pairwise(edges):
        for left, right in itertools.pairwise(edges):
            changed = image.copy()
            changed[top:bottom, left:right] = round(float(image.mean()))
            occluded.append(changed)
    stack = np.stack([image, *occluded])
    logits = np.concatenate([session.run(stack[i : i + _BATCH])["logits"] for i in range(0, len(stack), _BATCH)])
    margin = logits[:, positive] - np.delete(logits, positive, axis=1).mean(axis=1)
    return (margin[0] - margin[1:]).reshape(_GRID, _GRID).astype(np.float32)


def place(
    evidence: np.ndarray,
    reference: float,
    where: Placement,
    shape: tuple[int, int],
    size: int,
    longest_side: int | None = None,
) -> np.ndarray:
    """Scale evidence to 0..1 and lay it over the original image.

    Args:
        evidence: [h, w] on the grid of the network's input; negative counts as none.
        reference: Evidence that is shown at full strength.
        where: How the image was placed in the input.
        shape: Height and width of the original.
        size: Side of the input.
        longest_side: Draw it as `drawn_shape` shrinks the original; None draws it as large as the original.

    Returns:
        float32 [H, W], or smaller; 0 where the original was cropped away.
    """
    strength = Image.fromarray(np.clip(evidence / reference, 0, 1).astype(np.float32))
    whole = strength.resize((size, size), Image.Resampling.BICUBIC)
    top, left, bottom, right = where.inner
    height, width = drawn_shape(shape, longest_side)
    rows = _drawn_span(where.crop[0], where.crop[2], height / shape[0])
    columns = _drawn_span(where.crop[1], where.crop[3], width / shape[1])
    inside = whole.resize(
        (columns.stop - columns.start, rows.stop - rows.start),
        Image.Resampling.BILINEAR,
        box=(left, top, right, bottom),
    )
    placed = np.zeros((height, width), dtype=np.float32)
    placed[rows, columns] = np.clip(np.asarray(inside), 0, 1)
    return placed


def drawn_shape(shape: tuple[int, int], longest_side: int | None) -> tuple[int, int]:
    """Return height and width at which an image is drawn: its own, or with `longest_side` pixels on the longer side.

    An image is never drawn larger than it is.
    """
    height, width = shape
    if longest_side is None or max(shape) <= longest_side:
        return height, width
    scale = longest_side / max(shape)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _drawn_span(start: int, stop: int, scale: float) -> slice:
    """Scale a span of pixels, so that at least one is left."""
    first = min(round(start * scale), round(stop * scale) - 1)
    return slice(max(0, first), max(0, first) + max(1, round(stop * scale) - max(0, first)))


def overlay(pixels: np.ndarray, heatmap: np.ndarray | None) -> np.ndarray:
    """Colour a heat map over its image.

    Args:
        pixels: uint8 [H, W].
        heatmap: float [H, W] from 0 to 1, or None for the image alone.

    Returns:
        uint8 [H, W, 3].

    Raises:
        InputError: The two have different sizes.
    """
    coloured = np.repeat(pixels[..., None], 3, axis=-1)
    if heatmap is None:
        return coloured
    if heatmap.shape != pixels.shape:
        raise InputError(f"the heat map is {heatmap.shape}, its image {pixels.shape}")
    rows = max(1, _BAND_PIXELS // max(1, pixels.shape[1]))
    for top in range(0, len(pixels), rows):
        band = slice(top, top + rows)
        level = np.rint(heatmap[band] * (len(_COLOURS) - 1)).astype(np.intp)
        opacity = _OPACITIES[level][..., None]
        coloured[band] = np.rint(coloured[band] * (1 - opacity) + _COLOURS[level] * opacity)
    return coloured
