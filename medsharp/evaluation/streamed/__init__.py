"""Statistics over tables that do not fit into memory: passes over rows, sorted on disk."""

from medsharp.evaluation.streamed.evaluate import evaluate_streamed

__all__ = ["evaluate_streamed"]
