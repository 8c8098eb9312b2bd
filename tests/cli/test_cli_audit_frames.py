"""The audit of a manifest that has several frames of one clip: what is found of a frame is said of that frame."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from command_line import run
from PIL import Image

from medsharp.data import read_manifest
from medsharp.data.phantom import simulate_image

FRAMES = 6


def audited(folder: Path, save_dicom: Callable[..., Any], change: Callable[[np.ndarray], None]) -> dict[str, Any]:
    """Audit a clip of six frames, of which `change` makes what it likes, and a still; the rows by frame."""
    rng = np.random.default_rng(3)
    clip = np.stack([simulate_image("A", "benign", rng, size=128).pixels for _ in range(FRAMES)])
    change(clip)
    save_dicom(folder / "clip.dcm", "1", frames=FRAMES, Rows=128, Columns=128, PixelData=clip.tobytes())
    save_dicom(folder / "still.dcm", "2")
    lines = [f"clip.dcm,{('benign', 'malignant')[number == 5]},{number}" for number in range(1, FRAMES + 1)]
    text = "\n".join(("image,label,frame", *lines, "still.dcm,malignant,")) + "\n"
    (folder / "manifest.csv").write_text(text, encoding="utf-8")
    result = run("data", "audit", folder, "--out", folder / "out")
    assert result.exit_code == 0, result.output
    rows = read_manifest(folder / "out").table
    return dict(zip(rows["frame"], rows[["exclude", "flags"]].itertuples(index=False, name=None), strict=True))


def findings(folder: Path, kind: str) -> list[tuple[str, str]]:
    with (folder / "out" / "findings.csv").open(encoding="utf-8", newline="") as stream:
        return [(row["image"], row["other_image"]) for row in csv.DictReader(stream) if row["kind"] == kind]


def test_a_frame_of_one_grey_is_left_out_itself_and_shown(tmp_path: Path, save_dicom: Callable[..., Any]) -> None:
    def grey(clip: np.ndarray) -> None:
        clip[1] = 100

    rows = audited(tmp_path, save_dicom, grey)
    left = {frame for frame, (reason, _) in rows.items() if reason}
    assert left == {"2"}
    assert rows["2"] == ("constant image", "constant")
    assert findings(tmp_path, "constant") == [("clip.dcm#2", "")]
    page = (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
    found = re.search(r'src="data:image/jpeg;base64,([^"]+)" alt="clip\.dcm#2"', page)
    assert found is not None
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))))
    assert abs(shown.astype(int) - 100).max() <= 2


def test_equal_frames_name_each_other(tmp_path: Path, save_dicom: Callable[..., Any]) -> None:
    def repeat(clip: np.ndarray) -> None:
        clip[3] = clip[1]
        clip[4] = clip[2]

    rows = audited(tmp_path, save_dicom, repeat)
    assert {frame: reason for frame, (reason, _) in rows.items() if reason} == {
        "4": "exact duplicate of clip.dcm#2",
        "3": "contradictory duplicate of clip.dcm#5 (malignant)",
        "5": "contradictory duplicate of clip.dcm#3 (benign)",
    }
    assert findings(tmp_path, "exact") == [("clip.dcm#4", "clip.dcm#2")]
    assert findings(tmp_path, "contradictory") == [("clip.dcm#5", "clip.dcm#3")]
    assert {frame for frame, (_, flags) in rows.items() if "contradictory" in flags} == {"3", "5"}


def test_a_kind_that_concerns_many_frames_is_counted_by_frame(tmp_path: Path, save_dicom: Callable[..., Any]) -> None:
    def grey(clip: np.ndarray) -> None:
        clip[:3] = np.array([50, 90, 130], dtype=np.uint8)[:, None, None]

    rows = audited(tmp_path, save_dicom, grey)
    assert not any(reason for reason, _ in rows.values())
    assert {frame for frame, (_, flags) in rows.items() if "constant" in flags} == {"1", "2", "3"}
    assert "constant on 3 of 7 images" in (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
