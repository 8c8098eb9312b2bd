"""Predictions become statistics with intervals, and a report."""

from medsharp.evaluation.discrimination import auroc

__all__ = ["auroc"]
