"""What R says of the same data: pROC of rankings, rms of calibration, metafor of hospitals.

`r_values.json` holds the data and R's values, as `record_r.R` beside it wrote them; R itself is not needed here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from reading import document_of, run
from scipy.special import expit, logit
from scipy.stats import norm

R: dict[str, Any] = json.loads((Path(__file__).parent / "r_values.json").read_text(encoding="utf-8"))


def table_of(p: pd.Series) -> pd.DataFrame:
    """Predictions of the patients of aSAH, of whom the outcome of 41 was poor."""
    patients = pd.DataFrame(R["patients"])
    return pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(len(patients))],
            "patient": [f"P{number}" for number in range(len(patients))],
            "label": np.where(patients["poor"] == 1, "poor", "good"),
            "p_good": 1 - p,
            "p_poor": p,
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table for each marker; what ranks is kept where a value becomes a probability."""
    folder = tmp_path_factory.mktemp("r")
    patients = pd.DataFrame(R["patients"])
    for name in ("wfns", "s100b", "ndka"):
        table_of(patients[name] / (1 + patients[name])).to_csv(folder / f"{name}.csv", index=False)
    table_of(patients["p"]).to_csv(folder / "model.csv", index=False)
    return folder


def scored(file: Path, *options: str | float) -> dict[str, Any]:
    out = file.with_suffix("")
    run("score", file, "--threshold", 0.5, "--resamples", 100, "--out", out, "--format", "json", *options)
    (found,) = document_of(out)["datasets"]
    return dict(found)


@pytest.mark.parametrize("name", ["wfns", "s100b", "ndka"])
def test_area_its_part_and_its_variance_are_procs(folder: Path, name: str) -> None:
    found, expected = scored(folder / f"{name}.csv", "--positive", "poor"), R["pROC"]["areas"][name]
    assert found["figures"]["auroc"]["value"] == pytest.approx(expected["auroc"], abs=1e-9)
    if "partial_auroc" in expected:
        assert found["figures"]["partial_auroc"]["value"] == pytest.approx(expected["partial_auroc"], abs=1e-9)
    for method in ("delong", "obuchowski"):
        part = found["auroc_intervals"][method]
        if method == "delong":
            assert part["standard_error"] == pytest.approx(expected["variance"] ** 0.5, abs=1e-9)
        half = norm.ppf(0.975) * part["standard_error"] / (part["value"] * (1 - part["value"]))
        limits = expit(logit(part["value"]) + half * np.array([-1, 1]))
        assert [part["low"], part["high"]] == pytest.approx(list(limits))


@pytest.mark.parametrize("pair", R["pROC"]["paired"], ids=lambda pair: f"{pair['first']}, {pair['second']}")
def test_paired_test_of_two_areas_is_delongs_of_proc(folder: Path, tmp_path: Path, pair: dict[str, Any]) -> None:
    files = [folder / f"{pair[side]}.csv" for side in ("first", "second")]
    run("compare", *files, "--positive", "poor", "--threshold", 0.5, "--resamples", 100, "--out", tmp_path / "out")
    figure = document_of(tmp_path / "out", "comparison.json")["pairs"][0]["figures"]["auroc"]
    assert figure["delong"]["p"] == pytest.approx(pair["p"], abs=1e-9)
    # pROC takes the first less the second, medsharp the second less the first.
    assert figure["value"] / figure["delong"]["standard_error"] == pytest.approx(-pair["z"], abs=1e-8)
    areas = R["pROC"]["areas"]
    assert figure["value"] == pytest.approx(areas[pair["second"]]["auroc"] - areas[pair["first"]]["auroc"], abs=1e-9)


def test_the_pair_is_that_of_procs_manual() -> None:
    assert R["pROC"]["paired"][0]["p"] == pytest.approx(0.027176, abs=1e-6)


def test_calibration_is_that_of_rms(folder: Path) -> None:
    found, expected = scored(folder / "model.csv", "--positive", "poor")["figures"], R["rms"]
    assert found["calibration_slope"]["value"] == pytest.approx(expected["slope"], abs=1e-6)
    assert found["calibration_intercept"]["value"] == pytest.approx(expected["intercept_at_slope_1"], abs=1e-6)
    assert found["brier"]["value"] == pytest.approx(expected["brier"], abs=1e-9)
    assert found["auroc"]["value"] == pytest.approx(expected["auroc"], abs=1e-9)
