"""Figures over several classes against scikit-learn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

CLASSES = ["benign", "malignant", "normal"]


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(150), 2)
    place = rng.integers(0, 3, 150)[patients]
    odds = rng.normal(size=(300, 3))
    odds[np.arange(300), place] += 1
    shares = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
    columns = {f"p_{name}": shares[:, number] for number, name in enumerate(CLASSES)}
    return pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(300)],
            "patient": patients.astype(str),
            "label": np.array(CLASSES)[place],
            **columns,
        }
    )


def test_hand_till_and_averages_equal_scikit_learn(predictions: pd.DataFrame, evaluated: Callable) -> None:
    overall = evaluated(predictions, classes=CLASSES)["multiclass"]["overall"]
    shares = predictions[[f"p_{name}" for name in CLASSES]].to_numpy()
    chosen = np.array(CLASSES)[shares.argmax(axis=1)]
    truth = predictions["label"]
    assert overall["hand_till"]["value"] == pytest.approx(roc_auc_score(truth, shares, multi_class="ovo"))
    assert overall["macro_auroc"]["value"] == pytest.approx(roc_auc_score(truth, shares, multi_class="ovr"))
    assert overall["macro_sensitivity"]["value"] == pytest.approx(balanced_accuracy_score(truth, chosen))
    assert overall["macro_f1"]["value"] == pytest.approx(f1_score(truth, chosen, average="macro"))
    assert overall["accuracy"]["value"] == pytest.approx((truth == chosen).mean())
    assert all(figure["low"] < figure["value"] < figure["high"] for figure in overall.values())


def test_each_class_against_the_rest(predictions: pd.DataFrame, evaluated: Callable) -> None:
    found = evaluated(predictions, classes=CLASSES)["multiclass"]["one_vs_rest"]
    for name in CLASSES:
        truth = (predictions["label"] == name).to_numpy()
        called = predictions[[f"p_{c}" for c in CLASSES]].to_numpy().argmax(axis=1) == CLASSES.index(name)
        assert found[name]["auroc"]["value"] == pytest.approx(roc_auc_score(truth, predictions[f"p_{name}"]))
        assert found[name]["sensitivity"]["value"] == pytest.approx(called[truth].mean())
        assert found[name]["specificity"]["value"] == pytest.approx((~called[~truth]).mean())
        assert found[name]["ppv"]["value"] == pytest.approx(truth[called].mean())


def test_class_without_images_has_a_reason_and_is_not_averaged_over(
    predictions: pd.DataFrame, evaluated: Callable
) -> None:
    part = predictions[predictions["label"] != "normal"].reset_index(drop=True)
    found = evaluated(part, classes=CLASSES)["multiclass"]
    assert found["one_vs_rest"]["normal"] == {"reason": "no image of this class"}
    assert found["overall"]["macro_sensitivity"]["value"] > 0.3


def test_two_classes_have_no_such_section(study: Callable, table: Callable, evaluated: Callable) -> None:
    assert evaluated(table(*study(60)))["multiclass"] is None
