"""The example on the page of predicting from Python runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
from PIL import Image

from medsharp.inference import Prediction

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "inference.md"


def test_the_page_names_all_that_a_prediction_carries() -> None:
    section = PAGE.read_text(encoding="utf-8").split("## What a prediction carries")[1].split("\n## ")[0]
    named = {
        name.rstrip("()") for row in section.splitlines() for name in re.findall(r"`([a-z_]+(?:\(\))?)`", row[:90])
    }
    public = {name for name in vars(Prediction) if not name.startswith("_")} | {one.name for one in fields(Prediction)}
    assert {name for name in public if not name.startswith("_")} <= named


def test_the_example_runs_and_says_what_became_of_each_image(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        pixels = np.clip(rng.rayleigh(60, (120, 160)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "images" / "text.png").write_text("no image")
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = sorted(ended.stdout.splitlines())
    assert len(lines) == 3
    assert lines[2].startswith("images/text.png failed: ")
    for number, line in enumerate(lines[:2]):
        assert re.fullmatch(rf"images/{number}\.png (0\.\d{{3}} (above|below) [+-]\d+\.\d\d|refused: .+)", line), line
