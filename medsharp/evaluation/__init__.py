"""Predictions become statistics with intervals, and a report."""

from medsharp.evaluation.conformal import Conformal, calibrate
from medsharp.evaluation.difference import difference
from medsharp.evaluation.evaluate import Evaluation, evaluate_predictions
from medsharp.evaluation.predictions import read_predictions
from medsharp.evaluation.report import write_evaluation
from medsharp.evaluation.statistics.discrimination import auroc
from medsharp.evaluation.statistics.estimate import Interval

__all__ = [
    "Conformal",
    "Evaluation",
    "Interval",
    "auroc",
    "calibrate",
    "difference",
    "evaluate_predictions",
    "read_predictions",
    "write_evaluation",
]
