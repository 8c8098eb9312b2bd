"""What is kept of an image after one look: digests, a perceptual hash, a thumbnail; enough to tell duplicates."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagehash
import numpy as np
from PIL import Image

from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.files import sha256_file
from medsharp.images import DecodedImage, ImageLimits
from medsharp.images.values import TWO_GREYS

HASH_SIDE = 16
"""A difference hash of 16 x 16 comparisons: 256 bits."""

THUMBNAIL_SIDE = 64


@dataclass(frozen=True)
class Look:
    """An image as far as duplicates concern it.

    Attributes:
        sha256: Of the file; empty where it cannot be opened.
        reason: Why it cannot be used: `unreadable: ...` or `constant image`; else empty.
        size: Width and height in pixels, 0 where it is unreadable.
        flags: What decoding did, as `read_image` says, and whether only two greys are there.
        content: Digest of size and grey pixels: the same for a file that was only saved again.
        bits: uint8 [2, 32], the packed difference hash of the image as it is and mirrored.
        thumbnail: uint8 [64, 64], the whole image, whatever its aspect ratio.
    """

    sha256: str
    reason: str
    size: tuple[int, int] = (0, 0)
    flags: tuple[str, ...] = ()
    content: bytes = b""
    bits: np.ndarray | None = None
    thumbnail: np.ndarray | None = None


Seen = Callable[[Manifest, Any, DecodedImage], None]
"""Is given each image that was decoded, with its row, so that nobody need decode it again; several at once."""


def look(manifest: Manifest, row: Any, limits: ImageLimits = ImageLimits(), seen: Seen | None = None) -> Look:
    """Read the image of a manifest's row once; what is wrong with it is told, not raised."""
    if manifest.store:
        with manifest.of_row(row).at_hand() as here:
            return look(here, row, limits, seen)
    digest, path = "", manifest.path(row["image"])
    try:
        digest = sha256_file(path)
        decoded = manifest.read(row, limits)
    except InputError as error:
        return Look(digest, manifest.as_stored(f"unreadable: {error}"))
    except OSError as error:
        return Look(digest, manifest.as_stored(f"unreadable: {path}: {error.strerror}"))
    if seen is not None:
        seen(manifest, row, decoded)
    return look_at_pixels(decoded.pixels, digest, decoded.flags)


def look_at_pixels(pixels: np.ndarray, digest: str = "", flags: tuple[str, ...] = ()) -> Look:
    """Look at grey uint8 pixels [H, W] that are decoded already."""
    height, width = pixels.shape
    if pixels.min() == pixels.max():
        return Look(digest, "constant image", (width, height), flags)
    if np.count_nonzero(np.bincount(pixels.ravel(), minlength=256)) == 2:
        flags = (*flags, TWO_GREYS)
    content = hashlib.blake2b(pixels.tobytes(), digest_size=16, key=f"{width}x{height}".encode())
    small = Image.fromarray(pixels).resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    return Look(digest, "", (width, height), flags, content.digest(), perceptual_hash(pixels), np.asarray(small))


def perceptual_hash(pixels: np.ndarray) -> np.ndarray:
    """Return the packed 256-bit difference hash of an image as it is and mirrored.

    Each bit tells whether grey rises from one of 17 x 16 fields to its right neighbour.

    Args:
        pixels: uint8 [H, W].

    Returns:
        uint8 [2, 32].
    """
    # Reduced here to what the hash compares, so that it is done once for both; the hash then finds it small already.
    picture = Image.fromarray(pixels).resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.LANCZOS)
    both = (picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    return np.stack([np.packbits(imagehash.dhash(version, HASH_SIDE).hash.ravel()) for version in both])
