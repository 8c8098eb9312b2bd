from __future__ import annotations

import pytest

from medsharp.inference.prediction import Prediction
from serve.assess import Assessment
from serve.cards import result


def card(*flags: str) -> str:
    shares = {"benign": 0.3, "malignant": 0.7}
    prediction = Prediction("scan", shares, shares["malignant"], "malignant", flags)
    return result([Assessment(prediction)], "malignant", "benign", 0.5)


@pytest.mark.parametrize(
    "flag", ["dicom", "rotated", "frame 12 of 40, the sharpest", "cropped to the ultrasound region"]
)
def test_how_a_file_was_read_is_a_fact(flag: str) -> None:
    assert 'class="ms-fact"' in card(flag)
    assert 'class="ms-warning"' not in card(flag)


@pytest.mark.parametrize("flag", ["colour", "unlike the training images"])
def test_what_may_mislead_the_model_is_a_warning(flag: str) -> None:
    assert 'class="ms-warning"' in card(flag)
