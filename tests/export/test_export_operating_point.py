"""The operating point that a bundle records is the one that it serves, and it stands on enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta
from typer.testing import CliRunner, Result

from medsharp.bundle import OperatingPoint, default_bundle, read_bundle
from medsharp.cli import app
from medsharp.data.manifest import Manifest, write_manifest
from medsharp.evaluation.statistics.intervals import wilson
from medsharp.evaluation.statistics.operating_point import LEAST_POSITIVES, choose_operating_point, share_interval
from medsharp.keys import clusters_of
from medsharp.runs import Run

from .runs import speckle_manifest, write_run


def typed(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "400"})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return speckle_manifest(tmp_path_factory.mktemp("speckle"), 180)


@pytest.fixture(scope="module")
def run(data: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained run whose log odds lie far from 0 and are 3 in spread: its temperature is not 1."""
    patients = pd.factorize(data.table["patient"])[0]
    splits = ["train" if patient % 4 == 0 else "val" for patient in patients]
    return write_run(tmp_path_factory.mktemp("runs") / "run", data, splits, seed=2)


@pytest.mark.parametrize("sensitivity", [0.6, 0.95])
def test_serving_the_validation_images_gives_back_what_the_bundle_records(
    run: Path, data: Manifest, tmp_path: Path, sensitivity: float
) -> None:
    bundle = tmp_path / "bundle"
    result = typed("export", run, "--out", bundle, "--sensitivity", sensitivity)
    assert result.exit_code == 0, result.output
    spec = read_bundle(bundle)
    point = spec.operating_point
    # Calibration moves probabilities, so that a threshold of raw scores would be another one.
    assert abs(np.log(spec.temperature)) > 0.2
    manifest = Run.load(run).manifest
    rows = manifest.of_split("val")
    write_manifest(manifest.replace(table=rows), tmp_path / "val")
    result = typed(
        "predict",
        bundle,
        tmp_path / "val" / "manifest.csv",
        "--out",
        tmp_path / "p.csv",
        "--device",
        "cpu",
        "--answer-anyway",
    )
    assert result.exit_code == 0, result.output
    served = pd.read_csv(tmp_path / "p.csv", dtype=str)
    assert len(served) == len(rows) == point.images
    positive = (served["label"] == spec.positive).to_numpy()
    assert positive.sum() == point.positives
    above = (served["threshold_side"] == "above").to_numpy()
    assert above[positive].mean() == point.sensitivity
    assert (~above[~positive]).mean() == point.specificity
    assert point.sensitivity >= sensitivity
    assert {float(value) for value in served["threshold"]} == {point.threshold}
    card = " ".join(typed_card(bundle).split())
    assert f"sensitivity {point.sensitivity:.3f} (" in card
    assert ("medsharp export RUN --sensitivity 0.6 --out bundle" in card) == (sensitivity == 0.6)
    assert ("medsharp export RUN --out bundle" in card) == (sensitivity == 0.95)
    # The rule, applied to what is served, chooses the same threshold, up to the digits of the table.
    again = choose_operating_point(
        served["p_malignant"].astype(float).to_numpy(), positive, sensitivity, clusters=clusters_of(rows)
    )
    assert again.threshold == pytest.approx(point.threshold, abs=2e-6)
    assert again.sensitivity_interval == pytest.approx(point.sensitivity_interval, abs=1e-12)
    assert again.specificity_interval == pytest.approx(point.specificity_interval, abs=1e-12)


def typed_card(bundle: Path) -> str:
    return (bundle / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_intervals_are_in_the_output_and_the_card(run: Path, tmp_path: Path) -> None:
    result = typed("export", run, "--out", tmp_path / "b")
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    point = read_bundle(tmp_path / "b").operating_point
    assert point.sensitivity_interval is not None
    assert point.specificity_interval is not None
    low, high = point.specificity_interval
    assert low <= point.specificity <= high
    assert point.reached() in said
    assert f"specificity {point.specificity:.3f} ({low:.3f} to {high:.3f})" in point.reached()
    assert point.reached() in " ".join(typed_card(tmp_path / "b").split())


def test_interval_of_a_share_resamples_patients_with_all_their_images() -> None:
    right = np.array([True, True, False, True, False, True, True, False, True, True])
    alone = share_interval(right, np.arange(10))
    copies = np.repeat(np.arange(10), 6)
    assert share_interval(right[copies], copies) == pytest.approx(alone, abs=1e-12)
    apart = share_interval(right[copies], np.arange(60))
    assert apart[1] - apart[0] < 0.6 * (alone[1] - alone[0])
    # Patients count, whatever their numbers are called.
    assert share_interval(right, np.arange(10) * 7 + 3) == alone


@pytest.mark.parametrize("all_right", [True, False])
def test_share_that_no_resample_changes_has_wilsons_interval_of_its_patients(all_right: bool) -> None:
    patients = np.array([0, 0, 0, 1, 2, 3, 3])
    assert share_interval(np.full(7, all_right), patients) == wilson(4.0 * all_right, 4)


def test_point_of_a_bundle_written_before_says_its_figures_without_intervals() -> None:
    shipped = read_bundle(default_bundle(), verify=False).operating_point
    point = shipped.model_copy(update={"sensitivity_interval": None, "specificity_interval": None})
    assert point.reached() == f"sensitivity {point.sensitivity:.3f}, specificity {point.specificity:.3f}"
    assert not {"sensitivity_interval", "specificity_interval"} & point.model_dump().keys()
    assert "sensitivity_interval" in OperatingPoint.model_fields


@pytest.mark.parametrize("name", ["bus-lite0", "busi-resnet18"])
def test_shipped_bundles_say_how_sure_their_operating_points_are(name: str) -> None:
    spec = read_bundle(default_bundle().parent / name, verify=False)
    point = spec.operating_point
    for share, interval in (
        (point.sensitivity, point.sensitivity_interval),
        (point.specificity, point.specificity_interval),
    ):
        assert interval is not None
        assert interval[0] < share < interval[1]
    assert spec.input_check is None


def test_the_least_number_is_the_first_whose_interval_spans_less_than_four_fifths() -> None:
    # Clopper and Pearson's lower limit of n found of n.
    lower = {n: float(beta.ppf(0.025, n, 1)) for n in (LEAST_POSITIVES - 1, LEAST_POSITIVES)}
    assert lower[LEAST_POSITIVES - 1] < 1 / 5 < lower[LEAST_POSITIVES]


@pytest.mark.parametrize(("positives", "frozen"), [(2, False), (3, True)])
def test_no_operating_point_is_frozen_on_too_few_positives(
    data: Manifest, tmp_path: Path, positives: int, frozen: bool
) -> None:
    left = {"benign": 40, "malignant": positives}
    splits = []
    for label in data.table["label"]:
        left[label] -= 1
        splits.append("val" if left[label] >= 0 else "train")
    folder = write_run(tmp_path / "run", data, splits)
    result = typed("export", folder, "--out", tmp_path / "b")
    if frozen:
        assert result.exit_code == 0, result.output
        assert read_bundle(tmp_path / "b").operating_point.positives == 3
        return
    sentence = " ".join(result.stderr.split())
    assert result.exit_code == 2
    assert "only 2 positives among the 42 internal validation images: no operating point is frozen on fewer" in sentence
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
