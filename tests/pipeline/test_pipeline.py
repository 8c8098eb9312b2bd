"""The MONAI pipeline: decodes once, and its noise depends on seed, epoch and index alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medsharp.data import Manifest, open_dataset
from medsharp.data import pipeline as module
from medsharp.data.augmentation import RECIPES, make_augmentation
from medsharp.data.augmentation.placement import RandomPlacement
from medsharp.data.pipeline import ImageDataset, make_dataset, make_loader
from medsharp.errors import InputError
from medsharp.preprocess import PreprocessSpec

SPEC = PreprocessSpec(32)
CLASSES = ("benign", "malignant")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    rng = np.random.default_rng(0)
    for label in CLASSES:
        (tmp_path / label).mkdir()
        for number in range(5):
            Image.fromarray(rng.integers(40, 220, (48, 60), dtype=np.uint8)).save(tmp_path / label / f"{number}.png")
            mask = np.zeros((48, 60), dtype=np.uint8)
            mask[10:30, 15:40] = 255
            if number != 4:
                Image.fromarray(mask).save(tmp_path / label / f"{number}_mask.png")
    return open_dataset(tmp_path)


def dataset(manifest: Manifest, **options: Any) -> ImageDataset:
    return make_dataset(manifest.table, manifest, spec=SPEC, classes=CLASSES, **options)


def images(data: ImageDataset) -> torch.Tensor:
    return torch.stack([data[index]["image"] for index in range(len(data))])


def test_items_have_the_promised_shapes_and_types(manifest: Manifest) -> None:
    item = dataset(manifest, augmentation="strong", masks=True)[0]
    assert (item["image"].shape, item["image"].dtype) == ((1, 32, 32), torch.float32)
    assert 0 <= float(item["image"].min()) <= float(item["image"].max()) <= 255
    assert set(item["mask"].unique().tolist()) <= {0.0, 1.0}
    assert (item["label"].dtype, int(item["label"]), int(item["index"])) == (torch.int64, 0, 0)
    data = dataset(manifest, masks=True)
    assert [float(data[index]["has_mask"]) for index in range(5)] == [1, 1, 1, 1, 0]


def test_second_epoch_decodes_nothing(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    original = module.read_image
    monkeypatch.setattr(
        module, "read_image", lambda path, **options: reads.append(str(path)) or original(path, **options)
    )
    seen: list[tuple[int, int]] = []
    data = dataset(manifest, augmentation="standard", progress=lambda done, total, what: seen.append((done, total)))
    assert len(reads) == 10
    assert seen[-1] == (10, 10)
    for epoch in range(2):
        data.set_epoch(epoch)
        images(data)
    assert len(reads) == 10


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "none"])
def test_noise_depends_on_seed_epoch_and_index_only(manifest: Manifest, name: str) -> None:
    data = dataset(manifest, augmentation=name, seed=1)
    data.set_epoch(3)
    first = images(data)
    assert not torch.equal(first, images(dataset(manifest)))
    assert torch.equal(first, images(data))
    np.random.seed(5)
    torch.manual_seed(5)
    again = dataset(manifest, augmentation=name, seed=1)
    again.set_epoch(3)
    assert torch.equal(again[7]["image"], first[7])
    again.set_epoch(4)
    assert not torch.equal(again[7]["image"], first[7])
    other = dataset(manifest, augmentation=name, seed=2)
    other.set_epoch(3)
    assert not torch.equal(other[7]["image"], first[7])


# Where the tests may use one core only, torch warns of two workers, and rightly.
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_workers_change_nothing_and_see_the_epoch(manifest: Manifest) -> None:
    batches = []
    for workers in (0, 2):
        data = dataset(manifest, augmentation="standard", masks=True)
        loader = make_loader(data, batch_size=4, shuffle=True, seed=3, workers=workers)
        for epoch in range(2):
            data.set_epoch(epoch)
            batches.append([(b["index"].tolist(), b["image"]) for b in loader])
    for one, other in ((batches[0], batches[2]), (batches[1], batches[3])):
        for (order, pictures), (order_again, pictures_again) in zip(one, other, strict=True):
            assert order == order_again
            assert torch.equal(pictures, pictures_again)
    assert [order for order, _ in batches[0]] != [order for order, _ in batches[1]]


def test_mask_moves_with_its_image() -> None:
    image = np.zeros((1, 32, 32), dtype=np.float32)
    image[:, 8:20, 4:16] = 255
    mask = (image > 0).astype(np.float32)
    move = RandomPlacement(10, 0.1, (0.8, 1.2), 1.1, 0.1)
    for seed in range(10):
        move.set_random_state(seed=seed)
        moved = move({"image": image, "mask": mask})
        assert (np.abs((moved["image"] > 127) - moved["mask"])).mean() < 0.01


def test_images_are_never_turned_upside_down() -> None:
    image = np.repeat(np.linspace(0, 255, 32, dtype=np.float32).reshape(1, 32, 1), 32, axis=2)
    for name in set(RECIPES) - {"none"}:
        for seed in range(10):
            move = make_augmentation(name).transforms[0]
            move.set_random_state(seed=seed)
            moved = move({"image": image})["image"]
            assert moved[0, 20:26, 12:20].mean() > moved[0, 6:12, 12:20].mean()


def test_wrong_label_augmentation_and_image_are_sentences(manifest: Manifest) -> None:
    with pytest.raises(InputError, match="unknown augmentation 'wild'"):
        dataset(manifest, augmentation="wild")
    with pytest.raises(InputError, match="label 'malignant' is not one of benign"):
        make_dataset(manifest.table, manifest, spec=SPEC, classes=("benign",))
    manifest.path("benign/2.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"2\.png is empty"):
        dataset(manifest)


def test_statistics_are_those_of_the_pixels(manifest: Manifest) -> None:
    data = dataset(manifest)
    pixels = images(data) / 255
    assert data.statistics() == pytest.approx((float(pixels.mean()), float(pixels.std(correction=0))), abs=1e-5)


def test_second_draw_of_an_image_has_other_noise(manifest: Manifest) -> None:
    data = dataset(manifest, augmentation="standard", masks=True)
    first, second = data[3], data[3 + len(data)]
    assert (int(first["index"]), int(first["label"])) == (int(second["index"]), int(second["label"]))
    assert not torch.equal(first["image"], second["image"])
    plain = dataset(manifest)
    assert torch.equal(plain[3]["image"], plain[3 + len(plain)]["image"])


def test_batch_changes_nothing_of_its_items(manifest: Manifest) -> None:
    data = dataset(manifest, augmentation="ultrasound", masks=True)
    items = [7, 0, 17, 2, 7]
    batch = data.__getitems__(items)
    for place, item in enumerate(items):
        alone = data[item]
        assert alone.keys() == batch.keys()
        assert all(torch.equal(batch[key][place], alone[key]) for key in alone)


def test_balanced_loader_gives_rare_classes_as_often(manifest: Manifest) -> None:
    table = manifest.table[(manifest.table["label"] == "benign") | (manifest.table.index % 5 == 0)]
    data = make_dataset(table, manifest, spec=SPEC, classes=CLASSES, augmentation="light")
    assert data.labels.tolist() == [0] * 5 + [1]
    loader = make_loader(data, batch_size=4, shuffle=True, sampling="balanced")
    labels: list[int] = []
    for epoch in range(60):
        data.set_epoch(epoch)
        labels += [label for batch in loader for label in batch["label"].tolist()]
    assert len(labels) == 360
    assert 150 < sum(labels) < 210
