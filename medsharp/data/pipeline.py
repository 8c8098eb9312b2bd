"""Manifest rows to training batches: MONAI dictionary transforms on images that are decoded once.

Images are decoded, cropped and resized by a MONAI transform into the cache (`medsharp.data.cache`), not into MONAI's
`CacheDataset`: that one lives in memory and dies with its process, so that every fold, seed and optimizer of a study
decodes the same files again, and each worker that is started afresh holds a copy. The cache's files are mapped: a
second start decodes nothing, processes share the pages, and images need not fit into memory. MONAI's
`PersistentDataset` would outlive the process too, but pickles each item into a file of its own, keyed by the path and
not by what it holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.transforms import Compose, MapTransform, Randomizable
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medsharp.config import Cache, Sampling
from medsharp.data.augmentation import make_augmentation
from medsharp.data.cache import CachedImages, cached_images
from medsharp.data.cache_key import cache_recipe, file_digests
from medsharp.data.lesion import BOX, lesion_area, lesion_box
from medsharp.data.manifest import Manifest, check_unchanged, frame_of
from medsharp.data.sampling import EpochSampler, strata_of
from medsharp.data.sharing import WHOLE, Division, SharedBatches, rows_of
from medsharp.errors import InputError
from medsharp.images import Frame, ImageLimits, ValueRange, read_image
from medsharp.preprocess import PreprocessSpec, preprocess, preprocess_mask
from medsharp.progress import Progress
from medsharp.recipes import Augmentation


class LoadAndPlace(MapTransform):
    """Decode the files that a sample names and bring them to the network's input size.

    `image` becomes uint8 [S, S] of grey levels; where the sample has mask files, `mask` becomes uint8 [S, S] of 0 and 1
    in its place. `frame` and `range` say which frame of a clip is meant, and what is black and white in its values. A
    spec that crops to the lesion needs `lesion`: the text of a box, perhaps empty, and mask files.
    """

    def __init__(self, spec: PreprocessSpec, limits: ImageLimits = ImageLimits()) -> None:
        super().__init__(["image", "mask"], allow_missing_keys=True)
        self.spec = spec
        self.limits = limits

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the paths of a sample by pixels."""
        image = read_image(
            data["image"],
            limits=self.limits,
            frame=data.get("frame", "sharpest"),
            value_range=data.get("range"),
        )
        lesion = None
        if self.spec.crop == "lesion":
            box, masks = data["lesion"]
            lesion = lesion_box(str(data["image"]), box, masks, image, self.limits)
        if "mask" not in data:
            placed = preprocess(image.pixels, self.spec, lesion=lesion, coloured=image.coloured)
            return {**data, "image": placed}
        area = lesion_area(data["mask"], image, self.limits)
        return {**data, "mask": preprocess_mask(area, image.pixels, self.spec, lesion=lesion)}


