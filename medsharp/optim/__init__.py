"""Sharpness-aware optimizers for PyTorch; needs torch and nothing else of medsharp."""

from medsharp.optim.asam import ASAM
from medsharp.optim.crsam import CRSAM
from medsharp.optim.fsam import FSAM
from medsharp.optim.gcsam import GCSAM
from medsharp.optim.gsam import GSAM
from medsharp.optim.registry import Hyperparameter, OptimizerInfo, create_optimizer, list_optimizers, optimizer_info
from medsharp.optim.sam import SAM
from medsharp.optim.sharpness_aware import SharpnessAware
from medsharp.optim.usam import USAM, StableSAM
from medsharp.optim.vasso import VaSSO
from medsharp.optim.wsam import WSAM

__all__ = [
    "ASAM",
    "CRSAM",
    "FSAM",
    "GCSAM",
    "GSAM",
    "SAM",
    "USAM",
    "WSAM",
    "Hyperparameter",
    "OptimizerInfo",
    "SharpnessAware",
    "StableSAM",
    "VaSSO",
    "create_optimizer",
    "list_optimizers",
    "optimizer_info",
]
