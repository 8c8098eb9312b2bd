"""A bundle becomes predictions, on ONNX Runtime; never imports torch.

Tables of predictions need pandas and the data sets' package, and load when they are first asked for: one image needs
neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medsharp.inference.heatmap import overlay
from medsharp.inference.prediction import Prediction
from medsharp.inference.predictor import Predictor
from medsharp.inference.reading import FindLesion, Frames, Given
from medsharp.inference.saliency import Saliency

if TYPE_CHECKING:
    from medsharp.inference.table import predict_manifest, predictions_table

__all__ = [
    "FindLesion",
    "Frames",
    "Given",
    "Prediction",
    "Predictor",
    "Saliency",
    "overlay",
    "predict_manifest",
    "predictions_table",
]

_OF_TABLES = frozenset({"predict_manifest", "predictions_table"})


def __getattr__(name: str) -> Any:
    if name not in _OF_TABLES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("medsharp.inference.table"), name)
