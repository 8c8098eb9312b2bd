"""Sharpness-aware optimizers for PyTorch; needs torch and nothing else of medsharp."""

from medsharp.optim.asam import ASAM
from medsharp.optim.bayesiansam import BayesianSAM
from medsharp.optim.catalogue import Hyperparameter, OptimizerInfo
from medsharp.optim.crsam import CRSAM
from medsharp.optim.eigensam import EigenSAM
from medsharp.optim.esam import ESAM
from medsharp.optim.fsam import FSAM
from medsharp.optim.gam import GAM
from medsharp.optim.gcsam import GCSAM
from medsharp.optim.gsam import GSAM
from medsharp.optim.looksam import LookSAM
from medsharp.optim.msam import MSAM
from medsharp.optim.registry import create_optimizer, list_optimizers, optimizer_info
from medsharp.optim.rho_scheduler import RhoScheduler
from medsharp.optim.sam import SAM
from medsharp.optim.sharpness_aware import SharpnessAware
from medsharp.optim.usam import USAM, StableSAM
from medsharp.optim.vasso import VaSSO
from medsharp.optim.wsam import WSAM

__all__ = [
    "ASAM",
    "CRSAM",
    "ESAM",
    "FSAM",
    "GAM",
    "GCSAM",
    "GSAM",
    "MSAM",
    "SAM",
    "USAM",
    "WSAM",
    "BayesianSAM",
    "EigenSAM",
    "Hyperparameter",
    "LookSAM",
    "OptimizerInfo",
    "RhoScheduler",
    "SharpnessAware",
    "StableSAM",
    "VaSSO",
    "create_optimizer",
    "list_optimizers",
    "optimizer_info",
]
