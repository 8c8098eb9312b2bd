"""What predicting costs beside a raw loop, and whether heat maps point at what decides."""

from medsharp.inference.benchmark.explanation import FRACTIONS, ORDERS, Explained, measure_explanations
from medsharp.inference.benchmark.speed import (
    Memory,
    Pair,
    in_turn,
    measure_files,
    measure_memory,
    measure_networks,
    measure_single,
    measure_start,
    resident_bytes,
)
from medsharp.inference.benchmark.sweep import Swept, median_seconds, sweep_network, sweep_predictor

__all__ = [
    "FRACTIONS",
    "ORDERS",
    "Explained",
    "Memory",
    "Pair",
    "Swept",
    "in_turn",
    "measure_explanations",
    "measure_files",
    "measure_memory",
    "measure_networks",
    "measure_single",
    "measure_start",
    "median_seconds",
    "resident_bytes",
    "sweep_network",
    "sweep_predictor",
]
