"""The page for hospitals: its commands are run, in order, on an export and a folder as it describes them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom.sequence import Sequence
from typer.testing import CliRunner

from medsharp.bundle import default_bundle
from medsharp.cli import app
from medsharp.data import read_manifest
from medsharp.data.phantom import simulate_image

PAGE = Path(__file__).parents[2] / "docs" / "your-hospital.md"
PATIENTS = 24


def commands() -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line.startswith("medsharp ")]


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_dicom: Callable[..., Any]) -> Path:
    rng = np.random.default_rng(0)
    lines = ["AccessionNumber;BI-RADS;Histology"]
    for number in range(1, PATIENTS + 1):
        label = ("benign", "malignant")[number % 2]
        for view in (1, 2):
            scan = simulate_image("B", label, rng, size=128)
            save_dicom(
                tmp_path / "export" / "DICOM" / f"S{number:04d}" / f"IM{view:04d}",
                f"MRN{number:06d}",
                AccessionNumber=f"00{number}",
                StudyInstanceUID=f"1.2.{number}",
                Rows=128,
                Columns=128,
                PixelData=scan.pixels.tobytes(),
            )
            name = f"{number:04d}-{view}"
            (tmp_path / "pictures" / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(scan.pixels).save(tmp_path / "pictures" / label / f"{name}.png")
            mask = Image.fromarray(scan.mask.astype(np.uint8) * 255)
            mask.save(tmp_path / "pictures" / label / f"{name}_mask.png")
        lines.append(f"{number};{('3', 'BI-RADS IVb')[number % 2]};{('Fibroadenoma', 'DCIS')[number % 2]}")
    (tmp_path / "findings.csv").write_bytes("\r\n".join(lines).encode("cp1252"))
    root = tmp_path / "export"
    save_dicom(root / "DICOMDIR", SOPClassUID="1.2.840.10008.1.3.10", DirectoryRecordSequence=Sequence(), pixels=False)
    save_dicom(root / "DICOM" / "S0001" / "SR0001", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", pixels=False)
    (tmp_path / "patients.key").write_text("0" * 64, encoding="utf-8")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / default_bundle().name).symlink_to(default_bundle().resolve())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_of_the_page_run_in_order(hospital: Path) -> None:
    said = {}
    for command in commands():
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, f"medsharp {shlex.join(command)}\n{result.output}"
        said[command[-1]] = " ".join(result.output.split())
    assert list(said) == [
        *("prepared", "audited", "evaluation", "prepared-pictures", "quick", "by-histology", "shareable"),
        "predictions.csv",
    ]
    assert "labels are made from birads: benign: 3 (12); malignant: 4b (12)" in said["prepared"]
    assert "1 file left out: DICOM, but no image: DICOMDIR" in said["prepared"]
    for name in ("prepared", "by-histology", "shareable"):
        manifest = read_manifest(hospital / name)
        table = manifest.included
        assert table["label"].value_counts().to_dict() == {"benign": PATIENTS, "malignant": PATIENTS}
        assert table["patient"].nunique() == PATIENTS
        assert "MRN" not in table.to_csv()
    assert not read_manifest(hospital / "shareable").table["image"].str.contains("S0001").any()
    evaluation = json.loads((hospital / "evaluation" / "evaluation.json").read_text())["datasets"][-1]
    assert evaluation["counts"]["patients"] == PATIENTS
    figure = evaluation["figures"]["auroc"]
    assert figure["low"] <= figure["value"] <= figure["high"]
    assert len(pd.read_csv(hospital / "predictions.csv")) == 2 * PATIENTS


def test_every_option_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"--[a-z][a-z-]+", PAGE.read_text(encoding="utf-8")))
    help_pages = [["data", "prepare"], ["data", "audit"], ["evaluate"], ["predict"]]
    shown = "".join(CliRunner().invoke(app, [*page, "--help"], env={"COLUMNS": "200"}).output for page in help_pages)
    assert named <= set(re.findall(r"--[a-z][a-z-]+", shown))
