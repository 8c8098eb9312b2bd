"""`medsharp bench page`: the pictures of the documentation are made by it, all of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.data.phantom import write_phantom

CHROMIUM = any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
ROOT = Path(__file__).resolve().parents[2]
MEDSHARP = [sys.executable, "-c", "from medsharp.cli import main; main()"]


def bench_page(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*MEDSHARP, "bench", "page", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def report(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model that guesses, on a few simulated patients."""
    folder = tmp_path_factory.mktemp("evaluated")
    write_phantom(folder / "B", hospital="B", patients=40, seed=0)
    command = [*MEDSHARP, "evaluate", bundle, "--data", folder / "B", "--out", folder / "out", "--resamples", "200"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "out" / "report.html"


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no chromium in PATH")
def test_pictures_of_the_documentation_are_taken(bundle: Path, report: Path, tmp_path: Path) -> None:
    pytest.importorskip("playwright")
    done = bench_page(bundle, "--out", tmp_path, "--report", report)
    assert done.returncode == 0, done.stderr
    sizes = {}
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            sizes[path.stem] = picture.size
            grey = np.asarray(picture.convert("L"))
        # Neither half of it is empty.
        assert grey[:, : grey.shape[1] // 2].std() > 5, path.stem
        assert grey[:, grey.shape[1] // 2 :].std() > 5, path.stem
    assert sizes == {
        "page": (1280, 1470), "page-phone": (390, 2350), "page-batch": (1280, 1900), "page-robustness": (1280, 1540),
        "report": (1600, 1150),
    }  # fmt: skip
    # Its halves are of two places: the beginning, and the curves, whose bands are blue.
    shown = np.asarray(Image.open(tmp_path / "report.png").convert("RGB")).astype(int)
    blue = (shown[..., 2] - shown[..., 0] > 20).mean(axis=0)
    assert blue[800:].mean() > 0.05 > 4 * blue[:800].mean()


def test_every_picture_of_page_and_report_that_the_documentation_shows_is_one_of_these() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    names = r"images/((?:page|report)[\w-]*)\.png"
    shown = {name for page in pages for name in re.findall(names, page.read_text(encoding="utf-8"))}
    there = {path.stem for word in ("page", "report") for path in (ROOT / "docs" / "images").glob(f"{word}*.png")}
    assert shown == there == {"page", "page-phone", "page-batch", "page-robustness", "report"}


def test_report_is_of_the_demo_where_none_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The demo is run elsewhere: it takes minutes."""

    def demo(out: Path) -> None:
        (out / "evaluation").mkdir(parents=True)
        (out / "evaluation" / "report.html").write_text("of the demo")

    def take(bundles: list[Path], out: Path, progress: object, report: Path) -> list[Path]:
        assert report.read_text() == "of the demo"
        return [out / "report.png"]

    monkeypatch.setattr("medsharp.cli.demo.demo", demo)
    monkeypatch.setattr("serve.page.pictures.check_browser", lambda: "chromium")
    monkeypatch.setattr("serve.page.pictures.take_pictures", take)
    told = CliRunner().invoke(app, ["bench", "page", "--out", str(tmp_path)])
    assert told.exit_code == 0, told.output
    assert "report.png" in told.output.replace("\n", "")


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no chromium in PATH")
def test_page_that_is_no_report_is_one_sentence(bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("playwright")
    (tmp_path / "other.html").write_text("<!doctype html><p>nothing</p>")
    done = bench_page(bundle, "--out", tmp_path / "out", "--report", tmp_path / "other.html")
    assert done.returncode == 2
    assert "other.html is no report of an evaluation with curves; medsharp demo makes one" in " ".join(
        done.stderr.split()
    )
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_without_a_browser_nothing_is_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("medsharp.cli.demo.demo", lambda *_: pytest.fail("the demo was begun"))
    told = CliRunner().invoke(app, ["bench", "page", "--out", str(tmp_path / "out")])
    assert told.exit_code == 2
    assert "no browser in PATH" in " ".join(told.output.split())
    assert not (tmp_path / "out").exists()
