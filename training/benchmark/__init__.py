"""What the optimizers cost: time and memory beside a plain forward and backward."""

from training.benchmark.optimizers import Report, Row, Settings, benchmark_optimizers
from training.benchmark.spread import Spread

__all__ = ["Report", "Row", "Settings", "Spread", "benchmark_optimizers"]
