"""Several classes, and several thresholds, in one table of `medsharp score`, against the brute force.

What it is for; these fail it: specificity is a share of all images; PPV is said to be of the images of the class;
Hand and Till's pairs are looked at from one side only; the confusion table is transposed; decisions, or failures, are
those at the thresholds' median; ranking and calibration are those of the shifted scores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from brute_force import Images, about, auprc, aurc, auroc, decided, figures, ratio, replicated
from cohort import clusters_of, images_of, make_cohort
from reading import document_of, equal_figure, equal_value, rows_of, run
from scipy.special import softmax
from sklearn import metrics

CLASSES = ("benign", "malignant", "normal")
GROUPS = ["birads", "histology", "lesion_size_mm", "flags"]
"""Columns that are looked at elsewhere, and take their time."""


@pytest.fixture(scope="module")
def three() -> pd.DataFrame:
    """The cohort with a third, rare class, and a model that takes it for benign rather than malignant."""
    table = make_cohort(patients=90, seed=13).drop(columns=GROUPS)
    rng = np.random.default_rng(0)
    patients = table["patient"].unique()
    normal = table["patient"].isin(patients[rng.random(len(patients)) < 0.18]) & (table["label"] == "benign")
    label = table["label"].where(~normal, "normal")
    logits = np.stack([0.4 + 0.8 * (label == name) + rng.normal(size=len(table)) for name in CLASSES], axis=1)
    logits[:, 0] += 0.9 * (label == "normal") - 0.3
    shares = np.round(softmax(1.3 * logits, axis=1), 4)
    shares[:, 0] = 1 - shares[:, 1] - shares[:, 2]
    return table.assign(label=label, **{f"p_{name}": shares[:, place] for place, name in enumerate(CLASSES)})


@pytest.fixture(scope="module")
def folder(three: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    three.to_csv(folder / "three.csv", index=False)
    run("score", folder / "three.csv", "--threshold", 0.4, "--out", folder / "out", "--format", "json,csv")
    return folder / "out"


def f1(w: np.ndarray, is_class: np.ndarray, called: np.ndarray) -> np.ndarray:
    hits = w[:, is_class & called].sum(axis=1)
    return ratio(2 * hits, w[:, is_class].sum(axis=1) + w[:, called].sum(axis=1))


def test_each_class_against_the_rest_and_all_of_them(folder: Path, three: pd.DataFrame) -> None:
    (entry,) = document_of(folder)["datasets"]
    shares = three[[f"p_{name}" for name in CLASSES]].to_numpy()
    called = np.array(CLASSES)[shares.argmax(axis=1)]
    label, patients = three["label"].to_numpy(), clusters_of(three)
    assert len({(label == name).sum() for name in CLASSES}) == 3
    everyone = Images(label == "malignant", shares[:, 1], patients)

    def statistic(w: np.ndarray) -> dict[str, np.ndarray]:
        values = {}
        for place, name in enumerate(CLASSES):
            own, said, p = label == name, called == name, shares[:, place]
            values[f"{name} auroc"], values[f"{name} auprc"] = auroc(own, p, w), auprc(own, p, w)
            values[f"{name} sensitivity"] = ratio(w[:, own & said].sum(axis=1), w[:, own].sum(axis=1))
            values[f"{name} specificity"] = ratio(w[:, ~own & ~said].sum(axis=1), w[:, ~own].sum(axis=1))
            values[f"{name} ppv"] = ratio(w[:, own & said].sum(axis=1), w[:, said].sum(axis=1))
            values[f"{name} f1"] = f1(w, own, said)
        pairs = []
        for one, name in enumerate(CLASSES):
            for other in set(CLASSES) - {name}:
                inside = np.isin(label, [name, other])
                pairs.append(auroc(label[inside] == name, shares[inside, one], w[:, inside]))
        values["hand_till"] = np.mean(pairs, axis=0)
        for key, part in (("macro_auroc", "auroc"), ("macro_sensitivity", "sensitivity"), ("macro_f1", "f1")):
            values[key] = np.mean([values[f"{name} {part}"] for name in CLASSES], axis=0)
        values["accuracy"] = w @ (called == label) / w.sum(axis=1)
        return values

    found = replicated(everyone, statistic)
    assert found["hand_till"].value == pytest.approx(
        metrics.roc_auc_score(label, shares, multi_class="ovo", average="macro", labels=CLASSES)
    )
    assert found["macro_f1"].value == pytest.approx(metrics.f1_score(label, called, average="macro"))
    told = entry["multiclass"]
    for name in CLASSES:
        among = {"sensitivity": label == name, "specificity": label != name, "ppv": called == name}
        for key in ("auroc", "auprc", "sensitivity", "specificity", "ppv"):
            figure = told["one_vs_rest"][name][key]
            equal_figure(figure, found[f"{name} {key}"], everyone, among.get(key), f"{name} {key}")
    for key in ("hand_till", "macro_auroc", "macro_sensitivity", "macro_f1", "accuracy"):
        equal_figure(told["overall"][key], found[key], everyone, name=key)
    for one in CLASSES:
        for other in CLASSES:
            assert entry["confusion"][one][other] == ((label == one) & (called == other)).sum()
    assert entry["confusion"]["normal"]["benign"] != entry["confusion"]["benign"]["normal"]
    rows = {(row["by"], row["group"], row["figure"]): row for row in rows_of(folder)}
    for name in CLASSES:
        figure = told["one_vs_rest"][name]["ppv"]
        row = rows["class", name, "ppv"]
        assert (float(row["value"]), float(row["low"]), int(row["images"])) == (
            figure["value"], figure["low"], figure["n"],
        )  # fmt: skip
    assert float(rows["all classes", "", "hand_till"]["high"]) == told["overall"]["hand_till"]["high"]


def test_the_positive_class_is_compared_with_all_others(folder: Path, three: pd.DataFrame) -> None:
    (entry,) = document_of(folder)["datasets"]
    images = images_of(three, 0.4)
    found = replicated(images, lambda w: figures(images, w, dear=False))
    for name in ("auroc", "sensitivity", "specificity", "ppv", "brier", "calibration_intercept", "aurc"):
        equal_figure(entry["figures"][name], found[name], images, about(images).get(name), name)
    assert entry["counts"]["labels"] == three["label"].value_counts().reindex(CLASSES).to_dict()


@pytest.fixture(scope="module")
def several(cohort: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The cohort, each image with the threshold of the model that saw it, and what `score` makes of it."""
    thresholds = np.where(cohort["site"] == "North", 0.62, np.where(cohort["site"] == "East", 0.2, 0.37))
    table = cohort.drop(columns=GROUPS).assign(threshold=thresholds)
    folder = tmp_path_factory.mktemp("several")
    table.to_csv(folder / "several.csv", index=False)
    run("score", folder / "several.csv", "--out", folder / "out", "--format", "json", "--prevalence", 0.08)
    (entry,) = document_of(folder / "out")["datasets"]
    return table, entry


