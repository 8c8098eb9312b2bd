"""Balanced drawing: what it does to the loss's weights, that it resumes, and that waiting for data is recorded."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import training.learner
import training.loop
from medsharp.config import TrainConfig
from medsharp.data import Manifest
from medsharp.data.pipeline import ImageDataset
from medsharp.errors import InputError
from training import Interrupted, Run, train
from training.datasets import class_counts, make_datasets, mask_share
from training.loop import _Trainer
from training.losses import Objective, balanced_weights


@pytest.fixture
def uneven(squares: Manifest) -> Manifest:
    """Of 16 training images, 8 benign and 2 malignant ones, one and both of which have masks."""
    table = squares.table.copy()
    learned = table["split"] == "train"
    few = table.index[learned & (table["label"] == "malignant") & (table["mask"] != "")][2:]
    others = table.index[learned & (table["label"] == "malignant") & (table["mask"] == "")]
    table.loc[table.index[learned & (table["label"] == "benign")][1:], "mask"] = ""
    return squares.replace(table=table.drop(index=[*few, *others]))


def class_weights(run: Run) -> list[float]:
    state = torch.load(run.folder / "checkpoints/last.pt", weights_only=True)
    return [round(weight, 4) for weight in state["objective"]["class_weights"].tolist()]


def test_classes_drawn_as_often_are_not_weighted_once_more(
    uneven: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    weighted = train(configure(schedule={"epochs": 1}), uneven, out=tmp_path / "weighted")
    assert class_weights(weighted) == [0.625, 2.5]
    balanced = configure(schedule={"epochs": 1}, data={"sampling": "balanced"})
    assert class_weights(train(balanced, uneven, out=tmp_path / "balanced")) == [1.0, 1.0]


def test_mask_loss_is_divided_by_the_share_of_masks_among_what_is_drawn(
    uneven: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []

    class Watched(Objective):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            shares.append(self.mask_share)

    monkeypatch.setattr(training.learner, "Objective", Watched)
    for sampling in ("shuffled", "balanced"):
        config = configure(schedule={"epochs": 1}, data={"sampling": sampling}, loss={"mask_weight": 1.0})
        train(config, uneven, out=tmp_path / sampling)
    rows = uneven.of_split("train")
    masked = rows["mask"] != ""
    by_class = masked.groupby(rows["label"]).mean()
    assert shares == pytest.approx([masked.mean(), by_class.mean()])
    assert shares[0] != pytest.approx(shares[1])


@pytest.fixture
def two_sites(squares: Manifest) -> Manifest:
    """Training images of two hospitals, whose shares of classes and of masks are uneven."""
    table = squares.table.copy()
    learned = table[table["split"] == "train"]
    benign, malignant = (learned.index[learned["label"] == label] for label in ("benign", "malignant"))
    table.loc[:, "site"] = "A"
    table.loc[[benign[0], *malignant[:4]], "site"] = "b"
    table.loc[malignant[0], "site"] = "B"
    table.loc[table["site"] != "A", "mask"] = ""
    table.loc[benign[0], "mask"] = table.at[table.index[table["mask"] != ""][0], "mask"]
    return squares.replace(table=table.drop(index=malignant[6:]))


def test_loss_knows_the_classes_and_masks_that_drawing_hospitals_equally_shows(
    two_sites: Manifest, configure: Callable[..., TrainConfig]
) -> None:
    data = two_sites.of_split("train")
    for sampling in ("sites", "sites_and_classes"):
        config = configure(data={"sampling": sampling}, loss={"mask_weight": 1.0})
        training = make_datasets(config, two_sites, lambda event: None)["train"]
        counts = class_counts(training.table, config)
        sites = data["site"].str.upper()
        malignant = (data["label"] == "malignant").groupby(sites).mean().mean() if sampling == "sites" else 0.5
        assert float(counts[1] / counts.sum()) == pytest.approx(malignant)
        weights = balanced_weights(counts)
        assert weights.tolist() == pytest.approx([0.5 / (1 - malignant), 0.5 / malignant])
        strata = [sites] if sampling == "sites" else [sites, data["label"]]
        assert mask_share(training, config) == pytest.approx((data["mask"] != "").groupby(strata).mean().mean())


def test_hospitals_that_are_not_known_or_of_one_class_are_not_drawn_equally(
    two_sites: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = configure(data={"sampling": "sites"})
    table = two_sites.table.copy()
    first = table.index[table["site"] == "b"][0]
    nowhere = table.assign(site=table["site"].where(table.index != first, "unknown"))
    with pytest.raises(InputError, match="the site of 1 training images of squares is not known"):
        train(config, two_sites.replace(table=nowhere), out=tmp_path / "run")
    one = table.drop(index=table.index[(table["site"] != "A") & (table["label"] == "benign")])
    with pytest.raises(InputError, match=r"site '[bB]' has training images of class malignant only"):
        train(config, two_sites.replace(table=one), out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(("workers", "sampling"), [(0, "balanced"), (1, "balanced"), (0, "sites")])
def test_interrupted_run_that_draws_resumes_to_the_same_weights(
    workers: int, sampling: str, two_sites: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    uneven = two_sites
    config = configure(data={"sampling": sampling, "augmentation": "ultrasound"}, run={"workers": workers})

    def stop(event: dict[str, Any]) -> None:
        if event["kind"] == "batch" and (event["epoch"], event["done"]) == (2, 1):
            raise KeyboardInterrupt

    whole = train(config, uneven, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(config, uneven, out=tmp_path / "stopped", events=stop)
    run = Run.load(tmp_path / "stopped")
    train(run.config, run.manifest, out=run.folder, resume=True)
    first, second = (load_file(folder / "checkpoints/last.safetensors") for folder in (whole.folder, run.folder))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_second_training_decodes_nothing_and_ends_with_the_same_weights(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    told: list[list[dict[str, Any]]] = [[], []]
    config = configure(schedule={"epochs": 1}, data={"cache": "disk"}, loss={"mask_weight": 0.5})
    runs = [train(config, squares, out=tmp_path / str(number), events=told[number].append) for number in range(2)]
    decoded = [sum(event["kind"] == "cache" for event in events) for events in told]
    assert decoded == [30, 0]
    first, second = (load_file(run.folder / "checkpoints/last.safetensors") for run in runs)
    assert all(torch.equal(first[key], second[key]) for key in first)


class Clock:
    """Stands still but for what is said to take time."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class OneAfterTheOther:
    """In place of a pool of threads: work is done when its result is asked for, so that none of it overlaps."""

    def __init__(self, max_workers: int) -> None:
        assert max_workers == 1

    def __enter__(self) -> OneAfterTheOther:
        return self

    def __exit__(self, *exception: Any) -> None:
        pass

    def submit(self, work: Callable[..., Any], *given: Any) -> OneAfterTheOther:
        self.work = functools.partial(work, *given)
        return self

    def result(self) -> Any:
        return self.work()


