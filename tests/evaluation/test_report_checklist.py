"""Reporting checklists: whole, and filled only with what the run knows."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medsharp.evaluation import evaluate_predictions
from medsharp.evaluation.report import make_document
from medsharp.evaluation.report.checklist import PARTLY, PERSON, REPORTED, checklists
from medsharp.evaluation.report.evidence import EVIDENCE

BUNDLE: dict[str, Any] = {
    "name": "m",
    "operating_point": {"threshold": 0.4, "rule": "sensitivity >= 0.95"},
    "training": {"dataset": "BUSI", "network": "resnet18", "images": {"train": 300}, "config": {}},
    "files": {"model.onnx": "ab" * 32},
}


def document_of(bundle: dict[str, Any], **options: Any) -> dict[str, Any]:
    scores = np.linspace(0.05, 0.95, 60)
    rows = pd.DataFrame(
        {
            "image": [f"{n}.png" for n in range(60)],
            "label": ["malignant" if n % 3 == 0 else "benign" for n in range(60)],
            "p_benign": 1 - scores,
            "p_malignant": scores,
        }
    )
    settings: dict[str, Any] = {"classes": ["benign", "malignant"], "positive": "malignant", "threshold": 0.4}
    return make_document([evaluate_predictions(rows, name="there", resamples=20, **settings, **options)], bundle)


def item(document: dict[str, Any], guideline: str, number: str) -> dict[str, Any]:
    (found,) = [c for c in document["checklists"] if c["guideline"] == guideline]
    return next(entry for entry in found["items"] if entry["id"] == number)


@pytest.mark.parametrize(
    ("guideline", "numbers", "rows"), [("TRIPOD+AI", 27, 52), ("CLAIM 2024", 44, 44), ("STARD-AI", 40, 48)]
)
def test_every_item_of_a_guideline_is_there_once_and_in_order(guideline: str, numbers: int, rows: int) -> None:
    (found,) = [checklist for checklist in checklists() if checklist["guideline"] == guideline]
    ids = [entry["id"] for entry in found["items"]]
    assert len(ids) == len(set(ids)) == rows
    order = [int(re.match(r"\d+", name)[0]) for name in ids]  # type: ignore[index]
    assert order == sorted(order)
    assert set(order) == set(range(1, numbers + 1))


def test_items_point_only_to_what_can_be_known_and_all_of_that_is_asked_for() -> None:
    asked = {name for checklist in checklists() for entry in checklist["items"] for name in entry.get("knows", ())}
    assert asked == set(EVIDENCE)


def test_item_is_open_where_the_run_does_not_know_the_answer() -> None:
    document = document_of({})
    assert item(document, "TRIPOD+AI", "17")["status"] == PERSON
    assert item(document, "CLAIM 2024", "30")["status"] == PERSON, "no robustness was measured"
    assert item(document, "CLAIM 2024", "22")["status"] == PERSON, "the model is not known"
    assert item(document, "CLAIM 2024", "32")["status"] == PERSON, "there is no internal data set"
    assert item(document, "TRIPOD+AI", "5a")["answers"] == []


def test_item_is_answered_with_what_the_run_found() -> None:
    document = document_of(BUNDLE, excluded={"Doppler": 4})
    flow = item(document, "STARD-AI", "24")
    assert flow["status"] == REPORTED
    assert flow["answers"] == [{"text": "64 images in the data set, 60 evaluated", "section": "data-1"}]
    cutoff = item(document, "STARD-AI", "15c")
    assert cutoff["status"] == PARTLY, "why this threshold is for a person to say"
    assert "0.4000" in cutoff["answers"][0]["text"]
    assert "sensitivity >= 0.95" in cutoff["answers"][0]["text"]
    eligibility = item(document, "TRIPOD+AI", "6b")
    assert eligibility["status"] == PARTLY
    assert eligibility["answers"][0]["text"] == "left out: Doppler 4"
    assert eligibility["add"]


def test_leak_is_the_answer_to_the_question_after_disjoint_partitions() -> None:
    leak = "LEAK: the model was trained on 3 of these images"
    answers = item(document_of(BUNDLE, warnings=[leak]), "CLAIM 2024", "20")["answers"]
    assert leak in [answer["text"] for answer in answers]
