"""The splits, decoded."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from medsharp.config import TrainConfig
from medsharp.data.leaks import assert_no_leak
from medsharp.data.manifest import SPLITS, Manifest
from medsharp.data.pipeline import ImageDataset, make_dataset
from medsharp.data.sampling import strata_of
from medsharp.errors import InputError
from medsharp.keys import site_key
from training.events import Events


def check_splits(manifest: Manifest, config: TrainConfig) -> None:
    """Check that nothing leaks from a split into another, and that there is something to learn from and to judge by.

    Raises:
        InputError: A group, patient or file is in two splits, a split other than test is empty or has one class only,
            hospitals are to be drawn equally and one has one class only, or masks are to be learned and there are none.
    """
    assert_no_leak(manifest)
    name, positive = manifest.info.name, config.data.positive
    for split in SPLITS:
        rows = manifest.of_split(split)
        if not len(rows) and split == "test":
            continue  # all that is not validated is trained on, as a member of an ensemble is
        if not len(rows):
            raise InputError(f"{name} has no images in split '{split}'; split it first")
        if split != "test" and (rows["label"] == positive).nunique() < 2:
            raise InputError(f"{name}: split '{split}' needs images of {positive} and of another class")
    if config.data.sampling.startswith("sites"):
        _check_sites(manifest, config)
    weight = config.loss.mask_weight
    if weight > 0 and (manifest.of_split("train")["mask"] == "").all():
        raise InputError(f"loss.mask_weight = {weight}: no training image of {name} has a mask; set it to 0")


def _check_sites(manifest: Manifest, config: TrainConfig) -> None:
    """Refuse to draw hospitals equally where one is not known, or is a class by itself."""
    rows, asked = manifest.of_split("train"), f"data.sampling = {config.data.sampling}"
    keys = rows["site"].map({site: site_key(site) for site in rows["site"].unique()})
    nowhere = int((keys == "").sum())
    if nowhere:
        raise InputError(f"{asked}: the site of {nowhere} training images of {manifest.info.name} is not known")
    for _, members in rows.groupby(keys):
        labels = sorted(set(members["label"]))
        if len(labels) < 2:
            raise InputError(
                f"{asked}: site '{members['site'].iloc[0]}' has training images of class {labels[0]} only; a network "
                "would learn to tell hospitals instead; leave the site out, or draw images otherwise"
            )


def make_datasets(config: TrainConfig, manifest: Manifest, events: Events) -> dict[str, ImageDataset]:
    """Decode train, val and, where there is one, test; tell how far it is with all of them together.

    Raises:
        InputError: An image or mask cannot be read.
    """
    data = config.data
    rows = {split: table for split in SPLITS if len(table := manifest.of_split(split))}
    total = sum(len(table) for table in rows.values())
    datasets: dict[str, ImageDataset] = {}
    for split in rows:
        before = sum(len(dataset) for dataset in datasets.values())

        def progress(done: int, _: int, what: str, before: int = before) -> None:
            events({"kind": "cache", "done": before + done, "total": total, "what": what})

        learned = split == "train"
        datasets[split] = make_dataset(
            rows[split],
            manifest,
            spec=data.preprocessing(),
            classes=data.classes,
            augmentation=data.augmentation if learned else "none",
            seed=config.seed,
            masks=learned and config.loss.mask_weight > 0,
            cache=data.cache,
            limits=data.limits.limits(),
            progress=progress,
        )
    return datasets


def notes_on_masks(dataset: ImageDataset) -> list[str]:
    """Say how many images with a lesion have masks in which nothing is marked: training learns that there is none."""
    if dataset.masks is None:
        return []
    lesions = (dataset.table["mask"] != "") & (dataset.table["label"] != "normal")
    empty = [row for row in np.flatnonzero(lesions) if not dataset.masks[int(row)].any()]
    if not empty:
        return []
    first = dataset.table["image"].iloc[empty[0]]
    return [f"{len(empty)} of {int(lesions.sum())} lesions have a mask in which nothing is marked, such as {first}"]


def class_counts(rows: pd.DataFrame, config: TrainConfig) -> Tensor:
    """Return how often an image of each class is seen, float32 [C], up to a factor; `rows` are those of training.

    Balanced drawing shows all classes as often: the weights that would balance them are then 1.
    """
    labels = rows["label"].to_numpy(dtype=str)
    shares = torch.from_numpy(np.stack([labels == name for name in config.data.classes], axis=1)).float()  # [N, C]
    seen = _seen(rows, config, shares)
    return seen / seen.mean() if config.data.sampling != "shuffled" else shares.sum(dim=0)


def mask_share(training: ImageDataset, config: TrainConfig) -> float:
    """Return the share of images with a mask among those that are seen."""
    return float(_seen(training.table, config, training.has_mask))


def _seen(rows: pd.DataFrame, config: TrainConfig, values: Tensor) -> Tensor:
    """Return the mean of values [N, ...] over the images as they are drawn."""
    strata = strata_of(rows, config.data.sampling)
    if strata is None:
        return values.mean(dim=0)
    numbers = torch.from_numpy(strata)
    return torch.stack([values[numbers == number].mean(dim=0) for number in numbers.unique()]).mean(dim=0)
