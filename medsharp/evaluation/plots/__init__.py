"""The report's plots, as SVG that follows the page's colours and font in light, dark and print."""

from medsharp.evaluation.plots.dataset import drawings_of
from medsharp.evaluation.plots.degradation import degradation
from medsharp.evaluation.plots.forest import Diamond, forest
from medsharp.evaluation.plots.selective import abstaining
from medsharp.evaluation.plots.several import roc_of_several, told_apart
from medsharp.evaluation.plots.svg import INK, MODEL, NEGATIVE, PANEL, POSITIVE, SOFT, draw, shortened

__all__ = [
    "INK",
    "MODEL",
    "NEGATIVE",
    "PANEL",
    "POSITIVE",
    "SOFT",
    "Diamond",
    "abstaining",
    "degradation",
    "draw",
    "drawings_of",
    "forest",
    "roc_of_several",
    "shortened",
    "told_apart",
]
