"""Bundles under corruption: chooses images, corrupts, predicts, keeps what is done."""

from medsharp.inference.robustness.attacked import Adversary, Attacked
from medsharp.inference.robustness.kept import Kept
from medsharp.inference.robustness.predicting import predict_corrupted, prepare
from medsharp.inference.robustness.run import Interrupted, example_image, measure_robustness
from medsharp.inference.robustness.sample import Sample, take_sample

__all__ = [
    "Adversary",
    "Attacked",
    "Interrupted",
    "Kept",
    "Sample",
    "example_image",
    "measure_robustness",
    "predict_corrupted",
    "prepare",
    "take_sample",
]
