"""The images a robustness run is about: audited as for an evaluation, chosen by class, decoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from medsharp.data.dealing import choose_by_class
from medsharp.data.duplicates import tie_duplicates
from medsharp.data.lesion import BOX, lesion_area, lesion_box, read_box, within
from medsharp.data.manifest import Manifest
from medsharp.data.sources import open_dataset
from medsharp.errors import InputError
from medsharp.evaluation.predictions import clusters_of
from medsharp.images import DecodedImage, ImageLimits
from medsharp.images.box import Box
from medsharp.progress import Progress
from medsharp.quantities import counted, whole
from medsharp.robustness.corruptions.registry import LEAST_SIDE

_MEMORY = 2 * 2**30


@dataclass(frozen=True)
class Sample:
    """Images of one data set.

    Attributes:
        manifest: As audited; what is not among the images is excluded.
        rows: Its included rows, numbered from 0.
        notes: Sentences on what was left out, for a person.
        limits: Of images and masks.
    """

    manifest: Manifest
    rows: pd.DataFrame
    notes: tuple[str, ...]
    limits: ImageLimits = ImageLimits()
    _decoded: dict[int, DecodedImage] = field(default_factory=dict, repr=False)
    _lesions: dict[int, Box] = field(default_factory=dict, repr=False)
    _areas: dict[int, np.ndarray | None] = field(default_factory=dict, repr=False)
    _held: list[int] = field(default_factory=lambda: [0], repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def key(self) -> str:
        """A short name for just these images, labels and patients."""
        columns = ["image", "sha256", "label", "patient", "site", "group"]
        if (self.rows["frame"] != "").any():
            columns.append("frame")
        text = self.rows[columns].to_csv(index=False, lineterminator="\n")
        if BOX in self.rows:  # what models that crop look at, where `lesion_area` is the mask's
            boxes = self.rows.loc[(self.rows[BOX] != "") & (self.rows["mask"] != ""), BOX]
            text += boxes.to_csv(lineterminator="\n") if len(boxes) else ""
        declared = [self.manifest.info.range, *(part.range for part in self.manifest.parts)]
        if any(declared):  # the same files in other greys
            text += " ".join(map(str, declared))
        # Some corruptions look where the lesion is.
        digest = hashlib.sha256(text.encode("utf-8"))
        for place in range(len(self)):
            area = self.lesion_area(place)
            digest.update(b"unknown" if area is None else np.packbits(area).tobytes())
        return digest.hexdigest()[:12]

    def labels(self, positive: str) -> np.ndarray:
        """Return whether each image is of the positive class, bool [N]."""
        return (self.rows["label"] == positive).to_numpy(dtype=bool)

    def clusters(self) -> np.ndarray:
        """Return what is resampled together, int [N]."""
        return clusters_of(self.rows)

    def image(self, place: int) -> DecodedImage:
        """Return an image; kept in memory once read, until 2 GiB are full."""
        found = self._decoded.get(place)
        if found is None:
            found = self.manifest.read(self.rows.iloc[place], self.limits)
            if self._held[0] + found.pixels.nbytes <= _MEMORY:
                self._decoded[place] = found
                self._held[0] += found.pixels.nbytes
        return found

    def pixels(self, place: int) -> np.ndarray:
        """Return the pixels of an image, uint8 [H, W]."""
        return self.image(place).pixels

    def lesion(self, place: int) -> Box:
        """Return the box of the lesion, for models that crop to it.

        Raises:
            InputError: The manifest has neither box nor mask for the image.
        """
        if place not in self._lesions:
            row = self.rows.iloc[place]
            box, masks = row.get(BOX, ""), self.manifest.masks(row)
            self._lesions[place] = lesion_box(row["image"], box, masks, self.image(place), self.limits)
        return self._lesions[place]

    def lesion_area(self, place: int) -> np.ndarray | None:
        """Return where the lesion is, by the image's masks or else its box.

        Returns:
            bool [H, W], all False where a mask says that there is none; None where the manifest does not say.

        Raises:
            InputError: A mask cannot be read, or the box is wrong.
        """
        if place not in self._areas:
            self._areas[place] = self._area(self.rows.iloc[place], self.image(place))
        packed, shape = self._areas[place], self.pixels(place).shape
        return None if packed is None else np.unpackbits(packed, count=shape[0] * shape[1]).view(bool).reshape(shape)

    def _area(self, row: pd.Series, image: DecodedImage) -> np.ndarray | None:
        """Return the lesion's area, packed: an eighth of the memory."""
        masks, box = self.manifest.masks(row), row.get(BOX, "")
        if masks:
            return np.packbits(lesion_area(masks, image, self.limits))
        if not box:
            return None
        top, left, bottom, right = within(read_box(box, row["image"]), image, row["image"])
        area = np.zeros(image.pixels.shape, dtype=bool)
        area[top:bottom, left:right] = True
        return np.packbits(area)

    def part(self, start: int, stop: int) -> Sample:
        """Return some of the images as a sample, which a process in another working folder can read."""
        rows = self.rows.iloc[start:stop].reset_index(drop=True)
        return Sample(replace(self.manifest.anywhere(), table=rows, lines=()), rows, (), self.limits)

    @contextmanager
    def at_hand(self) -> Iterator[Sample]:
        """Give this sample with its images as files, as `Manifest.at_hand` does."""
        with self.manifest.at_hand() as here:
            yield replace(self, manifest=here)

    def unknown_lesions(self) -> int:
        """Count the images of which the manifest does not say where the lesion is."""
        return sum(self.lesion_area(place) is None for place in range(len(self)))

    def seed(self, place: int, seed: int) -> tuple[int, int]:
        """Return the seed of an image's noise: it follows the picture, not its place in the table."""
        return seed, int(self.rows["sha256"].iloc[place][:15], 16)


