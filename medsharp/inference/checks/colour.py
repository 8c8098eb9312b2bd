"""Colour Doppler, elastography and other images in colour: the model knows grey B-mode images alone.

Calipers, body markers and text are coloured too, but thin: only patches of colour count. An image tinted in one hue, as
some scanners show B-mode, is no overlay.
"""

from __future__ import annotations

import numpy as np

from medsharp.images.decoded import LEAST_FLOW
from medsharp.inference.checks.entry import ImageCheck
from medsharp.inference.checks.picture import Picture

_PATCH = np.ones((3, 3), dtype=bool)
"""A patch holds such a square, in an image of at most 256 pixels a side; a line does not."""

_WITHOUT_COLOUR = "upload the same view in grey scale (B-mode), saved without colour Doppler or elastography"

_TINTED = 0.5
_ONE_HUE = 0.95


def _patches(picture: Picture) -> float:
    """Return the share of the image that is patches of colour; 0 for one tinted as a whole."""
    coloured = picture.coloured
    if coloured is None:
        return 0.0
    from scipy import ndimage  # takes as long to load as a grey image takes to predict

    share = float(ndimage.binary_opening(coloured, _PATCH).mean())
    if share > _TINTED and picture.hue_agreement > _ONE_HUE:
        return 0.0
    return share


def _flow(picture: Picture) -> float:
    """Return the share of the image that is blood flow, as the audit of data sets tells it."""
    if picture.colours is None:
        return 0.0
    # Loads SciPy and pandas, which a grey image does not need.
    from medsharp.data.audit.flow import measure_colour

    return measure_colour(picture.colours).flow


DOPPLER = ImageCheck(
    "doppler",
    "refusal",
    "blood flow is drawn in colour: the model knows grey B-mode images alone",
    "0.04 % of the pixels are flow in the tissue, as the audit of data sets tells flow from markers and calipers",
    _flow,
    LEAST_FLOW,
    advice=_WITHOUT_COLOUR,
)

COLOURED = ImageCheck(
    "coloured",
    "refusal",
    "parts of the image are in colour, as in colour Doppler and elastography: the model knows grey B-mode images alone",
    "more than 2 % of the image is patches of colour, of 3 x 3 pixels at least where the image has 256",
    _patches,
    0.02,
    advice=_WITHOUT_COLOUR,
)
