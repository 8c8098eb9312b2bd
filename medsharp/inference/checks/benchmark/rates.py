"""How often the checks of the picture speak, of which images; and of a hospital that they were not fitted on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time
from typing import Any, Literal

import numpy as np

from medsharp.data.manifest import Manifest
from medsharp.data.phantom.scanner import HOSPITALS
from medsharp.data.phantom.simulate import simulate_image
from medsharp.data.sources import list_images
from medsharp.errors import InputError
from medsharp.images import DecodedImage, read_image
from medsharp.images.decoded import luminance
from medsharp.inference.checks.benchmark.changes import changed
from medsharp.inference.checks.benchmark.fit import fit_likeness
from medsharp.inference.checks.benchmark.made import FITTED, UNSEEN, made
from medsharp.inference.checks.benchmark.organs import ORGANS
from medsharp.inference.checks.benchmark.overlays import OVERLAYS
from medsharp.inference.checks.benchmark.packages import OTHER_ORGANS, Found
from medsharp.inference.checks.judge import Judge
from medsharp.inference.checks.picture import Picture
from medsharp.inference.checks.statistics import statistics_of
from medsharp.inference.checks.ultrasound import Likeness
from medsharp.progress import Progress

Sort = Literal["lesions", "no lesion", "overlay", "other organ", "other, fitted", "other, unseen", "other, packages"]
"""Ultrasound with a lesion, without one, with something laid on it, of another organ, or no ultrasound at all."""

PHOTOGRAPHS = ("photographs", "faces", "wallpapers", "drawn wallpapers")
"""Kinds that are photographs, or pass for them; they are counted together too."""

COPIES = 4
"""Changed copies of each image, for the fit; of a data set more than twice as large as the least, fewer."""

SIMULATED = "simulated"
"""Images of the simulated hospitals: the check shall know them too."""


@dataclass(frozen=True)
class Group:
    """Images of one kind.

    Attributes:
        name: What they are.
        sort: What the checks shall do with them follows of it.
        images: As they were decoded.
    """

    name: str
    sort: Sort
    images: Sequence[DecodedImage] = field(repr=False)


@dataclass(frozen=True)
class Rate:
    """What became of a group: images in all, refused, only cautioned, and how many each check found."""

    name: str
    sort: str
    images: int
    refused: int
    cautioned: int
    by_check: dict[str, int]


@dataclass(frozen=True)
class LeftOut:
    """A hospital that the fit left out: its images, those refused, and pictures of unseen kinds refused then."""

    name: str
    images: int
    refused: int
    others: int
    others_refused: int


def groups_of(
    manifests: Sequence[Manifest],
    *,
    no_lesion: str = "normal",
    others: Path | None = None,
    unseen: Path | None = None,
    count: int = 60,
    seed: int = 0,
) -> list[Group]:
    """Read and make all images.

    Args:
        manifests: Data sets of breast ultrasound.
        no_lesion: The label of images without a lesion.
        others: Folder with a folder of pictures for each kind that the check may be fitted on.
        unseen: The same of kinds that it is measured on alone.
        count: How many pictures of each made kind, and images under each overlay.
        seed: Of what is made.

    Raises:
        InputError: A folder is not there or holds no folder with images, or an image cannot be read.
    """
    for given in (others, unseen):
        if given is not None and not given.is_dir():
            raise InputError(f"{given} is not a folder; give one with a folder of pictures for each kind")
    groups = [Group(SIMULATED, "lesions", _simulated(count, seed))]
    for manifest in manifests:
        rows = manifest.table.to_dict("records")
        for sort in ("lesions", "no lesion"):
            chosen = [row for row in rows if (row["label"] == no_lesion) == (sort == "no lesion")]
            if chosen:
                with ThreadPoolExecutor() as pool:
                    name = f"{manifest.info.name}, {'with a lesion' if sort == 'lesions' else 'without one'}"
                    groups.append(Group(name, sort, list(pool.map(manifest.read, chosen))))
    rng = np.random.default_rng(seed)
    lesions = [group for group in groups if group.sort == "lesions"]
    pixels = [image.pixels for group in lesions[1:] or lesions for image in group.images if image.colours is None]
    for name, lay in OVERLAYS.items():
        drawn = rng.integers(0, len(pixels), (count, 2))
        laid = [_decoded(lay(pixels[one], pixels[other], rng)) for one, other in drawn]
        groups.append(Group(name, "overlay", laid))
    kinds: tuple[tuple[Sort, Any, Path | None], ...] = (
        ("other organ", ORGANS, None),
        ("other, fitted", FITTED, others),
        ("other, unseen", UNSEEN, unseen),
    )
    for kind, makers, folder in kinds:
        by_name: dict[str, list[DecodedImage]] = {}
        for name, picture in made(makers, count, seed):
            by_name.setdefault(name, []).append(_decoded(picture))
        groups += [Group(name, kind, images) for name, images in by_name.items()]
        groups += [] if folder is None else _folders(folder, kind)
    return groups


def package_groups(found: Sequence[Found]) -> list[Group]:
    """Lay pictures of packages together by their kind."""
    by_kind: dict[str, list[DecodedImage]] = {}
    for one in found:
        by_kind.setdefault(one.shelf.kind, []).extend(one.images)
    return [
        Group(kind, "other organ" if kind == OTHER_ORGANS else "other, packages", images)
        for kind, images in by_kind.items()
        if images
    ]


def rates_of(groups: Sequence[Group], judge: Judge, progress: Progress | None = None) -> list[Rate]:
    """Ask the checks of every image of every group."""
    rates = []
    for number, group in enumerate(groups, start=1):
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(judge.of_image, group.images))
        refused = [one for one in found if any(finding.outcome == "refusal" for finding in one)]
        by_check = Counter(finding.check for one in found for finding in one)
        cautioned = sum(bool(one) for one in found) - len(refused)
        rates.append(Rate(group.name, group.sort, len(found), len(refused), cautioned, dict(by_check.most_common())))
        if progress is not None:
            progress(number, len(groups), group.name)
    return rates


def pooled(rates: Sequence[Rate], kinds: Sequence[str], name: str) -> list[Rate]:
    """Return one rate for each sort of kinds that are much alike, where there are several of it, and one for all.

    Args:
        rates: Of groups.
        kinds: Names of those that count.
        name: What they are together.
    """
    alike = [rate for rate in rates if rate.name in kinds and rate.sort.startswith("other,")]
    parts = {sort: [rate for rate in alike if rate.sort == sort] for sort in dict.fromkeys(one.sort for one in alike)}
    joined = [_together(part, name, sort) for sort, part in parts.items() if len(part) > 1]
    return [*joined, *([_together(alike, name, "other, all")] if len(parts) > 1 else [])]


def _together(rates: Sequence[Rate], name: str, sort: str) -> Rate:
    by_check: Counter[str] = Counter()
    for rate in rates:
        by_check.update(rate.by_check)
    images, refused, cautioned = (
        sum(getattr(rate, key) for rate in rates) for key in ("images", "refused", "cautioned")
    )
    return Rate(name, sort, images, refused, cautioned, dict(by_check.most_common()))


def seconds_an_image(groups: Sequence[Group], judge: Judge, count: int = 200) -> float:
    """Return the processor's seconds that the checks take of an ultrasound image, after one that warms them up."""
    images = [image for group in groups if group.sort == "lesions" for image in group.images]
    chosen = images[:: max(1, len(images) // count)]
    judge.of_image(chosen[0])
    start = process_time()
    for image in chosen:
        judge.of_image(image)
    return (process_time() - start) / len(chosen)


def fitted(groups: Sequence[Group], seed: int = 0) -> dict[str, Any]:
    """Fit `ultrasound.json` on lesion images, changed copies of them, and pictures of the kinds for fitting."""
    ultrasound, copies, others = _statistics(groups, seed)
    return fit_likeness(np.concatenate(list(ultrasound.values())), np.concatenate(list(copies.values())), others)


def left_out(groups: Sequence[Group], seed: int = 0) -> list[LeftOut]:
    """Fit on all data sets but one, and simulated images, and ask of that one and of pictures of unseen kinds."""
    ultrasound, copies, others = _statistics(groups, seed)
    pictures = [image for group in groups if group.sort == "other, unseen" for image in group.images]
    unseen = _of(pictures)
    results = []
    for name in ultrasound if len(ultrasound) > 2 else ():
        rest = [other for other in ultrasound if other != name]
        if name == SIMULATED:
            continue
        content = fit_likeness(
            np.concatenate([ultrasound[other] for other in rest]),
            np.concatenate([copies[other] for other in rest]),
            others,
        )
        likeness = Likeness.of(content)
        refused, others_refused = (int((likeness(values) < 0).sum()) for values in (ultrasound[name], unseen))
        results.append(LeftOut(name, len(ultrasound[name]), refused, len(unseen), others_refused))
    return results


def _statistics(groups: Sequence[Group], seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    lesions = [group for group in groups if group.sort == "lesions"]
    if len(lesions) == 1:
        raise InputError("give --data with ultrasound images of lesions: the check is fitted on them")
    least = min(len(group.images) for group in lesions if group.name != SIMULATED)
    ultrasound, copies = {}, {}
    for group in lesions:
        ultrasound[group.name] = _of(group.images)
        wanted = COPIES * min(len(group.images), least * 2)
        picks = [copy % len(group.images) for copy in range(wanted)]
        copies[group.name] = _of([
            _decoded(changed(group.images[pick].pixels, np.random.default_rng([seed, copy])))
            for copy, pick in enumerate(picks)
        ])  # fmt: skip
    others = [image for group in groups if group.sort == "other, fitted" for image in group.images]
    return ultrasound, copies, _of(others)


def _of(images: Sequence[DecodedImage]) -> np.ndarray:
    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(lambda image: statistics_of(Picture(image)), images)))


def _simulated(count: int, seed: int) -> list[DecodedImage]:
    rng = np.random.default_rng([seed, 1])
    return [
        DecodedImage(simulate_image(hospital, label, rng).pixels, "simulated")
        for hospital in HOSPITALS
        for label in ("benign", "malignant")
        for _ in range(count)
    ]


def _decoded(picture: np.ndarray) -> DecodedImage:
    if picture.ndim == 2:
        return DecodedImage(picture, "made")
    grey, colours = luminance(picture)
    return DecodedImage(grey, "made", colours=colours)


def _folders(folder: Path, sort: Sort) -> list[Group]:
    groups = []
    for below in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = list_images(below).images
        if files:
            groups.append(Group(below.name, sort, [read_image(file) for file in files]))
    if not groups:
        raise InputError(f"{folder} has no folder with pictures; make one for each kind")
    return groups
