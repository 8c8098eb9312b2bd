"""Image files and bytes (PNG, JPEG, TIFF, BMP, WebP, GIF, DICOM), images in memory too, to checked 8-bit grey."""

from medsharp.images.box import Box
from medsharp.images.decoded import DecodedImage
from medsharp.images.dicom_start import is_dicom
from medsharp.images.limits import ImageError, ImageLimits
from medsharp.images.marks import Marks, read_marks
from medsharp.images.read import Frame, Source, read_frames, read_image
from medsharp.images.values import ValueRange, read_range

__all__ = [
    "Box",
    "DecodedImage",
    "Frame",
    "ImageError",
    "ImageLimits",
    "Marks",
    "Source",
    "ValueRange",
    "is_dicom",
    "read_frames",
    "read_image",
    "read_marks",
    "read_range",
]
