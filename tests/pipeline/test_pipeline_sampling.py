"""Orders depend on seed and epoch; drawing from strata shows every class, or hospital, as often."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from medsharp.config import Sampling
from medsharp.data.sampling import EpochSampler, strata_of


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


SITES = ["A"] * 600 + [" a "] * 200 + ["B"] * 200
ROWS = pd.DataFrame(
    {"site": SITES, "label": (["benign"] * 3 + ["malignant"]) * 200 + ["malignant"] * 190 + ["benign"] * 10}
)


def drawn_shares(sampling: Sampling) -> pd.Series:
    drawn: Counter[int] = Counter()
    strata = strata_of(ROWS, sampling)
    for epoch in range(30):
        drawn.update(item % 1000 for item in EpochSampler(Epochs(1000, epoch), 0, strata))
    counts = pd.Series(drawn).reindex(range(1000), fill_value=0)
    return counts.groupby([ROWS["site"].str.strip().str.upper(), ROWS["label"]]).sum() / counts.sum()


def test_hospitals_are_drawn_equally_and_their_images_as_they_are() -> None:
    shares = drawn_shares("sites")
    assert shares["A"].sum() == pytest.approx(0.5, abs=0.01)
    assert shares["A", "benign"] == pytest.approx(0.5 * 0.75, abs=0.01)
    assert shares["B", "benign"] == pytest.approx(0.5 * 0.05, abs=0.005)


def test_classes_of_hospitals_are_drawn_equally() -> None:
    assert drawn_shares("sites_and_classes").tolist() == pytest.approx([0.25] * 4, abs=0.01)


def test_every_image_comes_once_without_strata() -> None:
    assert strata_of(ROWS, "shuffled") is None
    assert drawn_shares("balanced").groupby("label").sum().tolist() == pytest.approx([0.5, 0.5], abs=0.01)
