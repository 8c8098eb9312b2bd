"""The optimizers by name: their papers, hyper-parameters, and how to make one."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from medsharp.optim.asam import ASAM, NORMALIZATIONS
from medsharp.optim.crsam import CRSAM
from medsharp.optim.fsam import FSAM
from medsharp.optim.gcsam import GCSAM
from medsharp.optim.gsam import GSAM
from medsharp.optim.sam import SAM
from medsharp.optim.sharpness_aware import SharpnessAware
from medsharp.optim.usam import USAM, StableSAM
from medsharp.optim.vasso import VaSSO
from medsharp.optim.wsam import WSAM


@dataclass(frozen=True)
class Hyperparameter:
    """A keyword of an optimizer: its default, its closed range or its choices, and what it does."""

    name: str
    default: Any
    doc: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class OptimizerInfo:
    """What is known of an optimizer.

    Attributes:
        name: As the command line spells it.
        cls: Its class, a `torch.optim.Optimizer`.
        paper: Authors, title, venue.
        year: Of the paper.
        passes: Forward and backward passes a step.
        hyperparameters: Its own keywords; those of its base come on top.
    """

    name: str
    cls: Any
    paper: str
    year: int
    passes: int
    hyperparameters: tuple[Hyperparameter, ...]

    @property
    def sharpness_aware(self) -> bool:
        """Whether it stands on a base optimizer."""
        return issubclass(self.cls, SharpnessAware)


_ADAM = (
    Hyperparameter("betas", (0.9, 0.999), "decay of the first and second moment"),
    Hyperparameter("eps", 1e-8, "added to the root of the second moment", 0, 1),
)
_RHO = Hyperparameter("rho", 0.05, "radius of the neighbourhood", 0, 100)
_ADAPTIVE = Hyperparameter("adaptive", False, "scale the perturbation by the squared weight")
_REPLAY = Hyperparameter("replay_rng", False, "the same dropout noise in every pass of a step")
_ASCENT = (_RHO, _ADAPTIVE, _REPLAY)
_BELOW_ONE = 1 - 2**-24

_OPTIMIZERS = {
    info.name: info
    for info in (
        OptimizerInfo(
            "sgd",
            torch.optim.SGD,
            "H. Robbins, S. Monro, A Stochastic Approximation Method, Annals of Mathematical Statistics 22",
            1951,
            1,
            (
                Hyperparameter("momentum", 0.9, "share of the previous step that is kept", 0, 1),
                Hyperparameter("nesterov", False, "look ahead along the momentum"),
            ),
        ),
        OptimizerInfo("adam", torch.optim.Adam, "D. Kingma, J. Ba, Adam, ICLR", 2015, 1, _ADAM),
        OptimizerInfo(
            "adamw", torch.optim.AdamW, "I. Loshchilov, F. Hutter, Decoupled Weight Decay, ICLR", 2019, 1, _ADAM
        ),
        OptimizerInfo(
            "asam",
            ASAM,
            "J. Kwon et al., ASAM: Adaptive Sharpness-Aware Minimization, ICML",
            2021,
            2,
            (
                Hyperparameter("rho", 0.5, "radius of the neighbourhood", 0, 100),
                Hyperparameter("eta", 0.01, "added to the absolute weight", 0, 1),
                Hyperparameter("normalization", "names", "what is scaled", choices=NORMALIZATIONS),
                _REPLAY,
            ),
        ),
        OptimizerInfo(
            "crsam",
            CRSAM,
            "T. Wu et al., CR-SAM: Curvature Regularized Sharpness-Aware Minimization, AAAI",
            2024,
            3,
            (
                Hyperparameter("rho", 0.1, "radius of the neighbourhood", 0, 100),
                Hyperparameter("gamma", 0.1, "weight of the curvature", 0, 100),
                Hyperparameter("beta", 0.01, "weight of the slope", 0, 100),
                _ADAPTIVE,
                _REPLAY,
            ),
        ),
        OptimizerInfo(
            "fsam",
            FSAM,
            "T. Li et al., Friendly Sharpness-Aware Minimization, CVPR",
            2024,
            2,
            (
                _RHO,
                Hyperparameter("sigma", 1.0, "share of the averaged gradient that is taken away", 0, 100),
                Hyperparameter("lmbda", 0.9, "decay of the average, below 1", 0, _BELOW_ONE),
                _REPLAY,
            ),
        ),
        OptimizerInfo(
            "gcsam",
            GCSAM,
            "M. Hassan et al., GCSAM: Gradient Centralized Sharpness Aware Minimization, arXiv",
            2025,
            2,
            (_RHO, _REPLAY),
        ),
        OptimizerInfo(
            "gsam",
            GSAM,
            "J. Zhuang et al., Surrogate Gap Minimization Improves Sharpness-Aware Training, ICLR",
            2022,
            2,
            (*_ASCENT, Hyperparameter("alpha", 0.4, "weight of the orthogonal part; 0 is SAM", 0, 100)),
        ),
        OptimizerInfo(
            "stablesam",
            StableSAM,
            "C. Tan et al., Stabilizing Sharpness-aware Minimization, JMLR",
            2025,
            2,
            (_RHO, _REPLAY),
        ),
        OptimizerInfo(
            "usam",
            USAM,
            "M. Andriushchenko, N. Flammarion, Towards Understanding Sharpness-Aware Minimization, ICML",
            2022,
            2,
            (_RHO, _REPLAY),
        ),
        OptimizerInfo(
            "vasso",
            VaSSO,
            "B. Li, G. Giannakis, Enhancing Sharpness-Aware Optimization Through Variance Suppression, NeurIPS",
            2023,
            2,
            (_RHO, Hyperparameter("theta", 0.9, "share of the new gradient, above 0; 1 is SAM", 2**-24, 1), _REPLAY),
        ),
        OptimizerInfo("sam", SAM, "P. Foret et al., Sharpness-Aware Minimization, ICLR", 2021, 2, _ASCENT),
        OptimizerInfo(
            "wsam",
            WSAM,
            "Y. Yue et al., Sharpness-Aware Minimization Revisited, KDD",
            2023,
            2,
            (
                *_ASCENT,
                Hyperparameter("gamma", 0.9, "weight of the sharpness, below 1; 0 is the base", 0, _BELOW_ONE),
                Hyperparameter("decouple", True, "apply the sharpness outside the base optimizer"),
                Hyperparameter("max_norm", None, "clip the gradient of each pass to this norm", 0, None),
            ),
        ),
    )
}


def list_optimizers(pattern: str = "*") -> list[str]:
    """Return the names that match a shell pattern, such as `"*sam"`, in alphabetical order."""
    return sorted(fnmatch.filter(_OPTIMIZERS, pattern))


def optimizer_info(name: str) -> OptimizerInfo:
    """Return what is known of an optimizer.

    Raises:
        ValueError: There is none of that name; the nearest are offered.
    """
    if name not in _OPTIMIZERS:
        close = difflib.get_close_matches(name, _OPTIMIZERS, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else f"choose from {', '.join(list_optimizers())}"
        raise ValueError(f"unknown optimizer '{name}'; {hint}")
    return _OPTIMIZERS[name]


def create_optimizer(
    name: str,
    model_or_params: nn.Module | Iterable[Any],
    *,
    lr: float,
    base: str = "adamw",
    weight_decay: float = 0.0,
    decay_norm_and_bias: bool = False,
    **hyperparameters: Any,
) -> Optimizer:
    """Make an optimizer by name.

    Args:
        name: One of `list_optimizers()`.
        model_or_params: A model (its batch-norm layers are then kept from counting the extra passes) or parameters.
        lr: Learning rate, more than 0.
        base: What a sharpness-aware method stands on: sgd, adam or adamw.
        weight_decay: Of the base optimizer.
        decay_norm_and_bias: With a model: decay one-dimensional parameters (biases, norm layers) as well.
        hyperparameters: The method's own keywords, and those of its base.

    Raises:
        ValueError: A name is unknown or a value out of range.
    """
    info = optimizer_info(name)
    if not lr > 0:
        raise ValueError(f"lr must be more than 0, not {lr}")
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay must be 0 or more, not {weight_decay}")
    params: Any = model_or_params
    if isinstance(model_or_params, nn.Module):
        params = _groups(model_or_params, weight_decay, decay_norm_and_bias)
    defaults = {entry.name: entry.default for entry in info.hyperparameters}
    if not info.sharpness_aware:
        return info.cls(params, lr=lr, weight_decay=weight_decay, **{**defaults, **hyperparameters})
    below = optimizer_info(base)
    if below.sharpness_aware:
        raise ValueError(f"base must be a plain optimizer such as adamw, not {base}")
    defaults.update({entry.name: entry.default for entry in below.hyperparameters})
    model = model_or_params if isinstance(model_or_params, nn.Module) else None
    options = {**defaults, **hyperparameters}
    return info.cls(params, base=below.cls, lr=lr, weight_decay=weight_decay, model=model, **options)


def _groups(model: nn.Module, weight_decay: float, decay_all: bool) -> list[dict[str, Any]]:
    chosen: dict[bool, list[Tensor]] = {True: [], False: []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            chosen[decay_all or parameter.ndim > 1].append(parameter)
    decays = {True: weight_decay, False: 0.0}
    return [{"params": params, "weight_decay": decays[key]} for key, params in chosen.items() if params]
