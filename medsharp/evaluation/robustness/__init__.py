"""What becomes of a model under corruption: figures with intervals, worst cases, comparison, and a page."""

from medsharp.evaluation.robustness.cells import FIGURES, FLIPS, Cell, Judge
from medsharp.evaluation.robustness.comparison import compare
from medsharp.evaluation.robustness.contact_sheet import contact_sheet, jpeg_of, strip
from medsharp.evaluation.robustness.estimates import Estimate, Resamples
from medsharp.evaluation.robustness.medmnist_c import ALEXNET, ALEXNET_CLEAN, balanced_errors
from medsharp.evaluation.robustness.summary import Cells, describe, describe_cell
from medsharp.evaluation.robustness.writing import write_robustness

__all__ = [
    "ALEXNET",
    "ALEXNET_CLEAN",
    "FIGURES",
    "FLIPS",
    "Cell",
    "Cells",
    "Estimate",
    "Judge",
    "Resamples",
    "balanced_errors",
    "compare",
    "contact_sheet",
    "describe",
    "describe_cell",
    "jpeg_of",
    "strip",
    "write_robustness",
]
