"""Bundles under corruption: images are chosen, corrupted and predicted; figures, worst cases and a page come of it."""

from medsharp.robustness.annotations import against_controls, sentence_of
from medsharp.robustness.attacked import Adversary, Attacked
from medsharp.robustness.cells import FIGURES, FLIPS, Cell, Judge, Resamples
from medsharp.robustness.comparison import compare
from medsharp.robustness.contact_sheet import Example, contact_sheet, example_image, jpeg_of, strip
from medsharp.robustness.handing_out import HandOut
from medsharp.robustness.kept import Kept
from medsharp.robustness.medmnist_c import ALEXNET, ALEXNET_CLEAN, balanced_errors
from medsharp.robustness.predicting import predict_corrupted, prepare
from medsharp.robustness.run import Interrupted, measure_robustness
from medsharp.robustness.sample import Sample, take_sample
from medsharp.robustness.summary import Cells, describe, describe_cell
from medsharp.robustness.writing import write_robustness

__all__ = [
    "ALEXNET",
    "ALEXNET_CLEAN",
    "FIGURES",
    "FLIPS",
    "Adversary",
    "Attacked",
    "Cell",
    "Cells",
    "Example",
    "HandOut",
    "Interrupted",
    "Judge",
    "Kept",
    "Resamples",
    "Sample",
    "against_controls",
    "balanced_errors",
    "compare",
    "contact_sheet",
    "describe",
    "describe_cell",
    "example_image",
    "jpeg_of",
    "measure_robustness",
    "predict_corrupted",
    "prepare",
    "sentence_of",
    "strip",
    "take_sample",
    "write_robustness",
]