def test_each_image_is_decided_at_its_own_threshold(several: tuple[pd.DataFrame, dict[str, Any]]) -> None:
    table, entry = several
    images = images_of(table, table["threshold"].to_numpy())
    y, p = images.y, images.p

    def statistic(w: np.ndarray) -> dict[str, np.ndarray]:
        own = decided(images, w, prevalence=0.08) | {"aurc": aurc(images, w)}
        return own | {"auroc": auroc(y, p, w), "brier": w @ (p - y) ** 2 / w.sum(axis=1)}

    found = replicated(images, statistic)
    for name, part in found.items():
        equal_figure(entry["figures"][name], part, images, about(images).get(name), name)
    assert entry["figures"]["net_benefit_at_threshold"]["value"] is None
    assert entry["figures"]["net_benefit_gain_at_threshold"]["value"] is None
    point, f = entry["operating_point"], images.flagged
    assert [point[key] for key in ("true_positives", "false_negatives", "false_positives", "true_negatives")] == [
        (y & f).sum(), (y & ~f).sum(), (~y & f).sum(), (~y & ~f).sum(),
    ]  # fmt: skip
    assert entry["failures"]["missed"]["total"] == (y & ~f).sum()
    assert entry["failures"]["false_alarms"]["total"] == (~y & f).sum()
    for group in entry["subgroups"]:
        if group["by"] == "device":
            part = images.chosen((table["device"] == group["group"]).to_numpy())
            values = decided(part, part.alike)
            for name in ("sensitivity", "specificity", "ppv", "npv"):
                equal_value(group[name], float(values[name][0]), f"{group['group']} {name}")
                assert group[name]["n"] == about(part)[name].sum()
            equal_value(group["auroc"], float(auroc(part.y, part.p, part.alike)[0]))
