"""Robustness figures, value and limits, worked out again from the predictions that a run keeps.

Two toy models answer to a simulated hospital whose patients have several images. What they answered is read from the
folder of the run; every figure, change, flip, mean and comparison is then computed apart (`brute_force`), on
resampled patients of our own.

What it is for; these fail it: a change, of a cell or of a mean, or a comparison is turned; flips of positive images
are a share of all; flips to positive and to negative change places; images are resampled in place of patients, or
weights go to other images; the bundle's threshold does not arrive; what is kept under every corruption does not need
the clean image; the relative error of MedMNIST-C forgets the clean one; the worst cases are the best; a column of the
CSV has figures for changes.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from brute_force import Images, Replicated, auroc, decided, recalibrated, wilson
from reading import document_of, equal_value, near_limits, near_spread, run

from medsharp.data.phantom import write_phantom
from medsharp.robustness import measure_robustness
from medsharp.robustness.corruptions import find_corruptions

SIDE = 96
ALEXNET_CLEAN = 0.145363
ALEXNET = {
    "pixelate": 0.461278, "jpeg_compression": 0.298622, "speckle_noise": 0.387093, "motion_blur": 0.259023,
    "brightness_up": 0.319799, "brightness_down": 0.211278, "contrast_down": 0.158647,
}  # fmt: skip
"""1 - balanced accuracy of AlexNet on BreastMNIST-C, mean over severities, as MedMNIST-C publishes it."""

OTHERS = ("gain_down", "haze")
SEVERITIES = (1, 2, 3, 4, 5)
THRESHOLDS = {"one": 0.45, "two": 0.3}
FIGURES = (
    "auroc", "brier", "calibration_intercept", "calibration_slope", "sensitivity", "specificity", "balanced_accuracy",
    "net_benefit_at_threshold",
)  # fmt: skip
Cells = dict[tuple[str, int], np.ndarray]
Measured = dict[str, Replicated]


@pytest.fixture(scope="module")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hospital of 30 patients, whose images a third pair up under one patient more."""
    folder = tmp_path_factory.mktemp("oracle") / "B"
    write_phantom(folder, hospital="B", patients=36, size=SIDE, seed=4)
    manifest = pd.read_csv(folder / "manifest.csv", keep_default_na=False)
    manifest["patient"] = [
        f"B-{int(name[2:]) // 2 if int(name[2:]) < 20 else name[2:]}" for name in manifest["patient"]
    ]
    manifest.to_csv(folder / "manifest.csv", index=False)
    return folder


