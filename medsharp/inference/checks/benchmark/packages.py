"""Pictures that installed packages bring with them: what anybody can measure the checks on.

Some of them were among those that `ultrasound.json` was fitted on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from medsharp.images import DecodedImage, ImageError, read_image

_LARGEST = 1024
"""Pixels of the longer side to which larger pictures are reduced; the checks look at 256 of them."""


@dataclass(frozen=True)
class Shelf:
    """Pictures of one kind in one package.

    Attributes:
        kind: What they are.
        package: A Python package by the name that it is imported by, or one of Debian's.
        folder: In the Python package, or of the system where it begins with a slash.
        patterns: Of file names in it.
    """

    kind: str
    package: str
    folder: str
    patterns: tuple[str, ...]

    def place(self) -> Path | None:
        """Return the folder, or None where the package is not installed."""
        folder = Path(self.folder)
        if not folder.is_absolute():
            found = find_spec(self.package)  # which does not import it
            if found is None or not found.submodule_search_locations:
                return None
            folder = Path(next(iter(found.submodule_search_locations))) / folder
        return folder if folder.is_dir() else None

    def files(self) -> list[Path]:
        """Return the files that are there, in the order of their names."""
        place = self.place()
        return [] if place is None else sorted({file for pattern in self.patterns for file in place.glob(pattern)})


OTHER_ORGANS = "ultrasound of the heart"
"""The kind that is ultrasound, of what the model does not know."""

_PICTURES = ("**/*.jpg", "**/*.jpeg", "**/*.png", "**/*.webp")

SHELVES: tuple[Shelf, ...] = (
    Shelf("photographs", "sklearn", "datasets/images", ("*.jpg",)),
    Shelf("photographs", "matplotlib", "mpl-data/sample_data", ("grace_hopper.jpg",)),
    Shelf("photographs", "gradio", "media_assets/images", ("*.jpg", "*.jpeg", "bus.png")),
    Shelf("photographs", "gradio", "test_data", ("cheetah2.jpg",)),
    Shelf(
        "photographs",
        "skimage",
        "data",
        tuple(f"{name}.*" for name in ("astronaut", "camera", "cat", "chelsea", "coffee", "coins", "rocket")),
    ),
    Shelf("textures", "skimage", "data", tuple(f"{name}.*" for name in ("brick", "grass", "gravel"))),
    Shelf("text", "skimage", "data", ("page.*", "text.*")),
    Shelf("microscopy", "skimage", "data", tuple(f"{name}.*" for name in ("cell", "ihc", "microaneurysms", "retina"))),
    Shelf("clip art", "matplotlib", "mpl-data/sample_data", ("Minduka_Present_Blue_Pack.png", "logo2.png")),
    Shelf("clip art", "gradio", "media_assets/images", ("avatar.png", "hf-logo_transpng.png", "logo.png")),
    Shelf("CT slices", "pydicom", "data/test_files", ("CT_small.dcm", "693_J2KI.dcm")),
    Shelf("MR slices", "pydicom", "data/test_files", ("MR_small.dcm", "examples_overlay.dcm")),
    Shelf("scintigraphy", "pydicom", "data/test_files", ("JPEG2000.dcm",)),
    Shelf("test patterns", "pydicom", "data/test_files", ("image_dfl.dcm", "SC_rgb_gdcm_KY.dcm", "SC_rgb_jpeg.dcm")),
    Shelf(OTHER_ORGANS, "pydicom", "data/test_files", ("examples_palette.dcm", "examples_ybr_color.dcm")),
    Shelf("clip art", "tuxpaint-stamps-default", "/usr/share/tuxpaint/stamps", ("**/*.png",)),
    Shelf("wallpapers", "plasma-workspace-wallpapers", "/usr/share/wallpapers", _PICTURES),
    Shelf("wallpapers", "mate-backgrounds", "/usr/share/backgrounds/mate", _PICTURES),
    Shelf("wallpapers", "gnome-backgrounds", "/usr/share/backgrounds/gnome", _PICTURES),
)
"""Where pictures are looked for."""


@dataclass(frozen=True)
class Found:
    """What a shelf had: its pictures, and how many of its files could not be read."""

    shelf: Shelf
    images: Sequence[DecodedImage]
    unread: int

    @property
    def sentence(self) -> str:
        """Say it: `3 photographs of sklearn`, `no MR slices: pydicom is not installed`."""
        shelf, lost = self.shelf, f", {self.unread} unreadable" if self.unread else ""
        if self.images or self.unread:
            return f"{shelf.package}: {len(self.images)} {shelf.kind}{lost}"
        absent = "is not installed" if shelf.place() is None else f"has none in {shelf.folder}"
        return f"{shelf.package}: {absent}, no {shelf.kind}"


def pictures_of_packages(shelves: Sequence[Shelf] = SHELVES) -> Iterator[Found]:
    """Read what is there, shelf by shelf."""
    for shelf in shelves:
        files, images = shelf.files(), []
        for file in files:
            try:
                images.append(_reduced(read_image(file)))
            except ImageError:  # said by their number: a codec that is not installed, a picture of several frames
                continue
        yield Found(shelf, images, len(files) - len(images))


def _reduced(image: DecodedImage) -> DecodedImage:
    scale = _LARGEST / max(image.pixels.shape)
    if scale >= 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.pixels.shape)

    def smaller(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))

    colours = None if image.colours is None else smaller(image.colours)
    return DecodedImage(smaller(image.pixels), image.format, image.flags, colours=colours)
