"""How several processes share a batch, and the images of a split: each image once, none dropped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch.utils.data import Sampler


@dataclass(frozen=True)
class Part:
    """A part of a batch, which is evaluated by itself.

    Attributes:
        rows: Places in the batch.
        counted: So many of them, the first ones, are the part; the others fill it up and have no weight.
    """

    rows: tuple[int, ...]
    counted: int


@dataclass(frozen=True)
class Division:
    """How every batch is dealt to processes, and the share of each to parts.

    Which images a batch has depends on neither: the parts, one after another, are the batch. Networks with batch norm
    normalise each part by itself, so that as many parts give the same, whoever evaluates them.

    Attributes:
        processes: That train together.
        accumulation: Parts of the share of each, evaluated one after another.
        climbs: Groups of these parts, for each of which a sharpness-aware method climbs by itself; 0: all processes
            climb together, along the gradient of the whole batch.
    """

    processes: int = 1
    accumulation: int = 1
    climbs: int = 1

    @property
    def all_climbs(self) -> int:
        """Times that a method climbs for a batch."""
        return self.processes * self.climbs or 1

    @property
    def parts(self) -> int:
        """Parts of a batch."""
        return self.processes * self.accumulation

    def share(self, images: int, process: int, least: int = 1) -> list[Part]:
        """Return the parts of one process, whose sizes differ by one at most.

        Args:
            images: Of the batch.
            process: From 0.
            least: A part that is smaller, as in the last batch of an epoch, is filled up with others of the batch.
        """
        first = process * self.accumulation
        parts = []
        for number in range(first, first + self.accumulation):
            start, stop = (images * end // self.parts for end in (number, number + 1))
            counted = stop - start
            filling = [(stop + more) % images for more in range(min(least, images) - counted)]
            parts.append(Part((*range(start, stop), *filling), counted))
        return parts


def rows_of(images: int, process: int, processes: int) -> range:
    """Return the images of a split that one of several processes evaluates: of all together, each comes once."""
    return range(images * process // processes, images * (process + 1) // processes)


WHOLE = Division()
"""A batch of one process, in one part."""


class Items(Protocol):
    """What an epoch goes through: a sampler of known length, or a range."""

    def __iter__(self) -> Iterator[int]: ...

    def __len__(self) -> int: ...


class SharedBatches(Sampler[list[int]]):
    """What one process takes of each batch.

    Args:
        items: All items of an epoch in order, the same in every process.
        batch_size: Images of a batch, of all processes together.
        division: How it is divided.
        process: Which one this is.
        least: Images that a part needs.
        drop_last: Leave out a last batch that is smaller.
    """

    def __init__(
        self,
        items: Items,
        batch_size: int,
        division: Division,
        process: int = 0,
        least: int = 1,
        drop_last: bool = False,
    ) -> None:
        self.items = items
        self.images = len(items)
        self.batch_size = batch_size
        self.division = division
        self.process = process
        self.least = least
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        items = list(self.items)
        for number in range(len(self)):
            batch = items[number * self.batch_size : (number + 1) * self.batch_size]
            yield [batch[row] for part in self.shares(number)[self.process] for row in part.rows]

    def __len__(self) -> int:
        whole, left = divmod(self.images, self.batch_size)
        return whole + (left > 0 and not self.drop_last)

    def size(self, number: int) -> int:
        """Return the images of a batch of the epoch, of all processes together."""
        return min(self.batch_size, self.images - number * self.batch_size)

    def shares(self, number: int) -> list[list[Part]]:
        """Return the parts of a batch of the epoch that each process has."""
        size = self.size(number)
        return [self.division.share(size, process, self.least) for process in range(self.division.processes)]
