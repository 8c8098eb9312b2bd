"""`medsharp bench data --part pipeline`: the second start decodes nothing, and every recipe is fed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medsharp.recipes import RECIPES
from training.benchmark.pipeline import PipelineSettings, made_images, measure_pipeline


@pytest.fixture(scope="module")
def sections() -> dict[str, list[dict[str, str]]]:
    settings = PipelineSettings(image_size=32, batch_size=8, network="resnet10_w16", made=48, waiting=48, rounds=1)
    before = os.environ.get("XDG_CACHE_HOME")
    measured = {section.name: section.as_dict()["rows"] for section in measure_pipeline(settings)}
    assert os.environ.get("XDG_CACHE_HOME") == before
    return measured


def test_second_start_decodes_nothing(sections: dict[str, list[dict[str, str]]]) -> None:
    assert [row["decoded"] for row in sections["starts"]] == ["48", "0"]


def test_every_recipe_is_measured(sections: dict[str, list[dict[str, str]]]) -> None:
    assert [row["augmentation"] for row in sections["batches"]] == list(RECIPES)
    assert all(float(row["images/s"].replace(",", "")) > 0 for row in sections["batches"])


def test_waiting_is_a_share_of_the_training(sections: dict[str, list[dict[str, str]]]) -> None:
    for row in sections["waiting"]:
        assert 0 <= float(row["waited, %"]) <= 100


def test_made_images_are_the_same_again(tmp_path: Path) -> None:
    for name in ("one", "two"):
        made_images(tmp_path / name, 2, seed=3)
    for file in ("0.png", "1.png"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
