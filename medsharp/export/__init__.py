"""A run becomes a bundle: ONNX, checked against PyTorch, calibrated, its operating point frozen."""

from medsharp.export.export import export_network, export_run

__all__ = ["export_network", "export_run"]
