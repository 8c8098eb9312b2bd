"""Runs become a bundle: ONNX, checked against PyTorch, calibrated, its operating point frozen."""

from medsharp.export.elsewhere import export_described
from medsharp.export.export import export_network
from medsharp.export.from_runs import export_run, export_runs

__all__ = ["export_described", "export_network", "export_run", "export_runs"]
