"""How many known drawings the audit finds when they are burned into images, and what it says of images as they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from medsharp.data.audit.flow import measure_colour
from medsharp.data.audit.views import is_dual_view
from medsharp.data.benchmark.section import Section
from medsharp.data.manifest import Manifest
from medsharp.data.phantom import drawings
from medsharp.data.phantom.drawings import Colour
from medsharp.data.phantom.scanner import find_scanner
from medsharp.data.phantom.simulate import simulate_image
from medsharp.images import Box
from medsharp.images.decoded import LEAST_FLOW
from medsharp.preprocess import find_drawings
from medsharp.progress import Progress

LINES = ("LT AXILLA", "RT UOQ", "R BREAST", "MAMA DIR. QSE", "LEFT 10H 2CM", "QIE MAMA DIREITA", "RETRO-AREOLAR")
_COLOURS: tuple[Colour, ...] = ((255, 255, 0), (0, 255, 0), (255, 160, 0), (0, 255, 255), (255, 40, 40), (80, 90, 255))
_SIZES = (256, 640)

Burn = Callable[[Image.Image, np.random.Generator], None]
Seen = Callable[[np.ndarray], bool]


def measure_drawings(
    manifests: Sequence[Manifest] = (), *, images: int = 60, seed: int = 0, progress: Progress | None = None
) -> Section:
    """Burn drawings of many sizes, styles, greys and colours into images and count those that are found.

    Args:
        manifests: Data sets whose images are used besides simulated ones; of each, images from all over it.
        images: How many of each set.
        seed: Of the simulated images and of the drawings.
        progress: Called with images done, images in all and what is being done.

    Returns:
        A row a kind of drawing; for each set of images, how many are found after burning, and how many were flagged
        before. Simulated images have no drawing before, so that what is flagged is a false alarm; real ones may.
    """
    sets = {f"simulated, {size} pixels": _simulated(images, size, seed) for size in _SIZES}
    sets |= {manifest.info.name: _spread(manifest, images) for manifest in manifests}
    total, done = sum(map(len, sets.values())) * len(_KINDS), 0
    cells: dict[str, list[str]] = {kind: [kind] for kind in _KINDS}
    for pictures in sets.values():
        for number, (kind, (burn, seen)) in enumerate(_KINDS.items()):

            def judge(
                place: int,
                pictures: Sequence[np.ndarray] = pictures,
                burn: Burn = burn,
                seen: Seen = seen,
                number: int = number,
            ) -> tuple[bool, bool]:
                rng = np.random.default_rng([seed, number, place])
                plain = np.stack([pictures[place]] * 3, axis=-1)
                screen = Image.fromarray(plain)
                burn(screen, rng)
                return seen(np.asarray(screen)), seen(plain)

            found = before = 0
            with ThreadPoolExecutor() as pool:
                for after, already in pool.map(judge, range(len(pictures))):
                    found, before, done = found + after, before + already, done + 1
                    if progress is not None:
                        progress(done, total, "burning drawings")
            cells[kind] += [f"{found} of {len(pictures)}", f"{before}"]
    for pictures in sets.values():
        joined, single = _count_views(pictures, seed)
        cells.setdefault("two views side by side", ["two views side by side"])
        cells["two views side by side"] += [f"{joined} of {len(pictures)}", f"{single}"]
    columns = ("burned in", *(heading for name in sets for heading in (f"{name}: found", f"{name}: before")))
    return Section(
        "drawings",
        "Drawings that are found",
        columns,
        tuple(map(tuple, cells.values())),
        (
            "before: flagged before anything was burned in; a false alarm on simulated images, which have no drawing",
            "a body marker is meant not to be found: the row counts those taken for flow",
        ),
    )


def _simulated(count: int, size: int, seed: int) -> list[np.ndarray]:
    def simulate(number: int) -> np.ndarray:
        scanner = dataclasses.replace(find_scanner("ABC"[number % 3]), overlay="none")
        rng = np.random.default_rng([seed, size, number])
        return simulate_image(scanner, ("benign", "malignant")[number % 2], rng, size).pixels

    with ThreadPoolExecutor() as pool:
        return list(pool.map(simulate, range(count)))


def _spread(manifest: Manifest, count: int) -> list[np.ndarray]:
    rows = manifest.included.to_dict("records")
    return [manifest.read(rows[number]).pixels for number in sorted({n * len(rows) // count for n in range(count)})]


def _scale(screen: Image.Image) -> float:
    return max(screen.size) / 256


def _place(screen: Image.Image, rng: np.random.Generator) -> tuple[int, int]:
    return int(screen.width * rng.uniform(0.15, 0.85)), int(screen.height * rng.uniform(0.1, 0.7))


def _calipers(
    style: drawings.CaliperStyle, *, coloured: bool = False, dotted: bool = False, numbered: bool = False
) -> Burn:
    def burn(screen: Image.Image, rng: np.random.Generator) -> None:
        scale = _scale(screen)
        arm = max(3, round(rng.uniform(3, 6) * scale))
        grey = int(rng.integers(150, 256))
        drawings.draw_calipers(
            screen,
            [_place(screen, rng) for _ in range(2 * int(rng.integers(1, 3)))],
            style=style,
            arm=arm,
            thickness=int(rng.integers(1, max(1, arm // 3) + 1)),
            colour=_COLOURS[rng.integers(len(_COLOURS))] if coloured else (grey, grey, grey),
            dotted=dotted,
            numbered=numbered,
        )

    return burn


def _text(screen: Image.Image, rng: np.random.Generator) -> None:
    grey = int(rng.integers(150, 256))
    height = round(rng.uniform(7, 13) * _scale(screen))
    place = int(screen.width * rng.uniform(0.05, 0.4)), int(screen.height * rng.uniform(0.1, 0.9))
    drawings.draw_text(screen, place, LINES[rng.integers(len(LINES))], height=height, colour=(grey, grey, grey))


def _ruler(screen: Image.Image, rng: np.random.Generator) -> None:
    scale, grey = _scale(screen), int(rng.integers(150, 256))
    step = round(rng.uniform(8, 20) * scale)
    drawings.draw_ruler(
        screen,
        x=int(screen.width * rng.uniform(0.9, 0.95)),
        top=round(0.05 * screen.height),
        step=step,
        ticks=int(0.85 * screen.height / step),
        length=round(4 * scale),
        colour=(grey, grey, grey),
    )


def _marker(screen: Image.Image, rng: np.random.Generator) -> None:
    side = round(rng.uniform(0.12, 0.31) * min(screen.size))
    gap = rng.integers(0, 8, size=2)
    top = int(gap[0]) if rng.random() < 0.5 else screen.height - side - int(gap[0])
    left = int(gap[1]) if rng.random() < 0.5 else screen.width - side - int(gap[1])
    drawings.draw_body_marker(screen, Box(top, left, top + side, left + side), rng)


def _flow(screen: Image.Image, rng: np.random.Generator) -> None:
    height, width = (round(side * rng.uniform(0.3, 0.45)) for side in (screen.height, screen.width))
    top, left = round(screen.height * rng.uniform(0.15, 0.45)), round(screen.width * rng.uniform(0.15, 0.45))
    drawings.draw_flow(screen, Box(top, left, top + height, left + width), rng, share=float(rng.uniform(0.03, 0.2)))


def _has_calipers(rgb: np.ndarray) -> bool:
    return find_drawings(rgb.max(axis=-1)).crosses > 0


def _has_text(rgb: np.ndarray) -> bool:
    return find_drawings(rgb.max(axis=-1)).letters > 0


def _has_ruler(rgb: np.ndarray) -> bool:
    return find_drawings(rgb.max(axis=-1)).ticks > 0


def _has_flow(rgb: np.ndarray) -> bool:
    return measure_colour(rgb).flow >= LEAST_FLOW


_KINDS: dict[str, tuple[Burn, Seen]] = {
    "calipers +": (_calipers("plus"), _has_calipers),
    "calipers x": (_calipers("cross"), _has_calipers),
    "calipers + with numerals and dotted lines": (_calipers("plus", dotted=True, numbered=True), _has_calipers),
    "calipers + in colour": (_calipers("plus", coloured=True), _has_calipers),
    "calipers T": (_calipers("tee"), _has_calipers),
    "a line of text": (_text, _has_text),
    "a ruler": (_ruler, _has_ruler),
    "flow in a Doppler window": (_flow, _has_flow),
    "a coloured body marker, taken for flow": (_marker, _has_flow),
    "calipers in colour, taken for flow": (_calipers("plus", coloured=True, dotted=True), _has_flow),
}


def _count_views(pictures: Sequence[np.ndarray], seed: int) -> tuple[int, int]:
    """Count pairs of views that are seen as such, and single views that are taken for pairs."""
    joined = 0
    for place, picture in enumerate(pictures):
        rng = np.random.default_rng([seed, 99, place])
        other = (
            pictures[(place + 1 + int(rng.integers(len(pictures) - 1))) % len(pictures)]
            if len(pictures) > 1
            else picture
        )
        gap = int(rng.integers(0, max(1, round(0.04 * picture.shape[1])) + 1))
        both = drawings.join_views(picture, other, gap, level=int(rng.choice([0, 8, 30])))
        joined += is_dual_view(both)
    return joined, sum(is_dual_view(picture) for picture in pictures)
