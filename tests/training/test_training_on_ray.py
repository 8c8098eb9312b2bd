"""Pieces of training on a Ray with a GPU, which is logical here: cross-validation, and parts of the GPU."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from command_line import refused, run

from .conftest import make_manifest

if TYPE_CHECKING:
    from medsharp.cluster import Cluster

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, of its own settings


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two cores, and a GPU as Ray counts them."""
    from medsharp.cluster import joined

    if ray.is_initialized():
        pytest.skip("another Ray runs in this process, and counts no GPU")
    folder = Path(tempfile.mkdtemp(prefix="medsharp-tests-", dir="/tmp"))  # Ray's sockets need short paths
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL, "include_dashboard": False}
    ray.init(num_cpus=2, num_gpus=1, object_store_memory=2**27, _temp_dir=str(folder), **quiet)
    try:
        with joined() as cluster:
            yield cluster
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def nobody_says_how_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def together(folder: Path, patience: float) -> Callable[[str, str], Iterator[dict[str, Any]]]:
    """Return a piece of work that tells whether others are done meanwhile: it waits for one, so many seconds."""

    def work(name: str, device: str) -> Iterator[dict[str, Any]]:
        own = folder / name
        own.touch()
        met, deadline = False, time.monotonic() + patience
        while not met and time.monotonic() < deadline:
            met = len(list(folder.iterdir())) > 1
            time.sleep(0.02)
        time.sleep(1)  # so that the other sees this one too
        own.unlink()
        yield {"kind": "note", "met": met, "device": device, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}
        yield {"kind": "ended", "failure": ""}

    return work


@pytest.mark.parametrize(("gpus", "meet"), [(0.5, True), (1.0, False), (0.6, False)])
def test_as_many_pieces_share_a_gpu_as_have_room_on_it(
    cluster: Cluster, tmp_path: Path, gpus: float, meet: bool
) -> None:
    from medsharp.cluster import PieceTasks

    found = list(PieceTasks(cluster, gpus_each=gpus)(["one", "other"], together(tmp_path, 60 if meet else 2)))
    notes = {name: event for name, event in found if event["kind"] == "note"}
    assert {name: note["met"] for name, note in notes.items()} == {"one": meet, "other": meet}
    assert {(note["device"], note["gpus"]) for note in notes.values()} == {("cuda", "0")}
    assert [event["failure"] for _, event in found if event["kind"] == "ended"] == ["", ""]


def test_pieces_without_a_gpu_see_none(cluster: Cluster, tmp_path: Path) -> None:
    from medsharp.cluster import PieceTasks

    found = list(PieceTasks(cluster, gpus_each=0)(["one", "other"], together(tmp_path, 60)))
    notes = [event for _, event in found if event["kind"] == "note"]
    assert [(note["met"], note["device"]) for note in notes] == [(True, "cpu")] * 2


@pytest.mark.slow
def test_crossvalidation_is_that_of_one_process(cluster: Cluster, tmp_path: Path) -> None:
    """By the command, of two members at once; the second start finds all done."""
    data = tmp_path / "data"
    data.mkdir()
    make_manifest(data, {"": 24})
    settings = {
        "data": {"image_size": 32, "crop": "none", "augmentation": "light", "cache": "memory"},
        "network": {"name": "resnet10_w16"},
        "optimizer": {"name": "sam", "lr": 2e-3},
        "schedule": {"epochs": 1, "warmup_epochs": 0, "batch_size": 8},
        "run": {"device": "cpu", "precision": "fp32"},
    }
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    command = ("crossvalidate", config, "--data", data, "--by", "fold", "--folds", "3", "--out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # as of a piece; the processes of --devices take it over
        here = run(*command, tmp_path / "here", "--devices", "cpu,auto")
    assert here.exit_code == 0, here.output
    for _ in range(2):
        there = run(*command, tmp_path / "there", "--ray", "--gpus-each", "0")
        assert there.exit_code == 0, there.output
        assert "runs on Ray on this machine: 2 CPUs and 1 GPU" in there.output
        files = [
            {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob(pattern)}
            for name in ("here", "there")
            for pattern in ("*.safetensors", "predictions.csv")
        ]
        assert len(files[0]) == 6
        assert len(files[1]) == 4
        assert files[:2] == files[2:]
    refused(run(*command, tmp_path / "none", "--ray", "--gpus-each", "2"), "a piece of the work needs 1 CPU and 2 GPUs")
    assert not (tmp_path / "none").exists()
