"""One simulated image: a patient's tissue, seen by one scanner, on its screen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from medsharp.data.phantom.acoustics import to_grey
from medsharp.data.phantom.anatomy import Breast, build_tissue, draw_breast
from medsharp.data.phantom.lesions import Lesion, draw_lesion
from medsharp.data.phantom.overlays import draw_overlays
from medsharp.data.phantom.scanner import Scanner, find_scanner
from medsharp.data.phantom.texture import Grid
from medsharp.errors import InputError
from medsharp.images.box import Box

# The tissue is sampled finer than the screen shows it, as real images are before they are stored.
OVERSAMPLING = 1.5


@dataclass(frozen=True)
class PhantomImage:
    """A simulated B-mode image with what is in it.

    Attributes:
        pixels: uint8 [size, size].
        mask: bool [size, size], the lesion.
        label: `benign` or `malignant`.
        descriptors: BI-RADS descriptors by name (`shape`, `margin`, `orientation`, `echo_pattern`, `posterior`,
            `halo`, `calcifications`) and `size_mm`, the longest diameter.
    """

    pixels: np.ndarray
    mask: np.ndarray
    label: str
    descriptors: dict[str, str | float]


def simulate_image(
    hospital: str | Scanner,
    label: str,
    rng: np.random.Generator,
    size: int = 256,
    *,
    lesion: Lesion | None = None,
    breast: Breast | None = None,
) -> PhantomImage:
    """Simulate one breast-ultrasound image.

    Args:
        hospital: `A`, `B`, `C`, or a scanner of your own.
        label: `benign` or `malignant`.
        rng: Source of chance; the same state gives the same bytes.
        size: Side of the square image in pixels, at least 64.
        lesion: What the image shows, for a further view of a patient; drawn for `label` when missing.
        breast: The tissue around it; drawn when missing.

    Raises:
        InputError: Unknown hospital or label, or too small a size.
    """
    scanner = find_scanner(hospital).adjusted(rng)
    if size < 64:
        raise InputError(f"size {size} is too small for a simulated image; use 64 or more")
    lesion = lesion or draw_lesion(label, rng, atypical=scanner.atypical, scale=scanner.lesion_scale)
    if lesion.label != label:
        raise InputError(f"label '{label}' is not that of the lesion given, '{lesion.label}'")
    breast = breast or draw_breast(rng)

    across, down = lesion.size_mm, lesion.size_mm * lesion.aspect
    if lesion.orientation != "parallel":
        across, down = down, across
    depth_mm = max(float(rng.uniform(*scanner.depth_mm)), 1.25 * down + 7.0)
    width_mm = max(float(rng.uniform(*scanner.width_mm)), 1.3 * across + 4.0)
    scan, mm_per_pixel = _place(scanner, depth_mm, width_mm, size, rng)
    rows, columns = scan.height, scan.width
    grid = Grid(round(rows * OVERSAMPLING), round(columns * OVERSAMPLING), mm_per_pixel / OVERSAMPLING)
    tissue = build_tissue(breast, lesion, grid, rng)
    grey = Image.fromarray(to_grey(tissue, scanner, grid, rng))
    shown = np.asarray(grey.resize((columns, rows), Image.Resampling.BICUBIC, reducing_gap=None))
    inside = Image.fromarray(tissue.mask.astype(np.float32)).resize((columns, rows), Image.Resampling.BILINEAR)

    pixels = np.zeros((size, size), dtype=np.uint8)
    mask = np.zeros((size, size), dtype=bool)
    window = (slice(scan.top, scan.bottom), slice(scan.left, scan.right))
    pixels[window] = np.clip(np.rint(shown), 0, 255).astype(np.uint8)
    mask[window] = np.asarray(inside) >= 0.5
    screen = Image.fromarray(pixels)
    draw_overlays(screen, scanner, scan, _bounds(mask), mm_per_pixel, lesion.size_mm, rng)
    return PhantomImage(np.array(screen), mask, label, lesion.descriptors)


def _place(
    scanner: Scanner, depth_mm: float, width_mm: float, size: int, rng: np.random.Generator
) -> tuple[Box, float]:
    """Return where the scan lies on the screen, and the size of its pixels in mm."""
    margins = {"fill": (0.0, 0.0), "letterbox": (0.0, 0.0), "screen": (0.06, 0.04)}[scanner.border]
    room = (size * (1 - margins[0]), size * (1 - margins[1]))
    mm_per_pixel = max(width_mm / room[0], depth_mm / room[1])
    columns, rows = min(size, round(width_mm / mm_per_pixel)), min(size, round(depth_mm / mm_per_pixel))
    if scanner.border == "screen":
        left, top = int((size - columns) * rng.uniform(0.2, 0.8)), int((size - rows) * rng.uniform(0.0, 1.0))
    else:
        left, top = (size - columns) // 2, (size - rows) // 2
    return Box(top, left, top + rows, left + columns), mm_per_pixel


def _bounds(mask: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
