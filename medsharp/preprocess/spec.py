"""What is decided once and frozen into a bundle: how an image becomes a network input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medsharp.images.box import Box

Crop = Literal["scan", "region", "lesion", "none"]


@dataclass(frozen=True)
class PreprocessSpec:
    """How an image becomes a network input.

    Attributes:
        size: Side of the square input in pixels.
        crop: What is cut away first. `scan`: dark borders; `region`: also what stands beside the scan on the screen,
            such as rulers, grey bars and the vendor's banners; `lesion`: all but the lesion and a margin, which needs
            its mask or box; `none`: nothing.
        fit: `letterbox` keeps the aspect ratio and pads with black, `stretch` does not.
        margin: With `crop` lesion, what is kept around it on each side, as a share of its longer side.
        inpaint: Replace calipers and text in the scan by what surrounds them.
    """

    size: int = 128
    crop: Crop = "scan"
    fit: Literal["letterbox", "stretch"] = "letterbox"
    margin: float = 0.2
    inpaint: bool = False


@dataclass(frozen=True)
class Placement:
    """Where a part of the original image lies in the input.

    Attributes:
        crop: The part of the original that is used.
        inner: Where that part lies in the [size, size] input.
    """

    crop: Box
    inner: Box