class ImageDataset(Dataset[dict[str, Tensor]]):
    """Images of a split: decoded once, augmented anew every epoch.

    An item is a dictionary: `image` float32 [1, S, S] on the scale 0 to 255, `label` int64, `index` int64, and with
    masks `mask` float32 [1, S, S] of 0 and 1 and `has_mask` float32. The noise of an item depends on (seed, epoch,
    item) only, so that workers, batches and resumption change nothing. Items from N on are images 0, 1, ... again, with
    other noise: a sampler that draws an image twice asks for them.

    Attributes:
        table: The manifest rows, in the order of the indices.
    """

    def __init__(
        self,
        images: CachedImages,
        masks: CachedImages | None,
        labels: Sequence[int],
        augment: Compose,
        table: pd.DataFrame,
        seed: int,
    ) -> None:
        self.images = images
        self.masks = masks
        self.labels = torch.tensor(labels, dtype=torch.int64)
        self.has_mask = torch.from_numpy((table["mask"] != "").to_numpy(dtype=np.float32))
        self.table = table
        self.seed = seed
        self._augment = augment
        self._random = [transform for transform in augment.transforms if isinstance(transform, Randomizable)]
        for transform in self._random:
            transform.set_random_state(seed=0)  # a state of its own: MONAI's is the class's until then
        # Shared memory, so that workers which live on see the epoch change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        """The epoch whose noise is drawn."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch's noise to draw."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        return {key: value[0] for key, value in self.__getitems__([item]).items()}

    def __getitems__(self, items: Sequence[int]) -> dict[str, Tensor]:
        """Return a batch: what `__getitem__` gives, each tensor with a first dimension more.

        PyTorch's loader calls this; images are written straight into the batch.
        """
        indices = [item % len(self) for item in items]
        size = self.images[indices[0]].shape
        images = torch.empty((len(items), 1, *size))
        masks = None if self.masks is None else torch.empty((len(items), 1, *size))
        epoch = self.epoch
        for place, (item, index) in enumerate(zip(items, indices, strict=True)):
            image = images[place].numpy()
            mask = None if masks is None or self.masks is None else masks[place].numpy()
            image[0] = self.images[index]
            if mask is not None and self.masks is not None:
                mask[0] = self.masks[index]
            if self._random:
                self._reseed(epoch, item)
                sample = self._augment({"image": image} if mask is None else {"image": image, "mask": mask})
                np.clip(sample["image"], 0, 255, out=image)
                if mask is not None:
                    mask[:] = sample["mask"]
        chosen = torch.tensor(indices)
        batch = {"image": images, "label": self.labels[chosen], "index": chosen}
        if masks is not None:
            batch |= {"mask": masks, "has_mask": self.has_mask[chosen]}
        return batch

    def statistics(self) -> tuple[float, float]:
        """Return mean and standard deviation of the pixels before augmentation, on the scale 0 to 1."""
        counts = np.zeros(256, dtype=np.int64)
        for image in self.images:
            counts += np.bincount(image.ravel(), minlength=256)
        levels = np.arange(256) / 255
        mean = (counts * levels).sum() / counts.sum()
        return float(mean), float(np.sqrt((counts * (levels - mean) ** 2).sum() / counts.sum()))

    def _reseed(self, epoch: int, item: int) -> None:
        seeds = np.random.SeedSequence([self.seed, epoch, item]).generate_state(len(self._random))
        for transform, seed in zip(self._random, seeds.tolist(), strict=True):
            # Seeding the state that is there takes a fiftieth of making one, as set_random_state does.
            transform.R.seed(seed)


