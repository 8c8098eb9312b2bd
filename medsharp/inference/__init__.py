"""A bundle becomes predictions, on ONNX Runtime; never imports torch."""

from medsharp.inference.heatmap import overlay
from medsharp.inference.prediction import Prediction
from medsharp.inference.predictor import Predictor
from medsharp.inference.reading import FindLesion, Frames
from medsharp.inference.table import predict_manifest, predictions_table

__all__ = ["FindLesion", "Frames", "Prediction", "Predictor", "overlay", "predict_manifest", "predictions_table"]