def brightness(images: np.ndarray) -> np.ndarray:
    """Darker pictures, noisier ones, and those with a dark middle: malignant, more or less."""
    middle = images[:, SIDE // 3 : 2 * SIDE // 3, SIDE // 3 : 2 * SIDE // 3].mean(axis=(1, 2))
    return (105 - middle) / 25 + (images.std(axis=(1, 2)) - 45) / 20


@pytest.fixture
def measured_under(
    clustered: Path, tmp_path: Path, toy: Callable[..., Any]
) -> Callable[..., tuple[dict[str, Any], Path]]:
    """Runs two models under corruptions; gives what is said of the data set, and the folder of the run."""

    def measure(*corruptions: str) -> tuple[dict[str, Any], Path]:
        models = [toy("lesion", "one"), toy("lesion", "two")]
        models[1].session.margin = brightness
        for model in models:
            point = model.spec.operating_point.model_copy(update={"threshold": THRESHOLDS[model.spec.name]})
            model.spec = model.spec.model_copy(update={"operating_point": point})
        chosen = find_corruptions(list(corruptions))
        content = measure_robustness(models, [clustered], chosen, tmp_path / "out", resamples=2000)[0]
        return content["datasets"][0], tmp_path / "out"

    return measure


def truth_of(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Which images are positive and whose they are, [N] each."""
    manifest = pd.read_csv(folder / "manifest.csv", keep_default_na=False)
    patient = np.unique(manifest["patient"], return_inverse=True)[1]
    return (manifest["label"] == "malignant").to_numpy(dtype=bool), patient


def answers_of(folder: Path, digest: str) -> Cells:
    """The probabilities of the positive class that a run kept of a model, by corruption and severity."""
    (data,) = (folder / "cells").iterdir()
    (own,) = [path for path in data.iterdir() if digest.startswith(path.name)]
    found = {}
    for file in own.glob("*.npy"):
        name, severity, _ = file.stem.rsplit("-", 2)
        found[name, int(severity)] = np.load(file)[:, 1]
    return found


def measured(y: np.ndarray, patient: np.ndarray, threshold: float, p: np.ndarray, clean: np.ndarray) -> Measured:
    images = Images(y, p, patient, threshold)
    changed = (p >= threshold) != (clean >= threshold)
    became = changed & (p >= threshold)

    def statistic(w: np.ndarray) -> dict[str, np.ndarray]:
        large, _, slope = recalibrated(y, p, w)
        values = decided(images, w)
        n, ill, well = w.sum(axis=1), w[:, y].sum(axis=1), w[:, ~y].sum(axis=1)
        return {
            **{name: values[name] for name in ("sensitivity", "specificity", "balanced_accuracy")},
            "net_benefit_at_threshold": values["net_benefit_at_threshold"],
            "auroc": auroc(y, p, w),
            "brier": w @ (p - y) ** 2 / n,
            "calibration_intercept": large,
            "calibration_slope": slope,
            "flips all": w @ changed / n,
            "flips positive": w[:, y] @ changed[y] / np.where(ill > 0, ill, np.nan),
            "flips negative": w[:, ~y] @ changed[~y] / np.where(well > 0, well, np.nan),
            "flips to_positive": w @ became / n,
            "flips to_negative": w @ (changed & ~became) / n,
        }

    value, resamples = statistic(images.alike), statistic(images.resampled(3000))
    return {name: Replicated(float(v[0]), resamples[name]) for name, v in value.items()}


def minus(one: Replicated, other: Replicated) -> Replicated:
    return Replicated(one.value - other.value, one.replicates - other.replicates)


def mean(parts: list[Replicated]) -> Replicated:
    return Replicated(
        float(np.mean([part.value for part in parts])), np.mean([part.replicates for part in parts], axis=0)
    )


def scaled(part: Replicated, factor: float, offset: float = 0.0) -> Replicated:
    return Replicated((part.value - offset) * factor, (part.replicates - offset) * factor)


def equal(figure: dict[str, Any], part: Replicated, name: str, patients: int | None = None) -> None:
    """Value and limits are those of the brute force; of a share of 0 or 1 Wilson's on so many patients."""
    equal_value(figure, part.value, name)
    if figure["value"] is None or figure["low"] is None:
        assert figure["reason"], name
        return
    if figure["method"].startswith("Wilson"):
        assert (figure["low"], figure["high"]) == pytest.approx(wilson(part.value, patients or 0)), name
        return
    if ", normal" in figure["method"]:
        near_spread(figure, part, name)
        return
    near_limits(figure, part.replicates, name)


def test_every_figure_of_a_run_is_that_of_the_brute_force(
    measured_under: Callable[..., tuple[dict[str, Any], Path]], clustered: Path
) -> None:
    entry, folder = measured_under(*ALEXNET, *OTHERS)
    y, patient = truth_of(clustered)
    assert entry["images"] == len(y)
    ends = {
        "sensitivity": len(set(patient[y])), "flips positive": len(set(patient[y])),
        "specificity": len(set(patient[~y])), "flips negative": len(set(patient[~y])),
    }  # fmt: skip
    everyone = len(set(patient))
    assert len(set(ends.values()) | {everyone, len(y)}) == 4
    judged: list[dict[tuple[str, int], Measured]] = []
    for model in entry["models"]:
        threshold = THRESHOLDS[model["name"]]
        assert model["threshold"] == threshold
        answers = answers_of(folder, model["answers_digest"])
        before = answers.pop(("clean", 0))
        clean = measured(y, patient, threshold, before, before)
        cells = {key: measured(y, patient, threshold, p, before) for key, p in answers.items()}
        judged.append(cells)
        for name in FIGURES:
            equal(model["clean"][name], clean[name], name, ends.get(name))
        assert {(cell["corruption"], cell["severity"]) for cell in model["cells"]} == set(cells)
        flipped = 0
        for cell in model["cells"]:
            key = cell["corruption"], cell["severity"]
            for name in FIGURES:
                equal(cell["figures"][name], cells[key][name], f"{key} {name}", ends.get(name))
                equal(cell["changes"][name], minus(cells[key][name], clean[name]), f"{key} change of {name}")
            for name, figure in cell["flips"].items():
                equal(figure, cells[key][f"flips {name}"], f"{key} {name}", ends.get(f"flips {name}", everyone))
            flips = cell["flips"]
            flipped += flips["to_positive"]["value"] != flips["to_negative"]["value"] != 0
        assert flipped > 5
        check_summary(model, clean, cells)
        check_every(model, y, patient, threshold, before, answers)
    check_comparison(entry["comparisons"], judged)


def check_summary(model: dict[str, Any], clean: Measured, cells: dict[tuple[str, int], Measured]) -> None:
    summary = model["summary"]
    parts = {"": list(cells.values())}
    parts["ultrasound"] = [cell for (name, _), cell in cells.items() if name in OTHERS]
    parts["medmnist-c"] = [cell for (name, _), cell in cells.items() if name in ALEXNET]
    assert set(summary["families"]) == set(parts) - {""}
    for family, chosen in parts.items():
        told = summary["families"][family] if family else summary
        for name in ("auroc", "balanced_accuracy", "sensitivity", "specificity", "net_benefit_at_threshold"):
            average = mean([cell[name] for cell in chosen])
            equal(told[name], average, f"{family} {name}")
            equal(told[f"{name}_change"], minus(average, clean[name]), f"{family} change of {name}")
        equal(told["flips"], mean([cell["flips all"] for cell in chosen]), f"{family} flips")
    worst = sorted(cells.items(), key=lambda item: item[1]["auroc"].value)
    assert [case["auroc"]["value"] for case in summary["worst"]] == pytest.approx(
        [cell["auroc"].value for _, cell in worst[:10]]
    )
    for case in summary["worst"]:
        cell = cells[case["corruption"], case["severity"]]
        equal(case["auroc_change"], minus(cell["auroc"], clean["auroc"]), "change of the worst")
        for name in ("sensitivity", "specificity"):
            assert case[name]["value"] == pytest.approx(cell[name].value)
        assert case["flips"]["value"] == pytest.approx(cell["flips all"].value)
    error = {
        name: scaled(mean([cells[name, severity]["balanced_accuracy"] for severity in SEVERITIES]), -1, 1)
        for name in ALEXNET
    }
    before = scaled(clean["balanced_accuracy"], -1, 1)
    be = {name: scaled(error[name], 1 / alexnet) for name, alexnet in ALEXNET.items()}
    rbe = {name: scaled(minus(error[name], before), 1 / (a - ALEXNET_CLEAN)) for name, a in ALEXNET.items()}
    told = model["medmnist_c"]
    # AlexNet's errors are published to six digits, of which rBE divides by small differences.
    for key, parts_of in (("be", be), ("rbe", rbe)):
        expected = mean(list(parts_of.values()))
        assert told[key]["value"] == pytest.approx(expected.value, rel=1e-3)
        near_limits(told[key], expected.replicates, key)
    for name in ALEXNET:
        equal(told["corruptions"][name]["error"], error[name], f"error under {name}")


def check_every(
    model: dict[str, Any], y: np.ndarray, patient: np.ndarray, threshold: float, clean: np.ndarray, answers: Cells
) -> None:
    for told in model["summary"]["every"]:
        versions = [clean, *(p for (_, severity), p in answers.items() if severity == told["severity"])]
        right = np.all([(p >= threshold) == y for p in versions], axis=0)
        for name, among in (("kept_positive", y), ("kept_negative", ~y)):
            images = Images(y, clean, patient)
            w = images.resampled(3000)
            whole = w[:, among].sum(axis=1)
            share = w[:, among & right].sum(axis=1) / np.where(whole > 0, whole, np.nan)
            found = Replicated(float(right[among].mean()), share)
            equal(told[name], found, f"{name} at {told['severity']}", images.patients(among))


def test_what_is_kept_under_one_corruption_was_right_on_the_clean_image_too(
    measured_under: Callable[..., tuple[dict[str, Any], Path]], clustered: Path
) -> None:
    entry, folder = measured_under("gain_down")
    y, patient = truth_of(clustered)
    put_right = 0
    for model in entry["models"]:
        threshold = THRESHOLDS[model["name"]]
        answers = answers_of(folder, model["answers_digest"])
        before = answers.pop(("clean", 0))
        check_every(model, y, patient, threshold, before, answers)
        put_right += sum(((p >= threshold) == y)[(before >= threshold) != y].sum() for p in answers.values())
    assert put_right > 0, "some image is decided rightly under the corruption alone"


def check_comparison(told: list[dict[str, Any]], judged: list[dict[tuple[str, int], Measured]]) -> None:
    (comparison,) = told
    assert (comparison["first"], comparison["second"]) == ("one", "two")
    one, two = judged
    for key, name in (("auroc", "auroc"), ("balanced_accuracy", "balanced_accuracy"), ("flips", "flips all")):
        expected = minus(mean([cell[name] for cell in two.values()]), mean([cell[name] for cell in one.values()]))
        assert abs(expected.value) > 1e-3
        equal(comparison[key], expected, f"second less first in {key}")
    for name, part in comparison["corruptions"].items():
        means = [mean([cells[name, severity]["auroc"] for severity in SEVERITIES]) for cells in (two, one)]
        equal(part["auroc"], minus(*means), f"second less first under {name}")


def test_csv_has_the_figures_of_the_document(clustered: Path, tmp_path: Path) -> None:
    bundle = Path(__file__).parents[2] / "models" / "busi-resnet18"
    options = ("--corruptions", "gain_down", "--images", 16, "--resamples", 100)
    run("robustness", bundle, "--data", clustered, *options, "--out", tmp_path / "out")
    (model,) = document_of(tmp_path / "out", "robustness.json")["datasets"][0]["models"]
    with (tmp_path / "out" / "robustness.csv").open(encoding="utf-8", newline="") as stream:
        rows = {(row["corruption"], int(row["severity"])): row for row in csv.DictReader(stream)}
    assert len(rows) == 6
    for name, figure in model["clean"].items():
        assert float(rows["clean", 0][name] or "nan") == pytest.approx(figure["value"], nan_ok=True)
    for cell in model["cells"]:
        row = rows[cell["corruption"], cell["severity"]]
        for prefix, part in (("", cell["figures"]), ("change_", cell["changes"]), ("flips_", cell["flips"])):
            for name, figure in part.items():
                for key, end in (("value", ""), ("low", "_low"), ("high", "_high")):
                    expected = float("nan") if figure[key] is None else figure[key]
                    assert float(row[f"{prefix}{name}{end}"] or "nan") == pytest.approx(expected, nan_ok=True)
