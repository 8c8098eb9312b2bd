"""Sharpness-aware optimizers for PyTorch; needs torch and nothing else of medsharp.

Names are loaded when they are first used, so that what is known of the optimizers can be read without loading torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medsharp.optim.asam import ASAM
    from medsharp.optim.bayesiansam import BayesianSAM
    from medsharp.optim.catalogue import Hyperparameter, OptimizerInfo, list_optimizers, optimizer_info
    from medsharp.optim.closure_optimizer import ClosureOptimizer
    from medsharp.optim.crsam import CRSAM
    from medsharp.optim.eigensam import EigenSAM
    from medsharp.optim.esam import ESAM
    from medsharp.optim.fsam import FSAM
    from medsharp.optim.gam import GAM
    from medsharp.optim.gcsam import GCSAM
    from medsharp.optim.gsam import GSAM
    from medsharp.optim.lesam import LESAM
    from medsharp.optim.looksam import LookSAM
    from medsharp.optim.msam import MSAM
    from medsharp.optim.one_pass import OnePass
    from medsharp.optim.registry import create_optimizer, parameter_groups
    from medsharp.optim.rho_scheduler import RhoScheduler
    from medsharp.optim.sam import SAM
    from medsharp.optim.sharpness_aware import SharpnessAware
    from medsharp.optim.usam import USAM, StableSAM
    from medsharp.optim.vasso import VaSSO
    from medsharp.optim.wsam import WSAM
    from medsharp.optim.xsam import XSAM
    from medsharp.optim.zsharp import ZSharp

__all__ = [
    "ASAM",
    "CRSAM",
    "ESAM",
    "FSAM",
    "GAM",
    "GCSAM",
    "GSAM",
    "LESAM",
    "MSAM",
    "SAM",
    "USAM",
    "WSAM",
    "XSAM",
    "BayesianSAM",
    "ClosureOptimizer",
    "EigenSAM",
    "Hyperparameter",
    "LookSAM",
    "OnePass",
    "OptimizerInfo",
    "RhoScheduler",
    "SharpnessAware",
    "StableSAM",
    "VaSSO",
    "ZSharp",
    "create_optimizer",
    "list_optimizers",
    "optimizer_info",
    "parameter_groups",
]

_PLACES = {
    "ASAM": "asam",
    "BayesianSAM": "bayesiansam",
    "CRSAM": "crsam",
    "ClosureOptimizer": "closure_optimizer",
    "ESAM": "esam",
    "EigenSAM": "eigensam",
    "FSAM": "fsam",
    "GAM": "gam",
    "GCSAM": "gcsam",
    "GSAM": "gsam",
    "Hyperparameter": "catalogue",
    "LESAM": "lesam",
    "LookSAM": "looksam",
    "MSAM": "msam",
    "OnePass": "one_pass",
    "OptimizerInfo": "catalogue",
    "RhoScheduler": "rho_scheduler",
    "SAM": "sam",
    "SharpnessAware": "sharpness_aware",
    "StableSAM": "usam",
    "USAM": "usam",
    "VaSSO": "vasso",
    "WSAM": "wsam",
    "XSAM": "xsam",
    "ZSharp": "zsharp",
    "create_optimizer": "registry",
    "list_optimizers": "catalogue",
    "optimizer_info": "catalogue",
    "parameter_groups": "registry",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
