"""The images that the model got wrong: the most confident first, pictures only where they were asked for."""

from __future__ import annotations

import base64
import dataclasses
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medsharp.errors import InputError
from medsharp.evaluation import Evaluation, evaluate_predictions, write_evaluation
from medsharp.evaluation.failures import MOST, failures_of
from medsharp.evaluation.thumbnails import thumbnails_of
from medsharp.images import read_image

CLASSES = ("benign", "malignant")


def rows_of(shares: list[tuple[str, float]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image": [f"{n}.png" for n in range(len(shares))],
            "label": [label for label, _ in shares],
            "p_benign": [1 - share for _, share in shares],
            "p_malignant": [share for _, share in shares],
        }
    )


def test_most_confident_mistakes_come_first_and_the_threshold_itself_is_a_call() -> None:
    rows = rows_of(
        [("malignant", 0.3), ("malignant", 0.1), ("malignant", 0.4), ("benign", 0.4), ("benign", 0.9), ("benign", 0.1)]
    )
    failures = failures_of(rows, classes=CLASSES, positive="malignant", threshold=0.4)
    assert [(i["image"], i["probability"]) for i in failures["missed"]["images"]] == [("1.png", 0.1), ("0.png", 0.3)]
    assert [i["image"] for i in failures["false_alarms"]["images"]] == ["4.png", "3.png"]


def test_list_is_capped_and_the_total_is_not() -> None:
    rows = rows_of([("malignant", 0.1)] * 100 + [("benign", 0.1)])
    missed = failures_of(rows, classes=CLASSES, positive="malignant", threshold=0.4)["missed"]
    assert (missed["total"], len(missed["images"])) == (100, MOST)
    assert missed["images"][0]["image"] == "0.png", "equal mistakes are in the order of their names"


def test_what_is_known_of_an_image_is_listed_but_never_its_patient() -> None:
    rows = rows_of([("malignant", 0.1), ("benign", 0.2)])
    rows["patient"], rows["site"], rows["birads"] = "Jane Doe", "north", ["4", ""]
    image = failures_of(rows, classes=CLASSES, positive="malignant", threshold=0.4)["missed"]["images"][0]
    assert image == {"image": "0.png", "label": "malignant", "probability": 0.1, "site": "north", "birads": "4"}


def test_most_probable_class_is_told_where_there_are_more_than_two() -> None:
    rows = rows_of([("malignant", 0.1)]).assign(p_benign=0.3, p_normal=0.6)
    failures = failures_of(rows, classes=(*CLASSES, "normal"), positive="malignant", threshold=0.4)
    assert failures["missed"]["images"][0]["most_probable"] == "normal"


@pytest.fixture
def evaluation() -> Evaluation:
    shares = [("malignant" if n % 3 == 0 else "benign", n / 40) for n in range(36)]
    return evaluate_predictions(
        rows_of(shares), classes=CLASSES, positive="malignant", threshold=0.4, name="there", resamples=50
    )


def test_thumbnails_are_in_the_page_only_and_the_page_says_so(tmp_path: Path, evaluation: Evaluation) -> None:
    for n in range(36):
        Image.fromarray(np.full((400, 300), n, dtype=np.uint8)).save(tmp_path / f"{n}.png")
    pictures = thumbnails_of(evaluation.as_dict()["failures"], lambda name: read_image(tmp_path / name, name=name))
    first = evaluation.as_dict()["failures"]["missed"]["images"][0]["image"]
    picture = Image.open(io.BytesIO(base64.b64decode(pictures[first].removeprefix("data:image/jpeg;base64,"))))
    assert picture.size == (96, 128)
    formats = ("html", "md", "json", "csv")
    write_evaluation(tmp_path / "with", [dataclasses.replace(evaluation, thumbnails=pictures)], {}, formats=formats)
    write_evaluation(tmp_path / "without", [evaluation], {}, formats=formats)
    page = (tmp_path / "with" / "report.html").read_text(encoding="utf-8")
    assert page.count("<img") == len(pictures)
    assert 'class="notice alarm" role="alert"><strong>This page contains images of patients' in page
    for path in [*(tmp_path / "without").iterdir(), *(tmp_path / "with").glob("*.[!h]*")]:
        text = path.read_text(encoding="utf-8")
        assert "data:image" not in text, path
        assert "contains images of patients" not in text, path


def test_thumbnail_of_a_file_that_is_gone_is_a_sentence(tmp_path: Path, evaluation: Evaluation) -> None:
    with pytest.raises(InputError, match=r"0\.png"):
        thumbnails_of(evaluation.as_dict()["failures"], lambda name: read_image(tmp_path / name, name=name))
