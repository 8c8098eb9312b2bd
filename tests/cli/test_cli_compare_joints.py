"""`medsharp compare` against figures computed apart, on asymmetric, clustered and unequal data.

What these tests are for: they fail when McNemar's sides are swapped, the sign of a difference is turned, the column of
thresholds is ignored, a group's seed variance or number of networks is taken from the other group, seed-by-patient
noise is counted twice, or Holm's correction is left out.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.quantities import counted

THRESHOLDS = {"plain-0": 0.25, "plain-1": 0.3, "sam-0": 0.55, "sam-1": 0.5, "sam-2": 0.6, "other": 0.4}
PATIENTS = 150


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Predictions of two networks of one method, three of another and one of a third, one to three images a patient."""
    rng = np.random.default_rng(11)
    clusters = np.repeat(np.arange(PATIENTS), rng.integers(1, 4, PATIENTS))
    labels = (rng.random(PATIENTS) < 0.35)[clusters]
    shared = rng.normal(size=PATIENTS)[clusters] + rng.normal(size=len(clusters))
    shift = {"plain-0": 0.9, "plain-1": 2.1, "sam-0": 2.2, "sam-1": 2.3, "sam-2": 2.5, "other": 1.2}
    files = {}
    for name, threshold in THRESHOLDS.items():
        odds = shift[name] * labels - 1 + shared + 0.7 * rng.normal(size=len(clusters))
        scores = 1 / (1 + np.exp(-odds))
        files[name] = tmp_path_factory.mktemp("compared") / f"{name}.csv"
        pd.DataFrame(
            {
                "image": [f"{number}.png" for number in range(len(clusters))],
                "patient": [f"P{number}" for number in clusters],
                "label": np.where(labels, "malignant", "benign"),
                "p_benign": 1 - scores,
                "p_malignant": scores,
                "threshold": threshold,
                "threshold_class": "malignant",
                "threshold_from": f"frozen for {name}",
            }
        ).to_csv(files[name], index=False)
    return files


