"""How large a file is, is told from its header; what is no image to us is not opened at all."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from medsharp.images import ImageLimits
from medsharp.images.decoding_cost import pixels_to_decode
from medsharp.images.pictures import FORMATS

GREY = np.random.default_rng(2).integers(0, 256, (64, 48), dtype=np.uint8)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_costs_its_width_times_its_height(picture: Callable[..., bytes], kind: str) -> None:
    content = picture(GREY, kind)
    assert pixels_to_decode(content, ImageLimits()) == 64 * 48
    assert pixels_to_decode(content, ImageLimits(max_pixels=1000)) == 0


def test_frames_that_are_looked_at_cost_each(dicom: Callable[..., bytes]) -> None:
    content = dicom(np.stack([GREY] * 5), NumberOfFrames=5)
    assert pixels_to_decode(content, ImageLimits()) == 5 * 64 * 48
    assert pixels_to_decode(content, ImageLimits(), frame=2) == 64 * 48


@pytest.mark.parametrize("kind", ["ICO", "ICNS", "PPM", "TGA", "PCX", "SGI"])
def test_kinds_that_are_not_read_are_not_opened(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """An icon holds a PNG of any size, which Pillow decodes in full to read the icon's header."""
    stream = io.BytesIO()
    Image.fromarray(GREY).resize((64, 64)).save(stream, kind)
    decoded = []
    monkeypatch.setattr(Image.Image, "load", lambda image: decoded.append(image))
    assert pixels_to_decode(stream.getvalue(), ImageLimits()) == 0
    assert decoded == []
