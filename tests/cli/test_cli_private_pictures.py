"""Whatever command writes pictures of patients writes them for their owner alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.data.phantom import write_phantom

BUNDLE = Path(__file__).parents[2] / "models" / "busi-resnet18"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("private") / "data"
    write_phantom(folder, patients=6, size=64)
    return folder


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """Under which files are for all to read and write."""
    before = os.umask(0)
    yield
    os.umask(before)


def run(*command: object) -> None:
    result = CliRunner().invoke(app, [str(part) for part in command])
    assert result.exit_code == 0, result.output


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_contact_sheet_of_augmentations(hospital: Path, tmp_path: Path) -> None:
    run("data", "preview", "--data", hospital, "--out", tmp_path / "sheet.png", "--images", "2", "--together", "1")
    assert rights(tmp_path / "sheet.png") == 0o600


def test_heat_maps_over_images(hospital: Path, tmp_path: Path) -> None:
    image = sorted((hospital / "images").iterdir())[0]
    run("predict", BUNDLE, image, "--heatmaps", tmp_path / "maps")
    files = list((tmp_path / "maps").iterdir())
    assert files
    assert all(rights(file) == 0o600 for file in files)


def test_report_with_the_images_it_got_wrong(hospital: Path, tmp_path: Path) -> None:
    command = ("evaluate", BUNDLE, "--data", hospital, "--resamples", "100", "--out")
    run(*command, tmp_path / "with", "--thumbnails")
    assert rights(tmp_path / "with" / "report.html") == 0o600
    run(*command, tmp_path / "without")
    assert rights(tmp_path / "without" / "report.html") == 0o666


def test_audit(hospital: Path, tmp_path: Path) -> None:
    run("data", "audit", hospital, "--out", tmp_path / "out")
    assert rights(tmp_path / "out") == 0o700
    assert rights(tmp_path / "out" / "audit.html") == rights(tmp_path / "out" / "findings.csv") == 0o600


def test_images_out_of_an_archive_are_private_and_go_with_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 546), ("val", 78), ("test", 156)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 2)[:, None]
    np.savez(tmp_path / "breastmnist.npz", **arrays)
    command = ("data", "preview", "--data", tmp_path / "breastmnist.npz", "--images", "1", "--together", "0", "--out")
    run(*command, tmp_path / "one.png")
    (folder,) = (tmp_path / "cache" / "medsharp").glob("breastmnist-*")
    assert rights(folder) == 0o700
    folder.chmod(0o755)  # as earlier versions left it
    run(*command, tmp_path / "again.png")
    assert rights(folder) == 0o700
    run("data", "cache", "--clear")
    assert not folder.exists()
