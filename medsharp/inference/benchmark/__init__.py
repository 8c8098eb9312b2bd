"""What predicting costs beside a raw loop, and whether heat maps point at what decides."""

from medsharp.inference.benchmark.explanation import FRACTIONS, ORDERS, Explained, measure_explanations

__all__ = ["FRACTIONS", "ORDERS", "Explained", "measure_explanations"]
