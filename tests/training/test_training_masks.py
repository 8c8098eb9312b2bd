"""A mask in which nothing is marked teaches that there is no lesion: that is said before training begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsharp.data.manifest import read_manifest
from medsharp.data.pipeline import make_dataset
from medsharp.preprocess import PreprocessSpec
from training.datasets import notes_on_masks


@pytest.mark.parametrize("code", [0, 1, 255])
def test_lesions_without_a_marked_pixel_are_counted(tmp_path: Path, code: int) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for name, label in (("a", "malignant"), ("b", "benign"), ("c", "normal")):
        Image.fromarray(rng.integers(30, 200, (40, 40), dtype=np.uint8)).save(tmp_path / f"{name}.png")
        mask = np.zeros((40, 40), dtype=np.uint8)
        if label != "normal":
            mask[10:20, 10:30] = 255 if name == "b" else code
        Image.fromarray(mask).save(tmp_path / f"{name}-mask.png")
        rows.append(f"{name}.png,{label},{name}-mask.png")
    (tmp_path / "manifest.csv").write_text("image,label,mask\n" + "\n".join(rows) + "\n")
    manifest = read_manifest(tmp_path)
    spec, classes = PreprocessSpec(32, "none"), ("normal", "benign", "malignant")
    dataset = make_dataset(manifest.table, manifest, spec=spec, classes=classes, masks=True)
    said = ["1 of 2 lesions have a mask in which nothing is marked, such as a.png"]
    assert notes_on_masks(dataset) == (said if code == 0 else [])
    assert notes_on_masks(make_dataset(manifest.table, manifest, spec=spec, classes=classes)) == []