def take_sample(
    data: str | Path,
    classes: Sequence[str],
    positive: str,
    *,
    source: str | None = None,
    images: int | None = None,
    seed: int = 0,
    limits: ImageLimits = ImageLimits(),
    value_range: tuple[float, float] | None = None,
    copies: ExitStack | None = None,
    progress: Progress | None = None,
) -> Sample:
    """Open a data set and choose images.

    Args:
        data: Manifest, known data set folder, or folder with a sub-folder a class.
        classes: Of the models.
        positive: Of the models.
        source: What the data set is, as `open_dataset` takes it; found out by default.
        images: How many; each class keeps its share. All by default.
        seed: Of the choice.
        limits: Images beyond them count as unreadable.
        value_range: Of values of more than 8 bits, where the data set declares none.
        copies: Keeps copies of images that lie in an object store until it is closed; without it they are refused.
        progress: Called with images done, images in all and what is being done.

    Raises:
        InputError: The data cannot be read, has no labels, is of one class only, or has fewer images than two a class.
    """
    stored = copies is not None
    manifest = open_dataset(data, classes=classes, source=source, value_range=value_range, stored=stored)
    if copies is not None:
        manifest = copies.enter_context(manifest.at_hand(progress=progress))
    manifest = tie_duplicates(manifest, limits=limits, progress=progress)
    rows, notes = manifest.included, list(manifest.notes)
    unlabelled = int((rows["label"] == "").sum())
    if unlabelled:
        raise InputError(
            f"{data}: {counted(unlabelled, 'image')} without a label; robustness is measured against labels"
        )
    if images is not None and images < len(rows):
        chosen = choose_by_class(rows["label"].to_numpy(dtype=str), images, np.random.default_rng([seed, 0xDA7A]))
        notes.append(f"{whole(images)} of {counted(len(rows), 'image')} drawn, each class in its share")
        rows = rows.iloc[chosen]
    sample = _sample(manifest, rows, notes, limits)
    small = [place for place in range(len(rows)) if min(sample.pixels(place).shape) < LEAST_SIDE]
    if small:
        notes.append(f"{counted(len(small), 'image')} of less than {LEAST_SIDE} pixels a side left out")
        sample = _sample(manifest, rows.drop(index=rows.index[small]), notes, limits)
    found = set(sample.rows["label"])
    if positive not in found or len(found) < 2:
        raise InputError(
            f"{data} has images of one class only ({', '.join(sorted(found)) or 'none'}) among those chosen"
        )
    return sample


def _sample(manifest: Manifest, rows: pd.DataFrame, notes: Sequence[str], limits: ImageLimits) -> Sample:
    table = manifest.table.copy()
    table.loc[(table["exclude"] == "") & ~table.index.isin(rows.index), "exclude"] = "not among the images chosen"
    return Sample(manifest.replace(table=table), rows.reset_index(drop=True), tuple(notes), limits)
