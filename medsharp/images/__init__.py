"""Image files and bytes (PNG, JPEG, TIFF, BMP, WebP, GIF, DICOM) to checked 8-bit grey pixels."""

from medsharp.images.box import Box
from medsharp.images.decoded import DecodedImage
from medsharp.images.limits import ImageError, ImageLimits
from medsharp.images.read import Frame, read_frames, read_image

__all__ = ["Box", "DecodedImage", "Frame", "ImageError", "ImageLimits", "read_frames", "read_image"]
