"""In which order an epoch sees the images, and how often."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import pandas as pd
from torch.utils.data import Sampler

from medsharp.config import Sampling
from medsharp.keys import site_key


class Epochs(Protocol):
    """What has a number of images and knows the epoch, such as `ImageDataset`."""

    @property
    def epoch(self) -> int:
        """The epoch whose order is asked for."""

    def __len__(self) -> int: ...


def strata_of(rows: pd.DataFrame, sampling: Sampling) -> np.ndarray | None:
    """Return what images are drawn from equally often: classes, hospitals, or classes of hospitals.

    Args:
        rows: Of a manifest, with `label` and `site`; two spellings of a site are one.
        sampling: How images are drawn.

    Returns:
        int64 [n], the number of each row's stratum; None where every image comes once.
    """
    if sampling == "shuffled":
        return None
    sites = rows["site"].map({site: site_key(site) for site in rows["site"].unique()})
    parts = {
        "balanced": [rows["label"]],
        "sites": [sites],
        "sites_and_classes": [sites, rows["label"]],
    }[sampling]
    return np.unique(np.stack([pd.factorize(part, sort=True)[0] for part in parts]), axis=1, return_inverse=True)[
        1
    ].ravel()


class EpochSampler(Sampler[int]):
    """An order that depends on (seed, epoch) only.

    Without strata every image comes once. With them as many images are drawn with replacement: first the stratum, each
    with the same probability, then an image of it. An image of a rare class, or of a small hospital, then comes several
    times an epoch, and one of a large one perhaps not at all. Draw k of an image, from 0, is asked for as item
    `index + k N`, N being the number of images, so that each draw has noise of its own.

    Args:
        dataset: Says how many images there are and which epoch it is.
        seed: Of the order.
        strata: The number of each image's stratum, see `strata_of`; None for every image once.
    """

    def __init__(self, dataset: Epochs, seed: int, strata: Sequence[int] | np.ndarray | None = None) -> None:
        self.dataset = dataset
        self.seed = seed
        self.strata = None if strata is None else np.asarray(strata)

    def __iter__(self) -> Iterator[int]:
        count = len(self.dataset)
        rng = np.random.default_rng([self.seed, self.dataset.epoch, 1])
        if self.strata is None:
            return iter(rng.permutation(count).tolist())
        members = [np.flatnonzero(self.strata == number) for number in np.unique(self.strata)]
        strata = rng.integers(len(members), size=count)
        drawn = np.array([members[number][rng.integers(len(members[number]))] for number in strata.tolist()])
        seen = np.zeros(count, dtype=np.int64)
        items = []
        for index in drawn.tolist():
            items.append(index + int(seen[index]) * count)
            seen[index] += 1
        return iter(items)

    def __len__(self) -> int:
        return len(self.dataset)
