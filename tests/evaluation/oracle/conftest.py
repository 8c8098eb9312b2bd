"""What the commands wrote of the cohort, once for all oracle tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from cohort import THRESHOLD, make_cohort
from reading import document_of, run

PREVALENCE = 0.08
ALPHA = 0.2


@pytest.fixture(scope="session")
def cohort() -> pd.DataFrame:
    return make_cohort()


@pytest.fixture(scope="session")
def calibration() -> pd.DataFrame:
    """Other patients' images, which fix the prediction sets."""
    table = make_cohort(patients=40, seed=21, shift=0.1)
    return table.assign(image="other-" + table["image"], patient="other " + table["patient"])


@pytest.fixture(scope="session")
def scored(cohort: pd.DataFrame, calibration: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `medsharp score` writes of the cohort, in every format."""
    folder = tmp_path_factory.mktemp("scored")
    cohort.to_csv(folder / "cohort.csv", index=False)
    calibration.to_csv(folder / "validation.csv", index=False)
    options = ["--threshold", THRESHOLD, "--prevalence", PREVALENCE, "--format", "html,md,csv,json"]
    options += ["--calibration", folder / "validation.csv", "--alpha", ALPHA]
    run("score", folder / "cohort.csv", *options, "--out", folder / "out")
    return folder / "out"


@pytest.fixture(scope="session")
def entry(scored: Path) -> dict[str, Any]:
    """The cohort in `evaluation.json`."""
    (found,) = document_of(scored)["datasets"]
    return dict(found)