def make_dataset(
    rows: pd.DataFrame,
    manifest: Manifest,
    *,
    spec: PreprocessSpec,
    classes: Sequence[str],
    augmentation: str | Augmentation = "none",
    seed: int = 0,
    masks: bool = False,
    cache: Cache = "memory",
    limits: ImageLimits = ImageLimits(),
    progress: Progress | None = None,
) -> ImageDataset:
    """Decode and place every image once.

    Args:
        rows: Rows of the manifest's table, such as `manifest.of_split("train")`.
        manifest: Where the images lie.
        spec: How an image becomes a network input.
        classes: A label's place in it is its number.
        augmentation: A recipe by name, or its settings.
        seed: Of the augmentation.
        masks: Give lesion masks too.
        cache: `disk` keeps the images for the next start, see `medsharp.data.cache`; `memory` does not.
        limits: What is refused before it is decoded.
        progress: Called with images done, images in all and what is being done.

    Raises:
        InputError: An image or mask cannot be read or is not the one the manifest's `sha256` tells of, a label is not
            among the classes, no recipe has the name, or the cache cannot be written.
    """
    augment = make_augmentation(augmentation)
    numbers = {name: number for number, name in enumerate(classes)}
    unknown = sorted(set(rows["label"]) - set(numbers))
    if unknown:
        raise InputError(f"{manifest.info.name}: label '{unknown[0]}' is not one of {', '.join(classes)}")
    table = rows.reset_index(drop=True)
    images = [manifest.path(name) for name in table["image"]]
    keys = file_digests(images)
    check_unchanged(manifest, rows.index, [key.hex() for key in keys])
    load = LoadAndPlace(spec, limits)
    recipe = image_recipe(spec) if cache == "disk" else None
    frames = [frame_of(row) for row in table.to_dict("records")]
    ranges = [manifest.range_of(row) for row in table.to_dict("records")]
    samples: list[dict[Hashable, Any]] = [
        {"image": image, "frame": frame, "range": declared}
        for image, frame, declared in zip(images, frames, ranges, strict=True)
    ]
    keys = [_of_frame(*each) for each in zip(keys, frames, ranges, strict=True)]
    if spec.crop == "lesion":
        lesions = [(row.get(BOX, ""), manifest.masks(row)) for row in table.to_dict("records")]
        samples = [{**sample, "lesion": lesion} for sample, lesion in zip(samples, lesions, strict=True)]
        # Where the lesion is belongs to what the pixels are made from.
        keys = [
            hashlib.sha256(b"".join([b"lesion", key, *file_digests(masks), box.encode()])).digest()
            for key, (box, masks) in zip(keys, lesions, strict=True)
        ]
    decoded = cached_images(
        keys,
        lambda number: np.asarray(load(samples[number])["image"]),
        shape=(spec.size, spec.size),
        recipe=recipe,
        progress=progress,
    )
    areas = None
    if masks:
        given = [manifest.masks(row) for row in table.to_dict("records")]
        areas = cached_images(
            [hashlib.sha256(b"".join([b"mask", key, *file_digests(f)])).digest() for key, f in zip(keys, given)],
            lambda number: np.asarray(load({**samples[number], "mask": given[number]})["mask"]),
            shape=(spec.size, spec.size),
            recipe=recipe,
        )
    return ImageDataset(decoded, areas, [numbers[label] for label in table["label"]], augment, table, seed)


def image_recipe(spec: PreprocessSpec) -> str:
    """Return the name of how images are decoded and placed, for the cache."""
    return cache_recipe(asdict(spec), ("images", "preprocess", "data/lesion.py", "data/pipeline.py"))


def make_loader(
    dataset: ImageDataset,
    *,
    batch_size: int,
    shuffle: bool,
    seed: int = 0,
    workers: int = 0,
    drop_last: bool = False,
    sampling: Sampling = "shuffled",
    division: Division = WHOLE,
    process: int = 0,
    least: int = 1,
) -> DataLoader[dict[str, Tensor]]:
    """Batch a dataset; the order depends on (seed, epoch) only.

    Args:
        dataset: The images.
        batch_size: Images a batch.
        shuffle: In a random order, or as they stand.
        seed: Of the order.
        workers: Processes that prepare batches; 0 prepares them in this one.
        drop_last: Leave out a last batch that is smaller.
        sampling: With `shuffle`: every image once, or as often from every class or hospital, see `EpochSampler`.
        division: Of each batch, with `shuffle`; without it, of the images, each of which one process has.
        process: Whose share is given.
        least: With `shuffle`: images that a part of a batch needs, see `Division.share`.
    """
    if shuffle:
        order = EpochSampler(dataset, seed, strata_of(dataset.table, sampling))
        batches = SharedBatches(order, batch_size, division, process, least, drop_last)
    else:
        rows = rows_of(len(dataset), process, division.processes)
        batches = SharedBatches(rows, batch_size, WHOLE, drop_last=drop_last)
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=_as_it_is,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def _of_frame(key: bytes, frame: Frame, value_range: ValueRange | None) -> bytes:
    """Return the key of a file, or that of one frame of it or of its values scaled by a declared range."""
    if frame == "sharpest" and value_range is None:
        return key
    return hashlib.sha256(b"".join([b"frame", key, repr((frame, value_range)).encode()])).digest()


def _as_it_is(batch: Any) -> Any:
    return batch
