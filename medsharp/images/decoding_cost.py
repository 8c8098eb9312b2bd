"""How many pixels decoding a file takes, from its header alone: what is large can wait elsewhere than what is small."""

from __future__ import annotations

import io
import warnings

from PIL import Image

from medsharp.images.dicom import open_dicom
from medsharp.images.dicom_start import is_dicom
from medsharp.images.limits import ImageError, ImageLimits
from medsharp.images.pictures import FORMATS
from medsharp.images.read import Frame


def pixels_to_decode(content: bytes, limits: ImageLimits, frame: Frame = "sharpest") -> int:
    """Return width times height of a picture, times the frames that are decoded to find the sharpest of a clip.

    Args:
        content: The file.
        limits: What is refused before it is decoded.
        frame: Of a clip; one that is named costs that frame alone.

    Returns:
        0 for what is refused before it is decoded, as no image or as too large a one: `read_image` says why.
    """
    try:
        if is_dicom(content):
            clip = open_dicom(content, "", limits, region=False)
            return clip.width * clip.height * (clip.frames if frame == "sharpest" else 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
        limits.check_size(width, height, "")
        return width * height
    except ImageError:
        return 0
    # Pillow raises whatever it stumbles upon in a damaged header.
    except Exception:
        return 0
