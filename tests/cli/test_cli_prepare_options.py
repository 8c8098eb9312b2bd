"""`data prepare`: copies of files that are nearly called alike, and options that would have no effect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import refused, run

from medsharp.data import read_manifest

Save = Callable[..., Any]


def test_files_whose_names_differ_in_a_letter_have_copies_of_their_own(tmp_path: Path, save_picture: Save) -> None:
    names = [f"{label}/{name}" for label in ("benign", "malignant") for name in ("1.png", "01.png", "A.png", "a.png")]
    names += ["benign/a b.png", "benign/ab.png", "benign/a.PNG"]
    for name in names:
        save_picture(tmp_path / "export" / name)
    result = run("data", "prepare", tmp_path / "export", "--copy", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    manifest = read_manifest(tmp_path / "out")
    copies = {manifest.path(image).read_bytes() for image in manifest.table["image"]}
    assert copies == {(tmp_path / "export" / name).read_bytes() for name in names}
    assert len(manifest.table) == len(names)
    assert not manifest.table["image"].str.contains(r"/(?:\.|$)").any()


def test_masks_of_frames_have_copies_of_their_own(tmp_path: Path, save_dicom: Save, save_picture: Save) -> None:
    folder = tmp_path / "export"
    save_dicom(folder / "unknown", "1", frames=3)
    for name in ("m1.png", "m2.png"):
        save_picture(folder / name)
    lines = ("image,frame,label,mask", "unknown,1,benign,m1.png", "unknown,3,malignant,m2.png;m1.png")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    result = run("data", "prepare", folder, "--copy", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    manifest = read_manifest(tmp_path / "out")
    masks = [[path.read_bytes() for path in manifest.masks(row)] for row in manifest.table.to_dict("records")]
    first, second = ((folder / name).read_bytes() for name in ("m1.png", "m2.png"))
    assert masks == [[first], [second, first]]


@pytest.mark.parametrize(
    ("option", "value"), [("--labels", "new.csv"), ("--keep", "nowhere"), ("--study-date", "year")]
)
@pytest.mark.parametrize(
    ("data", "why"),
    [("m/manifest.csv", "is a manifest"), ("m", "holds a manifest"), ("phantom:A", "is simulated")],
)
def test_an_option_without_effect_is_refused(
    data: str, why: str, option: str, value: str, tmp_path: Path, save_picture: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        save_picture(tmp_path / "m" / f"{number}.png")
    lines = "image,label\n1.png,benign\n2.png,malignant\n"
    for name in ("m/manifest.csv", "new.csv"):
        (tmp_path / name).write_text(lines, encoding="utf-8")
    result = run("data", "prepare", data, option, value, "--out", tmp_path / "out")
    refused(result, f"{option} {value}: ", f"{data} {why}; leave it out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("option", "value"), [("--keep", "nowhere"), ("--labels", "new.csv")])
def test_an_option_without_effect_on_a_public_data_set_is_refused(
    option: str, value: str, workspace: Path, tmp_path: Path
) -> None:
    result = run("data", "prepare", workspace / "BUSBRA", option, value, "--out", tmp_path / "out")
    refused(result, f"{option} {value}: ", "leave it out, or say --source folder")
