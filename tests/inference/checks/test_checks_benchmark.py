"""What the checks are measured on: other organs, pictures of packages, and what is counted together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsharp.inference.checks.benchmark.made import FITTED, UNSEEN, Maker, made
from medsharp.inference.checks.benchmark.organs import ORGANS
from medsharp.inference.checks.benchmark.packages import OTHER_ORGANS, SHELVES, Found, Shelf, pictures_of_packages
from medsharp.inference.checks.benchmark.rates import Rate, package_groups, pooled


def test_nothing_is_fitted_on_other_organs_or_on_kinds_that_are_measured_alone() -> None:
    assert not {*ORGANS, *UNSEEN} & {*FITTED}
    assert not {*ORGANS} & {*UNSEEN}


@pytest.mark.parametrize("organ", ORGANS, ids=lambda organ: organ.__name__)
def test_an_organ_is_an_image_of_its_own_each_time_and_the_same_of_one_seed(organ: Maker) -> None:
    first, again, other = (organ(np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first.dtype == np.uint8
    assert max(first.shape) == 256
    assert min(first.shape) > 100
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or (first != other).any()
    assert 15 < first.mean() < 200


def test_organs_have_what_tells_them_apart() -> None:
    pictures = dict(made(ORGANS, 1, 3))
    fan = pictures["kidney"]
    assert fan[:40, :10].max() == fan[:40, -10:].max() == 0  # outside of the fan
    tube = pictures["carotid"]
    rows = tube.mean(axis=1)
    darkest = int(rows.argmin())
    assert 0.3 < darkest / len(rows) < 0.7
    assert rows[darkest] < 0.25 * rows[: darkest // 2].mean()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed package with pictures, one of them damaged and one large."""
    folder = tmp_path / "shipspictures"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('it is not imported')\n")
    grey = np.arange(90 * 70, dtype=np.uint8).reshape(90, 70)
    Image.fromarray(grey).save(folder / "data" / "b.png")
    wide = np.zeros((300, 2048, 3), dtype=np.uint8)
    wide[:, :1024] = (200, 40, 40)
    Image.fromarray(wide).save(folder / "data" / "a.png")
    (folder / "data" / "c.png").write_bytes(b"no picture")
    (folder / "data" / "d.txt").write_text("words")
    monkeypatch.syspath_prepend(tmp_path)
    return folder.name


def test_pictures_of_a_package_are_read_without_importing_it_and_what_is_missing_is_named(package: str) -> None:
    there = Shelf("photographs", package, "data", ("*.png", "b.*"))
    nothing = Shelf("clip art", package, "data", ("*.gif",))
    absent = Shelf("text", "nosuchpackage", "data", ("*.png",))
    system = Shelf("wallpapers", "debians", "/no/such/folder", ("*.png",))
    found = list(pictures_of_packages([there, nothing, absent, system]))
    assert [len(one.images) for one in found] == [2, 0, 0, 0]
    assert [one.sentence for one in found] == [
        f"{package}: 2 photographs, 1 unreadable",
        f"{package}: has none in data, no clip art",
        "nosuchpackage: is not installed, no text",
        "debians: is not installed, no wallpapers",
    ]
    large, small = found[0].images
    assert large.pixels.shape == (150, 1024)
    assert large.colours is not None
    assert large.colours[75, 100].tolist() == [200, 40, 40]
    assert large.colours[75, 900].tolist() == [0, 0, 0]
    assert small.pixels.shape == (90, 70)


def test_pictures_of_packages_are_grouped_by_kind_and_other_organs_apart(package: str) -> None:
    photographs = Shelf("photographs", package, "data", ("b.png",))
    heart = Shelf(OTHER_ORGANS, package, "data", ("a.png",))
    none = Found(Shelf("text", "nosuchpackage", "data", ("*",)), [], 0)
    groups = package_groups([*pictures_of_packages([photographs, heart, photographs]), none])
    assert [(group.name, group.sort, len(group.images)) for group in groups] == [
        ("photographs", "other, packages", 2),
        (OTHER_ORGANS, "other organ", 1),
    ]
    assert len({(one.kind, one.package, one.folder, one.patterns) for one in SHELVES}) == len(SHELVES)


def test_kinds_that_are_alike_are_counted_together() -> None:
    rates = [
        Rate("faces", "other, unseen", 10, 8, 1, {"not_ultrasound": 8, "dark": 1}),
        Rate("photographs", "other, unseen", 5, 5, 0, {"not_ultrasound": 4, "coloured": 1}),
        Rate("photographs", "other, fitted", 3, 2, 0, {"not_ultrasound": 2}),
        Rate("faces", "lesions", 100, 0, 0, {}),
        Rate("text", "other, unseen", 7, 7, 0, {}),
    ]
    both = {"not_ultrasound": 12, "dark": 1, "coloured": 1}
    assert pooled(rates, ("faces", "photographs"), "pictures") == [
        Rate("pictures", "other, unseen", 15, 13, 1, both),
        Rate("pictures", "other, all", 18, 15, 1, both | {"not_ultrasound": 14}),
    ]
    assert pooled(rates[:1], ("faces",), "pictures") == []