def test_waiting_for_data_is_recorded(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    fetch, step = ImageDataset.__getitems__, _Trainer._step

    def slow_fetch(self: ImageDataset, items: list[int]) -> dict[str, torch.Tensor]:
        clock.now += 0.5
        return fetch(self, items)

    def slow_step(self: _Trainer, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        clock.now += 1.5
        return step(self, batch)

    monkeypatch.setattr(training.loop, "time", clock)
    monkeypatch.setattr(training.loop, "ThreadPoolExecutor", OneAfterTheOther)
    monkeypatch.setattr(ImageDataset, "__getitems__", slow_fetch)
    monkeypatch.setattr(_Trainer, "_step", slow_step)
    told: list[dict[str, Any]] = []
    run = train(configure(schedule={"epochs": 1}), squares, out=tmp_path / "run", events=told.append)
    waits = [event["wait_seconds"] for event in told if event["kind"] == "batch"]
    assert waits == pytest.approx([0.5, 1.0, 1.5])
    (record,) = run.metrics()
    assert record["wait_seconds"] == pytest.approx(1.5)
    assert record["wait_share"] == pytest.approx(1.5 / 6)
    assert record["images_per_second"] == pytest.approx(16 / 6, rel=1e-3)
    assert record["seconds"] == pytest.approx(6 + 2 * 0.5)  # validation fetches two batches


def test_next_batch_is_made_while_a_step_runs(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Semaphore(0)
    fetch, step = ImageDataset.__getitems__, _Trainer._step
    overlapped = []

    def counted(self: ImageDataset, items: list[int]) -> dict[str, torch.Tensor]:
        begun.release()
        return fetch(self, items)

    def patient(self: _Trainer, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        if not overlapped:  # the first batch has begun, and so must the second, before the first step ends
            begun.acquire()
            overlapped.append(begun.acquire(timeout=60))
        return step(self, batch)

    monkeypatch.setattr(ImageDataset, "__getitems__", counted)
    monkeypatch.setattr(_Trainer, "_step", patient)
    train(configure(schedule={"epochs": 1}), squares, out=tmp_path / "run")
    assert overlapped == [True]
