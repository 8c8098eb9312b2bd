"""The simulated images that the page offers are answered by the shipped model, without a caution."""

from __future__ import annotations

from medsharp.bundle import default_bundle
from medsharp.inference import Predictor
from serve.page.examples import simulated_examples


def test_examples_of_the_page_are_answered() -> None:
    predictor = Predictor.load(default_bundle(), threads=1)
    for label, pixels in simulated_examples():
        (answer,) = predictor.predict_pixels([pixels])
        assert answer.status == "answered", (label, answer.reasons)
