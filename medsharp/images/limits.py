"""What is refused before anything is decoded, and the sentence that says so."""

from __future__ import annotations

from dataclasses import dataclass

from medsharp.errors import InputError


class ImageError(InputError):
    """A file that is not an image that can be used; the sentence names it and says why."""


MOST_PIXELS = 178_956_970
"""Of a picture, whatever the limits say: Pillow opens none of more than twice its `MAX_IMAGE_PIXELS`."""


@dataclass(frozen=True)
class ImageLimits:
    """What is refused before anything is decoded.

    Attributes:
        max_bytes: Of the file, and of what a deflated DICOM file unpacks to.
        max_pixels: Width times height of a frame; of pictures that are no DICOM at most `MOST_PIXELS`.
        max_side: Longest side in pixels.
        min_side: Shortest side in pixels.
        max_frames: Of a DICOM clip.
        max_clip_pixels: Width times height times frames of a clip of which every frame is decoded.
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 40_000_000
    max_side: int = 16_384
    min_side: int = 16
    max_frames: int = 2_000
    max_clip_pixels: int = 500_000_000

    def check_bytes(self, size: int, name: str) -> None:
        """Check the size of a file.

        Raises:
            ImageError: It is empty or too large.
        """
        if size == 0:
            raise ImageError(f"{name} is empty")
        if size > self.max_bytes:
            raise ImageError(f"{name} has {size / 2**20:.0f} MiB; the most is {self.max_bytes / 2**20:.0f} MiB")

    def check_size(self, width: int, height: int, name: str) -> None:
        """Check width and height in pixels, as a file's header gives them.

        Raises:
            ImageError: The image is too small or too large.
        """
        if min(width, height) < self.min_side:
            raise ImageError(f"{name} is {width} x {height} pixels; the least is {self.min_side} x {self.min_side}")
        if max(width, height) > self.max_side or width * height > self.max_pixels:
            raise ImageError(
                f"{name} is {width} x {height} pixels; the most is {self.max_side} a side and {self.max_pixels} in all"
            )

    def check_frames(self, frames: int, name: str) -> None:
        """Check the number of frames of a clip.

        Raises:
            ImageError: There is none, or there are too many.
        """
        if frames < 1:
            raise ImageError(f"{name} has no frames")
        if frames > self.max_frames:
            raise ImageError(f"{name} has {frames} frames; the most is {self.max_frames}")

    def check_clip(self, width: int, height: int, frames: int, name: str) -> None:
        """Check how much decoding every frame of a clip gives.

        Raises:
            ImageError: It is too much.
        """
        if width * height * frames > self.max_clip_pixels:
            raise ImageError(
                f"{name} has {frames} frames of {width} x {height} pixels; the most is {self.max_clip_pixels} pixels "
                "in all frames together; choose one frame by its number"
            )
