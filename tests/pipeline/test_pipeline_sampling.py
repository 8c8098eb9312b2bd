"""Orders depend on seed and epoch; balanced drawing shows every class as often."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from medsharp.data.sampling import EpochSampler


@dataclass
class Epochs:
    count: int
    epoch: int = 0

    def __len__(self) -> int:
        return self.count


RARE = [0] * 900 + [1] * 100


def test_shuffled_gives_every_image_once() -> None:
    assert sorted(EpochSampler(Epochs(50), seed=1)) == list(range(50))


@pytest.mark.parametrize("labels", [None, RARE], ids=["shuffled", "balanced"])
def test_order_depends_on_seed_and_epoch_only(labels: list[int] | None) -> None:
    np.random.seed(3)
    orders = [list(EpochSampler(Epochs(1000, epoch), seed, labels)) for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]


def test_balanced_draws_every_class_as_often_and_its_images_alike() -> None:
    drawn: Counter[int] = Counter()
    for epoch in range(50):
        items = list(EpochSampler(Epochs(1000, epoch), 0, RARE))
        assert len(items) == 1000
        drawn.update(item % 1000 for item in items)
    rare = [drawn[index] for index in range(900, 1000)]
    frequent = [drawn[index] for index in range(900)]
    # 50,000 draws, half of each class: standard deviation 112.
    assert sum(rare) == pytest.approx(25_000, abs=500)
    assert min(rare) > 150 < np.mean(rare) < 350 > max(rare)
    assert np.mean(frequent) == pytest.approx(25_000 / 900, rel=0.03)


def test_each_draw_of_an_image_is_another_item() -> None:
    items = list(EpochSampler(Epochs(1000), 0, RARE))
    assert len(set(items)) == 1000
    for index, count in Counter(item % 1000 for item in items).items():
        assert {item // 1000 for item in items if item % 1000 == index} == set(range(count))
