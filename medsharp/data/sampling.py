"""In which order an epoch sees the images, and how often."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import numpy as np
from torch.utils.data import Sampler

Sampling = Literal["shuffled", "balanced"]


class Epochs(Protocol):
    """What has a number of images and knows the epoch, such as `ImageDataset`."""

    @property
    def epoch(self) -> int:
        """The epoch whose order is asked for."""

    def __len__(self) -> int: ...


class EpochSampler(Sampler[int]):
    """An order that depends on (seed, epoch) only.

    `shuffled` gives every image once. `balanced` draws as many images with replacement: first the class, each with the
    same probability, then an image of it. An image of a rare class then comes several times an epoch, and one of a
    frequent class perhaps not at all. Draw k of an image, from 0, is asked for as item `index + k N`, N being the
    number of images, so that each draw has noise of its own.

    Args:
        dataset: Says how many images there are and which epoch it is.
        seed: Of the order.
        labels: Class numbers of the images, for `balanced`; None for `shuffled`.
    """

    def __init__(self, dataset: Epochs, seed: int, labels: Sequence[int] | None = None) -> None:
        self.dataset = dataset
        self.seed = seed
        self.labels = None if labels is None else np.asarray(labels)

    def __iter__(self) -> Iterator[int]:
        count = len(self.dataset)
        rng = np.random.default_rng([self.seed, self.dataset.epoch, 1])
        if self.labels is None:
            return iter(rng.permutation(count).tolist())
        members = [np.flatnonzero(self.labels == number) for number in np.unique(self.labels)]
        classes = rng.integers(len(members), size=count)
        drawn = np.array([members[number][rng.integers(len(members[number]))] for number in classes.tolist()])
        seen = np.zeros(count, dtype=np.int64)
        items = []
        for index in drawn.tolist():
            items.append(index + int(seen[index]) * count)
            seen[index] += 1
        return iter(items)

    def __len__(self) -> int:
        return len(self.dataset)
