"""The images that benchmarks of predicting and of serving work on."""

from __future__ import annotations

from pathlib import Path

from medsharp.errors import InputError


def image_files(folder: Path | None, aside: Path) -> list[Path]:
    """Return the images of a folder, or of a simulated hospital.

    Args:
        folder: Of images; None simulates some.
        aside: Where these are written.

    Raises:
        InputError: There is no such folder, or it holds no images.
    """
    if folder is None:
        from medsharp.data.phantom import write_phantom

        folder = aside / "hospital"
        write_phantom(folder, hospital="A", patients=24, size=512)
    elif not folder.is_dir():
        raise InputError(f"--images {folder} is no folder")
    from medsharp.data.sources import list_images

    found = list_images(folder).images
    if not found:
        raise InputError(f"{folder} holds no images: no pictures and no DICOM files with an image")
    return list(found)
