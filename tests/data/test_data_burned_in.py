"""Whoever trains on DICOM with names in its pixels is told so once."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from medsharp.data.duplicates import tie_duplicates
from medsharp.data.manifest import read_manifest


@pytest.mark.parametrize(("value", "told"), [("YES", 1), ("NO", 0)])
def test_burned_in_annotation_is_told_once(tmp_path: Path, value: str, told: int) -> None:
    dataset = dcmread(str(get_testdata_file("MR_small.dcm", download=False)))
    dataset.BurnedInAnnotation = value
    dataset.save_as(tmp_path / "scan.dcm")
    (tmp_path / "manifest.csv").write_text("image,label\nscan.dcm,benign\n")
    tied = tie_duplicates(read_manifest(tmp_path))
    assert sum("1 DICOM files say BurnedInAnnotation YES" in note for note in tied.notes) == told
    again = tie_duplicates(tied.replace(notes=tied.notes))
    assert sum("BurnedInAnnotation" in note for note in again.notes) == told
