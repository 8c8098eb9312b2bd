"""What predicting costs beside a raw loop, and whether heat maps point at what decides."""

from medsharp.inference.benchmark.explanation import FRACTIONS, ORDERS, Explained, measure_explanations
from medsharp.inference.benchmark.speed import (
    Memory,
    Pair,
    measure_files,
    measure_memory,
    measure_networks,
    measure_single,
    measure_start,
)

__all__ = [
    "FRACTIONS",
    "ORDERS",
    "Explained",
    "Memory",
    "Pair",
    "measure_explanations",
    "measure_files",
    "measure_memory",
    "measure_networks",
    "measure_single",
    "measure_start",
]
