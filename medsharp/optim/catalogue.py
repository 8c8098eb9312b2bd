"""What is known of each optimizer: its paper, its passes and its hyper-parameters. Read without loading torch.

The classes load torch, so that what help pages and configurations need cannot be asked of them; the tests hold every
keyword and default of this table to the classes' signatures, and the ends of every range to what they accept.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Hyperparameter:
    """A keyword of an optimizer: its default, its closed range or its choices, and what it does."""

    name: str
    default: Any
    doc: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def range(self) -> str:
        """Its range in words, empty where every value of its type will do."""
        if self.choices:
            return " or ".join(self.choices)
        if self.low is None:
            return ""
        above_zero = 0 < self.low <= _ABOVE_ZERO
        if self.high is None or self.high == float("inf"):
            return "above 0" if above_zero else f"{self.low:g} or more"
        low = "above 0" if above_zero else f"{self.low:g}"
        return f"{low} to below 1" if self.high == _BELOW_ONE else f"{low} to {self.high:g}"


@dataclass(frozen=True)
class OptimizerInfo:
    """What is known of an optimizer.

    Attributes:
        name: As the command line spells it.
        path: Module and name of its class.
        paper: Authors and title.
        venue: Where it appeared.
        year: When.
        passes: Forward and backward passes a step, on average.
        hyperparameters: Its own keywords; those of its base come on top.
        sharpness_aware: Whether it looks at a neighbourhood of the weights.
        own_step: It is sharpness-aware and steps by itself, without a base optimizer.
        aliases: Other spellings.
    """

    name: str
    path: str
    paper: str
    venue: str
    year: int
    passes: float
    hyperparameters: tuple[Hyperparameter, ...]
    sharpness_aware: bool = True
    own_step: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def defaults(self) -> dict[str, Any]:
        """Its hyper-parameters and their defaults: where a configuration that chooses it begins."""
        return {entry.name: entry.default for entry in self.hyperparameters}

    @property
    def cls(self) -> Any:
        """Its class, a `torch.optim.Optimizer`."""
        module, name = self.path.split(":")
        return getattr(importlib.import_module(module), name)


_BELOW_ONE = 1 - 2**-24
_ABOVE_ZERO = 2**-24
_ADAM = (
    Hyperparameter("betas", (0.9, 0.999), "decay of the first and second moment"),
    Hyperparameter("eps", 1e-8, "added to the root of the second moment", 0, 1),
)
_ADAPTIVE = Hyperparameter("adaptive", False, "scale the perturbation by the squared weight")
_REPLAY = Hyperparameter("replay_rng", False, "the same dropout noise in every pass of a step")
_MICRO = Hyperparameter("micro_batch", None, "perturb for every so many samples by themselves", 1)


def _weight(name: str, default: float, doc: str) -> Hyperparameter:
    return Hyperparameter(name, default, doc, 0, 100)


def _plain(name: str, paper: str, venue: str, year: int, *own: Hyperparameter, cls: str) -> OptimizerInfo:
    return OptimizerInfo(name, f"torch.optim:{cls}", paper, venue, year, 1, own, sharpness_aware=False)


def _method(
    name: str,
    path: str,
    paper: str,
    venue: str,
    year: int,
    *own: Hyperparameter,
    passes: float = 2,
    rho: float = 0.05,
    adaptive: bool = True,
    micro_batch: bool = True,
    own_step: bool = False,
    aliases: tuple[str, ...] = (),
) -> OptimizerInfo:
    """Return what is known of a sharpness-aware method, with the keywords that all have around its own."""
    entries = (
        _weight("rho", rho, "radius of the neighbourhood"),
        *own,
        *([_ADAPTIVE] if adaptive else []),
        _REPLAY,
        *([_MICRO] if micro_batch else []),
    )
    return OptimizerInfo(
        name, f"medsharp.optim.{path}", paper, venue, year, passes, entries, own_step=own_step, aliases=aliases
    )


CATALOGUE = (
    _plain(
        "sgd",
        "H. Robbins, S. Monro, A Stochastic Approximation Method",
        "Annals of Mathematical Statistics",
        1951,
        Hyperparameter("momentum", 0.9, "share of the previous step that is kept", 0, 1),
        Hyperparameter("nesterov", False, "look ahead along the momentum"),
        cls="SGD",
    ),
    _plain("adam", "D. Kingma, J. Ba, Adam: A Method for Stochastic Optimization", "ICLR", 2015, *_ADAM, cls="Adam"),
    _plain(
        "adamw",
        "I. Loshchilov, F. Hutter, Decoupled Weight Decay Regularization",
        "ICLR",
        2019,
        *_ADAM,
        cls="AdamW",
    ),
    _method(
        "sam",
        "sam:SAM",
        "P. Foret et al., Sharpness-Aware Minimization for Efficiently Improving Generalization",
        "ICLR",
        2021,
    ),
    _method(
        "asam",
        "asam:ASAM",
        "J. Kwon et al., ASAM: Adaptive Sharpness-Aware Minimization",
        "ICML",
        2021,
        Hyperparameter("eta", 0.01, "added to the absolute weight", 0, 1),
        Hyperparameter("normalization", "names", "what is scaled", choices=("names", "elementwise")),
        rho=0.5,
        adaptive=False,
    ),
    _method(
        "gsam",
        "gsam:GSAM",
        "J. Zhuang et al., Surrogate Gap Minimization Improves Sharpness-Aware Training",
        "ICLR",
        2022,
        _weight("alpha", 0.4, "weight of the orthogonal part; 0 is SAM"),
    ),
    _method(
        "wsam",
        "wsam:WSAM",
        "Y. Yue et al., Sharpness-Aware Minimization Revisited: Weighted Sharpness as a Regularization Term",
        "KDD",
        2023,
        Hyperparameter("gamma", 0.9, "weight of the sharpness; 0 is the base", 0, _BELOW_ONE),
        Hyperparameter("decouple", True, "apply the sharpness outside the base optimizer"),
        Hyperparameter("max_norm", None, "clip the gradient of each pass to this norm", 0, None),
    ),
    _method(
        "crsam",
        "crsam:CRSAM",
        "T. Wu et al., CR-SAM: Curvature Regularized Sharpness-Aware Minimization",
        "AAAI",
        2024,
        _weight("gamma", 0.1, "weight of the curvature"),
        _weight("beta", 0.01, "weight of the slope"),
        passes=3,
        rho=0.1,
    ),
    _method(
        "fsam",
        "fsam:FSAM",
        "T. Li et al., Friendly Sharpness-Aware Minimization",
        "CVPR",
        2024,
        _weight("sigma", 1.0, "share of the averaged gradient that is taken away; 0 is SAM"),
        Hyperparameter("lmbda", 0.9, "decay of the average", 0, _BELOW_ONE),
    ),
    _method(
        "vasso",
        "vasso:VaSSO",
        "B. Li, G. Giannakis, Enhancing Sharpness-Aware Optimization Through Variance Suppression",
        "NeurIPS",
        2023,
        Hyperparameter("theta", 0.9, "share of the new gradient; 1 is SAM", _ABOVE_ZERO, 1),
    ),
    _method(
        "usam",
        "usam:USAM",
        "M. Andriushchenko, N. Flammarion, Towards Understanding Sharpness-Aware Minimization",
        "ICML",
        2022,
    ),
    _method(
        "stablesam",
        "usam:StableSAM",
        "C. Tan et al., Stabilizing Sharpness-aware Minimization Through A Simple Renormalization Strategy",
        "JMLR",
        2025,
    ),
    _method(
        "gcsam",
        "gcsam:GCSAM",
        "M. Hassan et al., GCSAM: Gradient Centralized Sharpness Aware Minimization",
        "arXiv",
        2025,
    ),
    _method(
        "gam",
        "gam:GAM",
        "X. Zhang et al., Gradient Norm Aware Minimization Seeks First-Order Flatness",
        "CVPR",
        2023,
        Hyperparameter("norm_rho", 0.2, "radius of the ascent of the gradient norm", 0, 100),
        _weight("gamma", 0.03, "weight of the orthogonal part"),
        _weight("beta1", 0.6, "weight of the gradient after the first ascent"),
        _weight("beta2", 0.5, "weight of the gradient after the ascent of the norm"),
        _weight("beta3", 0.4, "weight of the last gradient"),
        passes=4,
        rho=0.02,
    ),
    _method(
        "looksam",
        "looksam:LookSAM",
        "Y. Liu et al., Towards Efficient and Scalable Sharpness-Aware Minimization",
        "CVPR",
        2022,
        _weight("alpha", 0.2, "weight of the remembered direction"),
        Hyperparameter("k", 5, "steps from one step of SAM to the next", 1),
        Hyperparameter("projection", "global", "of the whole gradient or of each tensor", choices=("global", "tensor")),
        passes=1.2,
    ),
    _method(
        "esam",
        "esam:ESAM",
        "J. Du et al., Efficient Sharpness-aware Minimization for Improved Training of Neural Networks",
        "ICLR",
        2022,
        Hyperparameter("beta", 1.0, "share of tensors that climb; the paper has 0.6", _ABOVE_ZERO, 1),
        Hyperparameter("gamma", 1.0, "share of samples that are descended on; the paper has 0.5", _ABOVE_ZERO, 1),
        micro_batch=False,
    ),
    _method(
        "xsam",
        "xsam:XSAM",
        "J. Chen, Z. Zhou, Revisiting Sharpness-Aware Minimization: A More Faithful and Effective Implementation",
        "arXiv",
        2026,
        _weight("rho_max", 0.3, "radius at which the search compares losses"),
        Hyperparameter("ascents", 1, "steps up, each rho long, before a direction is chosen", 1),
        Hyperparameter("interval", None, "steps from one search to the next; an epoch's in training, else 100", 1),
        passes=2.07,
        rho=0.15,
        adaptive=False,
    ),
    _method(
        "lesam",
        "lesam:LESAM",
        "J. Wang et al., Fix the Loss, Not the Radius: Rethinking the Adversarial Perturbation of Sharpness-Aware "
        "Minimization",
        "ICML",
        2026,
        _weight("sigma", 0.35, "by how much the loss rises along the ascent; rho bounds its length"),
        rho=0.3,
    ),
    _method(
        "zsharp",
        "zsharp:ZSharp",
        "V.-D. Yun, Sharpness-Aware Minimization with Z-Score Gradient Filtering",
        "NeurIPS workshop OPT",
        2025,
        Hyperparameter(
            "quantile", 0.95, "of a tensor's absolute z-scores, above which entries climb; 0 is SAM", 0, _BELOW_ONE
        ),
        Hyperparameter("norm", "global", "of all that climbs or of each tensor", choices=("global", "tensor")),
        adaptive=False,
    ),
    _method(
        "msam",
        "msam:MSAM",
        "M. Becker et al., Momentum-SAM: Sharpness Aware Minimization without Computational Overhead",
        "arXiv",
        2024,
        passes=1,
        rho=0.3,
        adaptive=False,
    ),
    _method(
        "bayesiansam",
        "bayesiansam:BayesianSAM",
        "T. Möllenhoff, M. E. Khan, SAM as an Optimal Relaxation of Bayes",
        "ICLR",
        2023,
        _ADAM[0],
        Hyperparameter("data_size", None, "number of training samples, by which the noise shrinks", 1),
        Hyperparameter("precision", 1.0, "where the precision of the weights begins", _ABOVE_ZERO),
        Hyperparameter("damping", 0.1, "added to the precision", 0),
        adaptive=False,
        own_step=True,
        aliases=("bsam",),
    ),
    _method(
        "eigensam",
        "eigensam:EigenSAM",
        "H. Luo et al., Explicit Eigenvalue Regularization Improves Sharpness-Aware Minimization",
        "NeurIPS",
        2024,
        _weight("alpha", 0.2, "weight of the eigenvector; 0 is SAM"),
        Hyperparameter("freq", 100, "steps from one estimate of the eigenvector to the next", 1),
        passes=2.1,
        rho=0.1,
        adaptive=False,
    ),
)
"""Every optimizer, the plain ones first."""

_OPTIMIZERS = {info.name: info for info in CATALOGUE}
_SPELLINGS = {spelling: info.name for info in CATALOGUE for spelling in (info.name, *info.aliases)}


def list_optimizers(pattern: str = "*") -> list[str]:
    """Return the names that match a shell pattern, such as `"*sam"`, in alphabetical order."""
    return sorted(fnmatch.filter(_OPTIMIZERS, pattern))


def optimizer_info(name: str) -> OptimizerInfo:
    """Return what is known of an optimizer; `CR-SAM` finds crsam.

    Raises:
        ValueError: There is none of that name; the nearest are offered.
    """
    spelling = name.lower().replace("-", "").replace("_", "")
    if spelling not in _SPELLINGS:
        close = difflib.get_close_matches(spelling, _SPELLINGS, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else f"choose from {', '.join(list_optimizers())}"
        raise ValueError(f"unknown optimizer '{name}'; {hint}")
    return _OPTIMIZERS[_SPELLINGS[spelling]]


def markdown_table() -> str:
    """Return every optimizer as a table in Markdown."""
    lines = ["| name | class | paper | passes | hyper-parameters |", "|---|---|---|---|---|"]
    for info in CATALOGUE:
        known = "; ".join(
            f"`{entry.name}` {entry.default}" + (f" ({entry.range})" if entry.range else "") + f": {entry.doc}"
            for entry in info.hyperparameters
        )
        name = f"`{info.name}`"
        cells = (name, f"`{info.cls.__name__}`", f"{info.paper}, {info.venue} {info.year}", f"{info.passes:g}", known)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
