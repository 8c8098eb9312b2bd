"""`medsharp data preview` and `medsharp data cache`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.data.preview import contact_sheet


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(40, 200, (48, 48), dtype=np.uint8)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for label in ("benign", "malignant"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(picture(number)).save(tmp_path / "data" / label / f"{number}.png")
    return tmp_path / "data"


def test_sheet_has_the_input_each_transform_and_the_whole() -> None:
    sheet = np.asarray(contact_sheet([picture(0), picture(1)], "ultrasound", together=2))
    assert sheet.shape == (6 + 18 + 2 * 54, 6 + 9 * 54)  # input, six transforms, two draws of all
    tiles = [sheet[24:72, 6 + 54 * place : 54 + 54 * place] for place in range(9)]
    np.testing.assert_array_equal(tiles[0], picture(0))
    assert all(not np.array_equal(tile, tiles[0]) for tile in tiles[1:])
    assert np.array_equal(sheet, np.asarray(contact_sheet([picture(0), picture(1)], "ultrasound", together=2)))
    assert not np.array_equal(
        sheet, np.asarray(contact_sheet([picture(0), picture(1)], "ultrasound", together=2, seed=1))
    )


@pytest.mark.parametrize(
    ("augmentation", "columns"), [("none", 1), ("standard", 5), ("{shadow: {strength: 0.5}, noise: {}}", 3)]
)
def test_command_writes_the_sheet(data: Path, tmp_path: Path, augmentation: str, columns: int) -> None:
    out = tmp_path / "sheet.png"
    options = ["--augmentation", augmentation, "--out", str(out), "--images", "2", "--together", "0"]
    result = CliRunner().invoke(app, ["data", "preview", "--data", str(data), *options])
    assert result.exit_code == 0, result.output
    with Image.open(out) as sheet:
        assert sheet.width == 6 + columns * (128 + 6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--augmentation", "wild"], "augmentation 'wild' is no recipe"),
        (["--augmentation", "{shadow: {strenght: 1}}"], "did you mean strength"),
        (["--augmentation", "{"], "neither a name nor YAML"),
        (["--out", "sheet.gif"], "must end in .png"),
    ],
)
def test_wrong_input_is_a_sentence(data: Path, tmp_path: Path, options: list[str], words: str) -> None:
    result = CliRunner().invoke(
        app, ["data", "preview", "--data", str(data), "--out", str(tmp_path / "sheet.png"), *options]
    )
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert not (tmp_path / "sheet.png").exists()


def test_sheet_of_no_images_is_refused(data: Path, tmp_path: Path) -> None:
    (data / "manifest.csv").write_text("image,label,exclude\nbenign/0.png,benign,blurred\n")
    result = CliRunner().invoke(app, ["data", "preview", "--data", str(data), "--out", str(tmp_path / "sheet.png")])
    assert result.exit_code == 2
    assert "no image that is not excluded" in " ".join(result.stderr.split())
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize("name", ["benign/1.png", "benign/1_mask.png", "link.png", "hard.png"])
def test_sheet_replaces_no_image_of_its_data(data: Path, name: str) -> None:
    Image.fromarray(picture(9)).save(data / "benign" / "1_mask.png")
    (data / "link.png").symlink_to(data / "malignant" / "2.png")
    (data / "hard.png").hardlink_to(data / "malignant" / "2.png")
    before = {file: file.read_bytes() for file in data.rglob("*.png")}
    result = CliRunner().invoke(app, ["data", "preview", "--data", str(data), "--out", str(data / name)])
    assert result.exit_code == 2
    assert f"{name} is what is read here; choose another" in " ".join(result.stderr.split())
    assert {file: file.read_bytes() for file in data.rglob("*.png")} == before


def test_cache_is_shown_and_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "medsharp/images/recipe").mkdir(parents=True)
    (tmp_path / "medsharp/images/recipe/1.images").write_bytes(b"0" * 2**20)
    (tmp_path / "medsharp/BreastMNIST-1-0123/benign").mkdir(parents=True)  # out of an archive
    (tmp_path / "medsharp/BreastMNIST-1-0123/benign/1.png").write_bytes(b"0")
    shown = CliRunner().invoke(app, ["data", "cache"])
    assert "1 files, 1.0 MiB" in shown.output
    assert "1 files of archives" in " ".join(shown.output.split())
    (tmp_path / "medsharp/images/recipe/.2.images.x.part").write_bytes(b"0")  # of a process that was killed
    assert CliRunner().invoke(app, ["data", "cache", "--clear"]).exit_code == 0
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]
    assert "0 files, 0.0 MiB" in CliRunner().invoke(app, ["data", "cache"]).output
