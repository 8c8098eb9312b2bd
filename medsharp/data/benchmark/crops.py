"""How many crops of real images the audit finds again, and how many pairs it finds that are none."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from medsharp.data.benchmark.section import Section
from medsharp.data.duplicates.crops import crop_matches, describe
from medsharp.data.manifest import Manifest
from medsharp.progress import Progress

SHARES = ((0.70, 0.75), (0.75, 0.85), (0.85, 0.95))
"""Of each side that a crop keeps."""

_CROPPED = 5
"""Every so many-th image is cropped, once for each of `SHARES`."""

_KINDS = ("plain", "enlarged", "reduced", "as JPEG")


def measure_crops(manifests: Sequence[Manifest], *, seed: int = 0, progress: Progress | None = None) -> Section:
    """Crop every fifth image of data sets, put the crops among all images, and look for all crops.

    A crop keeps 70 to 95 % of each side, its width and height a little differently; a quarter each stay as they are,
    are enlarged to the size of the original, reduced to 70 %, or made brighter and saved as JPEG of quality 75.

    Args:
        manifests: Images that are excluded are left out.
        seed: Of the crops.
        progress: Called with images done, images in all and what is being done.

    Returns:
        A row a range of shares with its recall. Precision: of all pairs that are found, those of a crop with its
        original or with another image that the original matches, too, are right; pairs of two originals are counted
        apart, as near-duplicates in the data set are found with good reason.
    """
    rng = np.random.default_rng(seed)
    originals = [manifest.read(row).pixels for manifest in manifests for row in manifest.included.to_dict("records")]
    parts: list[np.ndarray] = []
    origin: list[int] = []
    share_of: list[int] = []
    for number in range(0, len(originals), _CROPPED):
        for place, shares in enumerate(SHARES):
            parts.append(_crop(originals[number], shares, _KINDS[len(parts) % len(_KINDS)], rng))
            origin.append(number)
            share_of.append(place)
    start = time.perf_counter()
    features = []
    with ThreadPoolExecutor() as pool:
        for described in pool.map(describe, [*originals, *parts]):
            features.append(described)
            if progress is not None:
                progress(len(features), len(originals) + len(parts), "describing images and crops")
    found = {(match.first, match.second) for match in crop_matches(features)}
    seconds = time.perf_counter() - start

    count = len(originals)
    right = {(number, count + place) for place, number in enumerate(origin)}
    source = [*range(count), *origin]
    scenes = {(source[a], source[b]) for a, b in found if b < count}
    alike = scenes | {(b, a) for a, b in scenes} | {(number, number) for number in range(count)}
    wrong = [(a, b) for a, b in found if b >= count and (source[a], source[b]) not in alike]
    rows = []
    for place, (low, high) in enumerate(SHARES):
        planted = [pair for pair, share in zip(sorted(right, key=lambda pair: pair[1]), share_of) if share == place]
        hit = sum(pair in found for pair in planted)
        rows.append((f"{low:.0%} to {high:.0%}", f"{len(planted):,}", f"{hit:,}", f"{hit / len(planted):.1%}"))
    crops = sum(b >= count for _, b in found)
    return Section(
        "crops",
        f"Crops found again among {count:,} images of {' and '.join(m.info.name for m in manifests)}",
        ("share of each side", "crops", "found", "recall"),
        tuple(rows),
        (
            f"precision {1 - len(wrong) / max(crops, 1):.1%}: {len(wrong)} of {crops:,} pairs with a crop are of two "
            "scenes",
            f"{len(scenes):,} pairs are of two images of the data sets themselves",
            f"{len(features):,} images and crops described and compared in {seconds:.0f} s",
        ),
    )


def _crop(pixels: np.ndarray, shares: tuple[float, float], kind: str, rng: np.random.Generator) -> np.ndarray:
    height, width = pixels.shape
    high, wide = (max(16, int(side * rng.uniform(*shares))) for side in (height, width))
    top, left = rng.integers(0, height - high + 1), rng.integers(0, width - wide + 1)
    part = Image.fromarray(pixels[top : top + high, left : left + wide])
    if kind == "enlarged":
        scale = min(height / high, width / wide)
        part = part.resize((round(wide * scale), round(high * scale)), Image.Resampling.BICUBIC)
    elif kind == "reduced":
        part = part.resize((round(0.7 * wide), round(0.7 * high)), Image.Resampling.LANCZOS)
    elif kind == "as JPEG":
        part = _as_jpeg(part)
    return np.asarray(part)


def _as_jpeg(part: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    part.point([min(255, round(1.15 * grey + 6)) for grey in range(256)]).save(stream, "JPEG", quality=75)
    return Image.open(stream)
