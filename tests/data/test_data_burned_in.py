"""Whoever trains on DICOM with names in its pixels, or of another modality, is told so."""

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


@pytest.mark.parametrize(("modality", "told"), [("MR", 1), ("US", 0)])
def test_other_modality_that_a_table_lists_is_told(tmp_path: Path, modality: str, told: int) -> None:
    dataset = dcmread(str(get_testdata_file("MR_small.dcm", download=False)))
    dataset.Modality = modality
    dataset.save_as(tmp_path / "scan.dcm")
    (tmp_path / "manifest.csv").write_text("image,label\nscan.dcm,benign\n")
    notes = tie_duplicates(read_manifest(tmp_path)).notes
    assert sum("1 DICOM files say modality MR, not ultrasound" in note for note in notes) == told
