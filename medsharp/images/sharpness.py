"""How sharp a frame is, to choose one of a clip."""

from __future__ import annotations

import numpy as np


def sharpness(pixels: np.ndarray) -> float:
    """Return the mean squared gradient relative to the squared mean grey (Tenenbaum's measure, without the gain).

    Frames that were averaged, or taken while the probe moved, have weaker edges; a brighter frame is not a sharper one.

    Args:
        pixels: uint8 [H, W].
    """
    grey = pixels.astype(np.float32)
    across = grey[1:-1, 2:] - grey[1:-1, :-2]
    down = grey[2:, 1:-1] - grey[:-2, 1:-1]
    return float((across**2 + down**2).mean() / max(float(grey.mean()), 1.0) ** 2)
