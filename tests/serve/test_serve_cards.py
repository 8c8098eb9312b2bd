from __future__ import annotations

import pytest

from medsharp.inference import Predictor
from medsharp.inference.prediction import Prediction
from serve.engine import Assessment
from serve.page.cards import detail, result
from serve.page.meaning import Background
from serve.page.numbers import percent, probability_beside


@pytest.fixture
def background(predictor: Predictor) -> Background:
    """Of a model whose operating point is 50 %, without validation predictions."""
    point = predictor.spec.operating_point.model_copy(update={"threshold": 0.5})
    return Background(predictor.spec.model_copy(update={"operating_point": point}))


def card(background: Background, *flags: str) -> str:
    shares = {"benign": 0.3, "malignant": 0.7}
    prediction = Prediction("scan", shares, shares["malignant"], flags)
    return result([Assessment(prediction)], background)


@pytest.mark.parametrize(
    "flag", ["dicom", "rotated", "frame 12 of 40, the sharpest", "cropped to the ultrasound region"]
)
def test_how_a_file_was_read_is_a_fact(background: Background, flag: str) -> None:
    assert 'class="ms-fact"' in card(background, flag)
    assert 'class="ms-warning"' not in card(background, flag)


@pytest.mark.parametrize("flag", ["colour", "unlike the training images"])
def test_what_may_mislead_the_model_is_a_warning(background: Background, flag: str) -> None:
    assert 'class="ms-warning"' in card(background, flag)


def drawn(background: Background, probability: float, evidence: bool, method: str = "class activation map") -> str:
    shares = {"benign": 1 - probability, "malignant": probability}
    prediction = Prediction("scan", shares, probability, heatmap_method=method)
    assessment = Assessment(prediction, "data:a", "data:b", (64, 64), evidence)
    return detail(assessment, background)


def test_an_empty_heat_map_is_said_to_be_of_an_answer_at_the_operating_point(background: Background) -> None:
    for probability in (0.3, 0.7):
        html = drawn(background, probability, evidence=False)
        assert "The heat map is empty: the answer lies at the operating point" in html
        assert "Heat map: warm places" not in html


def test_heat_map_is_said_to_show_both_sides_and_what_it_was_made_by(background: Background) -> None:
    html = drawn(background, 0.3, evidence=True)
    assert "warm places speak for malignancy, cold ones against it, counted from the operating point" in html
    assert "covering" not in html
    assert "Found by covering one place after another" in drawn(background, 0.3, True, "occlusion")


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "< 0.1"), (1.0, "> 99.9"), (0.49996, "just below 50.0"), (0.5, "50.0")]
)
def test_probability_is_never_certain_nor_the_operating_point_that_it_misses(value: float, shown: str) -> None:
    assert probability_beside(value, 0.5) == f"{shown}\N{NO-BREAK SPACE}%"


def test_share_that_was_measured_may_be_all() -> None:
    assert percent(1.0) == "100.0\N{NO-BREAK SPACE}%"
