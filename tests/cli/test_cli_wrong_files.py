"""Wrong manifests and wrong image files through the commands: one sentence, exit code 2, nothing written."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from PIL import Image

from medsharp.data.phantom.simulate import simulate_image

BUNDLE = min((Path(__file__).parents[2] / "models").glob("*/bundle.yaml")).parent
GREY = simulate_image("A", "benign", np.random.default_rng(0), size=128).pixels


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, in which `hospital` holds two images and `secret.png` lies beside it."""
    monkeypatch.chdir(tmp_path)
    Path("hospital").mkdir()
    for number, name in enumerate(("hospital/a.png", "hospital/b.png", "secret.png")):
        Image.fromarray(np.roll(GREY, 7 * number)).save(name)
    return tmp_path


@pytest.mark.parametrize("command", ["evaluate", "predict", "audit", "split"])
def test_a_file_that_was_replaced_is_refused_by_every_command(hospital: Path, command: str) -> None:
    files = (Path("hospital/a.png"), Path("hospital/b.png"))
    lines = [
        f"{file.name},{label},{hashlib.sha256(file.read_bytes()).hexdigest()}"
        for file, label in zip(files, ("benign", "malignant"), strict=True)
    ]
    Path("hospital/manifest.csv").write_text("\n".join(["image,label,sha256", *lines]) + "\n")
    shutil.copy("secret.png", "hospital/b.png")
    match command:
        case "evaluate":
            result = run("evaluate", BUNDLE, "--data", "hospital", "--out", "out")
        case "predict":
            result = run("predict", BUNDLE, "hospital/manifest.csv", "--out", "out")
        case _:
            result = run("data", command, "hospital", "--out", "out")
    assert result.exit_code == 2, result.output
    assert "row 3: b.png is another file than when the manifest was made" in " ".join(result.stderr.split())
    assert not Path("out").exists()


@pytest.mark.parametrize("command", ["train", "evaluate", "predict"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image\na.png\nb.png\n", ["manifest.csv", "no column 'label'"]),
        ("label\nbenign\n", ["manifest.csv", "no column 'image'"]),
        ("image,label\n/etc/passwd,benign\nb.png,malignant\n", ["manifest.csv, row 2", "/etc/passwd"]),
        ("image,label\na.png,benign\n../secret.png,malignant\n", ["manifest.csv, row 3", "../secret.png"]),
        ("image,label\na.png,benign\nb.png,malignant\na.png,benign\n", ["manifest.csv, row 4", "row 2 already"]),
        ("image,label\na.png,benign\nlost.png,malignant\n", ["manifest.csv, row 3", "lost.png"]),
    ],
)
def test_a_wrong_manifest_is_refused_by_every_command(
    hospital: Path, command: str, text: str, words: list[str]
) -> None:
    manifest = Path("hospital/manifest.csv")
    manifest.write_text(text)
    match command:
        case "train":
            result = run("train", "--data", manifest, "--out", "out")
        case "evaluate":
            result = run("evaluate", BUNDLE, "--data", manifest, "--out", "out")
        case _:
            result = run("predict", BUNDLE, manifest, "--out", "out")
    sentence = " ".join(result.stderr.split())
    assert result.exit_code == 2, result.output
    assert all(word in sentence for word in words), sentence
    assert not Path("out").exists()


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_an_unknown_label_is_refused_with_its_row(hospital: Path, command: str) -> None:
    Image.fromarray(GREY[::-1].copy()).save("hospital/c.png")
    Path("hospital/manifest.csv").write_text("image,label\na.png,benign\nb.png,malignant\nc.png,benin\n")
    first = ["train"] if command == "train" else ["evaluate", str(BUNDLE)]
    result = run(*first, "--data", "hospital/manifest.csv", "--out", "out")
    assert result.exit_code == 2, result.output
    assert "row 4: label 'benin' is not one of benign, malignant; did you mean benign?" in " ".join(
        result.stderr.split()
    )


def test_a_manifest_is_predicted_by_a_relative_path(hospital: Path) -> None:
    Path("hospital/manifest.csv").write_text("image,label\na.png,benign\nb.png,malignant\n")
    result = run("predict", BUNDLE, "hospital/manifest.csv", "--out", "p.csv")
    assert result.exit_code == 0, result.output
    assert len(Path("p.csv").read_text().splitlines()) == 3


def animated(path: Path) -> None:
    Image.fromarray(GREY).save(path, save_all=True, append_images=[Image.fromarray(255 - GREY)])


def truncated(path: Path) -> None:
    Image.fromarray(GREY).save(path)
    path.write_bytes(path.read_bytes()[:700])


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncated, "damaged or cut off"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "one pixel": (lambda path: Image.fromarray(GREY[:1, :1]).save(path), "1 x 1 pixels"),
    "60,000 wide": (lambda path: Image.new("L", (60_000, 20)).save(path), "60000 x 20 pixels"),
    "animated": (animated, "frames"),
    "text": (lambda path: path.write_text("hello"), "is not a PNG"),
    "missing": (lambda path: None, "does not exist"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_is_a_sentence_and_stops_no_other(hospital: Path, kind: str) -> None:
    make, words = BAD[kind]
    bad = Path("bad.png")
    make(bad)
    alone = run("predict", BUNDLE, bad)
    assert alone.exit_code == 2, alone.output
    assert "bad.png" in alone.stderr
    assert words in " ".join(alone.stderr.split())
    beside = run("predict", BUNDLE, bad, "hospital/a.png", "--out", "p.csv")
    assert beside.exit_code == 1, beside.output
    assert words in " ".join(beside.stderr.split())
    assert "hospital/a.png,0." in Path("p.csv").read_text().replace(",,", ",")


@pytest.mark.parametrize(
    ("name", "picture", "flag"),
    [
        ("deep.png", Image.fromarray(GREY.astype(np.uint16) * 257), "16-bit"),
        ("clear.png", Image.fromarray(np.dstack([GREY, GREY, GREY, np.full_like(GREY, 200)])), "alpha"),
        ("print.jpg", Image.fromarray(GREY).convert("CMYK"), "cmyk"),
    ],
)
def test_unusual_pixels_are_read_and_flagged(hospital: Path, name: str, picture: Image.Image, flag: str) -> None:
    picture.save(name)
    result = run("predict", BUNDLE, name, "--out", "p.csv")
    assert result.exit_code == 0, result.output
    assert flag in Path("p.csv").read_text()
