"""Manifest rows to training batches: MONAI dictionary transforms on cached, decoded, resized images."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.data import CacheDataset
from monai.transforms import Compose, MapTransform, Randomizable
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from medsharp.data.augmentation import AUGMENTATIONS
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.images import read_image
from medsharp.preprocess import PreprocessSpec, preprocess, preprocess_mask

Progress = Callable[[int, int, str], None]


class LoadAndPlace(MapTransform):
    """Decode `image` (and `mask` files) and bring them to the network's input size: uint8 [1, S, S]."""

    def __init__(self, spec: PreprocessSpec, masks: bool, count: Callable[[], None] | None = None) -> None:
        super().__init__(["image"])
        self.spec = spec
        self.masks = masks
        self.count = count

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the paths of a sample by pixels."""
        sample = dict(data)
        pixels = read_image(sample["image"]).pixels
        sample["image"] = preprocess(pixels, self.spec)[None]
        files = sample.pop("mask")
        if self.masks:
            area = np.zeros(pixels.shape, dtype=bool)
            for file in files:
                mask = read_image(file).pixels > 127
                if mask.shape != pixels.shape:
                    picture = Image.fromarray(mask).resize(pixels.shape[::-1], Image.Resampling.NEAREST)
                    mask = np.asarray(picture)
                area |= mask
            sample["mask"] = preprocess_mask(area, pixels, self.spec)[None]
            sample["has_mask"] = np.float32(bool(files))
        if self.count is not None:
            self.count()
        return sample


class ImageDataset(Dataset[dict[str, Tensor]]):
    """Images of a split: decoded once, augmented anew every epoch.

    An item is a dictionary: `image` float32 [1, S, S] on the scale 0 to 255, `label` int64, `index` int64, and with
    masks `mask` float32 [1, S, S] of 0 and 1 and `has_mask` float32. The noise of an item depends on
    (seed, epoch, index) only, so that workers and resumption change nothing.

    Attributes:
        table: The manifest rows, in the order of the indices.
    """

    def __init__(self, cache: CacheDataset, augment: Compose, table: pd.DataFrame, seed: int) -> None:
        self.cache = cache
        self.augment = augment
        self.table = table
        self.seed = seed
        # Shared memory, so that workers which live on see the epoch change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch's noise to draw."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = dict(self.cache[index])
        for key in ("image", "mask"):
            if key in sample:
                sample[key] = torch.as_tensor(np.asarray(sample[key]), dtype=torch.float32)
        seed = np.random.SeedSequence([self.seed, int(self._epoch), index]).generate_state(1)[0]
        for transform in self.augment.transforms:
            if isinstance(transform, Randomizable):
                transform.set_random_state(seed=int(seed))
                seed = (int(seed) * 1_664_525 + 1_013_904_223) % 2**32
        sample = dict(self.augment(sample))
        item = {
            "image": sample["image"].clamp(0, 255),
            "label": torch.tensor(sample["label"], dtype=torch.int64),
            "index": torch.tensor(index, dtype=torch.int64),
        }
        if "mask" in sample:
            item["mask"] = sample["mask"]
            item["has_mask"] = torch.tensor(sample["has_mask"])
        return item

    def statistics(self) -> tuple[float, float]:
        """Return mean and standard deviation of the cached pixels, on the scale 0 to 1."""
        pixels = np.stack([np.asarray(self.cache[index]["image"]) for index in range(len(self))]) / 255.0
        return float(pixels.mean()), float(pixels.std())


class EpochSampler(Sampler[int]):
    """An order that depends on (seed, epoch) only."""

    def __init__(self, dataset: ImageDataset, shuffle: bool, seed: int) -> None:
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = seed

    def __iter__(self) -> Iterator[int]:
        if not self.shuffle:
            return iter(range(len(self.dataset)))
        rng = np.random.default_rng([self.seed, int(self.dataset._epoch), 1])
        return iter(rng.permutation(len(self.dataset)).tolist())

    def __len__(self) -> int:
        return len(self.dataset)


def make_dataset(
    rows: pd.DataFrame,
    manifest: Manifest,
    *,
    spec: PreprocessSpec,
    classes: Sequence[str],
    augmentation: str = "none",
    seed: int = 0,
    masks: bool = False,
    progress: Progress | None = None,
) -> ImageDataset:
    """Decode and place every image once, and keep them in memory.

    Args:
        rows: Rows of the manifest's table, such as `manifest.of_split("train")`.
        manifest: Where the images lie.
        spec: How an image becomes a network input.
        classes: A label's place in it is its number.
        augmentation: A key of `AUGMENTATIONS`.
        seed: Of the augmentation.
        masks: Give lesion masks too.
        progress: Called with images done, images in all and what is being done.

    Raises:
        InputError: An image or mask cannot be read, or a label is not among the classes.
    """
    if augmentation not in AUGMENTATIONS:
        raise InputError(f"unknown augmentation '{augmentation}'; choose from {', '.join(AUGMENTATIONS)}")
    numbers = {name: number for number, name in enumerate(classes)}
    unknown = sorted(set(rows["label"]) - set(numbers))
    if unknown:
        raise InputError(f"{manifest.info.name}: label '{unknown[0]}' is not one of {', '.join(classes)}")
    table = rows.reset_index(drop=True)
    items = [
        {"image": manifest.path(row["image"]), "mask": manifest.masks(row), "label": numbers[row["label"]]}
        for row in table.to_dict("records")
    ]
    load = LoadAndPlace(spec, masks, _counter(progress, len(items)))
    try:
        cache = CacheDataset(items, transform=load, num_workers=2, progress=False)
    except RuntimeError as error:
        # MONAI wraps what a transform raises; a wrong image shall stay the one sentence that it is.
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise
    return ImageDataset(cache, AUGMENTATIONS[augmentation](), table, seed)


def make_loader(
    dataset: ImageDataset, *, batch_size: int, shuffle: bool, seed: int = 0, workers: int = 0, drop_last: bool = False
) -> DataLoader[dict[str, Tensor]]:
    """Batch a dataset; the order depends on (seed, epoch) only."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=EpochSampler(dataset, shuffle, seed),
        num_workers=workers,
        drop_last=drop_last,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def _counter(progress: Progress | None, total: int) -> Callable[[], None] | None:
    if progress is None:
        return None
    numbers = itertools.count(1)  # next() is one step of the interpreter: threads may share it
    return lambda: progress(next(numbers), total, "decoding images")