def compared(out: Path, *arguments: str | Path) -> tuple[dict, str]:
    command = ["compare", *map(str, arguments), "--resamples", "1000", "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    return json.loads((out / "comparison.json").read_text(encoding="utf-8")), " ".join(result.output.split())


def columns(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and patients of a table."""
    table = pd.read_csv(file)
    return (table["label"] == "malignant").to_numpy(), table["p_malignant"].to_numpy(), table["patient"].to_numpy()


def area(file: Path) -> float:
    return float(roc_auc_score(*columns(file)[:2]))


def resampled(files: list[Path], resamples: int = 1000) -> np.ndarray:
    """AUROC of each table on the same resampled patients [R, K]: won pairs, as often as their patients were drawn."""
    labels, _, patients = columns(files[0])
    places = np.unique(patients, return_inverse=True)[1]
    drawn = np.random.default_rng(99).integers(places.max() + 1, size=(resamples, places.max() + 1))
    times = np.array([np.bincount(row, minlength=places.max() + 1) for row in drawn])[:, places]  # [R, N]
    ill, well = times[:, labels].astype(float), times[:, ~labels].astype(float)
    found = []
    for file in files:
        scores = columns(file)[1]
        won = (scores[labels][:, None] > scores[~labels]).astype(float)
        found.append(((ill @ won) * well).sum(axis=1) / (ill.sum(axis=1) * well.sum(axis=1)))
    return np.array(found).T


def test_two_networks_are_compared_later_less_earlier_each_at_its_own_threshold(tables: dict, tmp_path: Path) -> None:
    one, other = tables["plain-0"], tables["sam-0"]
    content, output = compared(tmp_path, one, other)
    (pair,) = content["pairs"]
    assert (pair["first"], pair["second"]) == ("plain-0", "sam-0")
    labels = columns(one)[0]
    right = {name: (columns(tables[name])[1] >= THRESHOLDS[name]) == labels for name in ("plain-0", "sam-0")}
    for figure, about in (("sensitivity", labels), ("specificity", ~labels)):
        found, first, second = pair["figures"][figure], right["plain-0"][about], right["sam-0"][about]
        assert found["first"] == pytest.approx(first.mean())
        assert found["second"] == pytest.approx(second.mean())
        assert found["value"] == pytest.approx(second.mean() - first.mean())
        assert found["low"] < found["value"] < found["high"]
        only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
        assert only_first != only_second
        assert (found["mcnemar"]["only_first"], found["mcnemar"]["only_second"]) == (only_first, only_second)
        assert f"{counted(only_second, 'image')} only sam-0 gets right, {only_first} only plain-0" in output
    area_difference = pair["figures"]["auroc"]
    assert area_difference["value"] == pytest.approx(area(other) - area(one))
    replicates = resampled([one, other]) @ [-1, 1]
    low, high = np.quantile(replicates, [0.025, 0.975])
    assert (area_difference["low"], area_difference["high"]) == pytest.approx((low, high), abs=0.15 * (high - low))
    error = area_difference["obuchowski"]["standard_error"]
    assert error == pytest.approx(replicates.std(), rel=0.1)
    assert area_difference["p"] == pytest.approx(2 * norm.sf(area_difference["value"] / error))
    assert [model["threshold_from"] for group in content["groups"] for model in group["models"]] == [
        "column threshold of plain-0.csv: frozen for plain-0",
        "column threshold of sam-0.csv: frozen for sam-0",
    ]
    assert "plain-0: threshold 0.2500, column threshold of plain-0.csv: frozen for plain-0" in output
    # A false alarm has another price at another threshold.
    assert "different thresholds" in pair["figures"]["net_benefit_at_threshold"]["reason"]
    content, _ = compared(tmp_path, one, other, "--threshold", "0.5")
    at_half = content["pairs"][0]["figures"]["sensitivity"]["second"]
    assert at_half == pytest.approx((columns(other)[1] >= 0.5)[labels].mean())
    assert content["pairs"][0]["figures"]["net_benefit_at_threshold"]["value"] is not None


def test_methods_of_unequal_numbers_of_networks_keep_their_own_variances(tables: dict, tmp_path: Path) -> None:
    folder = tables["sam-0"].parent.parent
    groups = [f"--group={name}={folder}/*/{name}-*.csv" for name in ("plain", "sam")]
    content, _ = compared(tmp_path, *groups)
    plain, sam = ([name for name in THRESHOLDS if name.startswith(start)] for start in ("plain", "sam"))
    a, b = (np.array([area(tables[name]) for name in names]) for names in (plain, sam))
    figure = content["pairs"][0]["figures"]["auroc"]
    assert content["pairs"][0]["networks"] == [2, 3]
    assert figure["value"] == pytest.approx(b.mean() - a.mean())
    parts = a.var(ddof=1) / 2, b.var(ddof=1) / 3
    assert parts[0] > 20 * parts[1]
    assert figure["seed_sd"] == pytest.approx(sum(parts) ** 0.5)
    # What all networks of a method share: covariances between different networks only.
    c = np.cov(resampled([tables[name] for name in (*plain, *sam)]), rowvar=False)
    shared = c[0, 1] + (c[2, 3] + c[2, 4] + c[3, 4]) / 3 - 2 * c[:2, 2:].mean()
    own_noise = (c[0, 0] + c[1, 1]) / 2 - c[0, 1]
    assert figure["patient_sd"] ** 2 == pytest.approx(max(shared, 0), abs=0.15 * own_noise)
    total = figure["patient_sd"] ** 2 + sum(parts)
    of_seeds = sum(parts) ** 2 / (parts[0] ** 2 / 1 + parts[1] ** 2 / 2)
    free = total / (figure["patient_sd"] ** 2 / (PATIENTS - 1) + sum(parts) / of_seeds)
    half = student.ppf(0.975, free) * total**0.5
    assert figure["value"] - half < -1  # which no difference of areas is
    assert (figure["low"], figure["high"]) == (-1, 1)
    assert figure["p"] == pytest.approx(2 * student.sf(figure["value"] / total**0.5, free))
    assert figure["seed_share"] == pytest.approx(sum(parts) / total)
    mean = content["groups"][1]["figures"]["auroc"]
    assert mean["value"] == pytest.approx(b.mean())
    assert mean["seed_sd"] == pytest.approx(parts[1] ** 0.5)
    assert mean["patient_sd"] ** 2 == pytest.approx((c[2, 3] + c[2, 4] + c[3, 4]) / 3, rel=0.15)
    assert mean["p"] is None


def test_a_single_network_against_several_gets_no_test(tables: dict, tmp_path: Path) -> None:
    folder = tables["sam-0"].parent.parent
    content, output = compared(tmp_path, tables["plain-0"], f"--group=sam={folder}/*/sam-*.csv", "--margin", "0.05")
    (pair,) = content["pairs"]
    figure = pair["figures"]["auroc"]
    assert figure["low"] > 0  # as clear as it is
    assert figure["p"] is None
    assert figure["p_holm"] is None
    assert "single network" in figure["p_reason"]
    assert figure["covers"] == "new patients, new seeds of one side only"
    assert pair["non_inferiority"]["verdict"] == "not tested"
    assert "Neither method may be called better" in output
    assert "single network" in (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert figure["seed_sd"] == pytest.approx(
        (np.var([area(tables[name]) for name in ("sam-0", "sam-1", "sam-2")], ddof=1) / 3) ** 0.5
    )


def test_p_values_of_three_models_are_holms(tables: dict, tmp_path: Path) -> None:
    content, output = compared(tmp_path, tables["sam-0"], tables["sam-2"], tables["other"])
    for figure in ("auroc", "sensitivity", "specificity"):
        raw = [pair["figures"][figure]["p"] for pair in content["pairs"]]
        expected, largest = [0.0] * 3, 0.0
        for rank, place in enumerate(np.argsort(raw)):
            largest = max(largest, min(1.0, (3 - rank) * raw[place]))
            expected[place] = largest
        found = [pair["figures"][figure]["p_holm"] for pair in content["pairs"]]
        assert found == pytest.approx(expected)
        assert found != raw
    assert "after Holm" in output


def test_images_of_several_thresholds_are_each_decided_at_their_own(tables: dict, tmp_path: Path) -> None:
    table = pd.read_csv(tables["plain-0"])
    table["threshold"] = np.where(table.index % 3 == 0, 0.15, 0.45)
    mixed = tmp_path / "cross-validated.csv"
    table.drop(columns="threshold_from").to_csv(mixed, index=False)
    # In another order, so that thresholds must go with their images.
    other = tmp_path / "other.csv"
    pd.read_csv(tables["other"]).sample(frac=1, random_state=3).to_csv(other, index=False)
    labels, scores, _ = columns(mixed)
    called = scores >= table["threshold"].to_numpy()
    for order in ((mixed, other), (other, mixed)):
        content, _ = compared(tmp_path / "out", *order)
        side = "first" if order[0] == mixed else "second"
        figures = content["pairs"][0]["figures"]
        assert figures["sensitivity"][side] == pytest.approx(called[labels].mean())
        assert figures["specificity"][side] == pytest.approx((~called)[~labels].mean())
        assert figures["auroc"][side] == pytest.approx(roc_auc_score(labels, scores))
        assert figures["net_benefit_at_threshold"]["value"] is None
        assert figures["sensitivity"]["low"] is not None
        (model,) = content["groups"][order.index(mixed)]["models"]
        assert (model["threshold"], model["thresholds"]) == (None, "2 from 0.1500 to 0.4500")
        assert model["threshold_from"] == "column threshold of cross-validated.csv"
    assert "2 from 0.1500 to 0.4500" in (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
