"""Predictions become statistics with intervals, and a report."""

from medsharp.evaluation.conformal import Conformal, calibrate
from medsharp.evaluation.corruptions import corrupt, list_corruptions
from medsharp.evaluation.difference import difference
from medsharp.evaluation.discrimination import auroc
from medsharp.evaluation.evaluate import Evaluation, evaluate_predictions
from medsharp.evaluation.figures import Interval
from medsharp.evaluation.predictions import read_predictions
from medsharp.evaluation.report import write_evaluation

__all__ = [
    "Conformal",
    "Evaluation",
    "Interval",
    "auroc",
    "calibrate",
    "corrupt",
    "difference",
    "evaluate_predictions",
    "list_corruptions",
    "read_predictions",
    "write_evaluation",
]
