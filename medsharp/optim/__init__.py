"""Sharpness-aware optimizers for PyTorch; needs torch and nothing else of medsharp."""

from medsharp.optim.registry import Hyperparameter, OptimizerInfo, create_optimizer, list_optimizers, optimizer_info
from medsharp.optim.sam import SAM
from medsharp.optim.sharpness_aware import SharpnessAware
from medsharp.optim.wsam import WSAM

__all__ = [
    "SAM",
    "WSAM",
    "Hyperparameter",
    "OptimizerInfo",
    "SharpnessAware",
    "create_optimizer",
    "list_optimizers",
    "optimizer_info",
]
