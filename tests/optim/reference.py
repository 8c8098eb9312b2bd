"""Every sharpness-aware method once more, from its equations: all weights in one vector, slow and obvious.

A method is a function of one `Step`. It asks for gradients wherever it likes and ends with `descend`, which steps a
plain base optimizer. Nothing of medsharp is used here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector, vector_to_parameters

EPS = 1e-12


@dataclass
class Step:
    """One step on one batch.

    Attributes:
        model: Steps are taken on its weights.
        base: Over the same weights; its groups hold a `rho` each.
        x: Batch, `[N, D]`.
        y: Classes, `[N]`.
        options: The method's values by name.
        memory: What the method keeps from step to step.
        sign: -1 to maximize the loss.
        max_grad_norm: Clip what is applied to this norm.
        first_loss: Of the first look at the batch.
    """

    model: nn.Module
    base: torch.optim.Optimizer
    x: Tensor
    y: Tensor
    options: SimpleNamespace
    memory: dict[str, Any]
    sign: float = 1.0
    max_grad_norm: float | None = None
    first_loss: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.names = [name for name, _ in self.model.named_parameters()]
        self.tensors = [p for _, p in self.model.named_parameters()]
        self.w = parameters_to_vector(self.tensors).detach().clone()
        self.rho, self.lr, self.weight_decay = (self.of_groups(key) for key in ("rho", "lr", "weight_decay"))

    def of_groups(self, key: str) -> Tensor:
        """A value of the groups, for every single weight."""
        group_of = {id(p): group for group in self.base.param_groups for p in group["params"]}
        return self.join(torch.full_like(p, group_of[id(p)][key]) for p in self.tensors)

    def join(self, tensors: Iterable[Tensor]) -> Tensor:
        return torch.cat([t.detach().reshape(-1) for t in tensors])

    def split(self, vector: Tensor) -> list[Tensor]:
        parts = vector.split([p.numel() for p in self.tensors])
        return [part.view_as(p) for part, p in zip(parts, self.tensors)]

    def losses(self, w: Tensor, rows: Any = slice(None)) -> Tensor:
        """Loss of each sample at weights `w`; only the step's first look moves the running statistics."""
        buffers = {name: b.clone() for name, b in self.model.named_buffers()}
        weights = dict(zip(self.names, self.split(w)))
        logits = functional_call(self.model, {**weights, **buffers}, (self.x[rows],))
        losses = F.cross_entropy(logits, self.y[rows], reduction="none")
        if self.model.training and self.first_loss is None:
            self.first_loss = float(losses.detach().mean())
            for name, buffer in self.model.named_buffers():
                buffer.copy_(buffers[name])
        return self.sign * losses

    def gradient(self, w: Tensor, rows: Any = slice(None)) -> Tensor:
        w = w.detach().clone().requires_grad_()
        return torch.autograd.grad(self.losses(w, rows).mean(), w)[0]

    def draw(self, of: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Something for each tensor, drawn in the order of the groups."""
        drawn = {id(p): of(p) for group in self.base.param_groups for p in group["params"]}
        return [drawn[id(p)] for p in self.tensors]

    def hessian_product(self, v: Tensor) -> Tensor:
        """The Hessian of the loss in evaluation mode, times `v`."""
        self.model.eval()
        w = self.w.clone().requires_grad_()
        gradient = torch.autograd.grad(self.losses(w).mean(), w, create_graph=True)[0]
        product = torch.autograd.grad(gradient @ v, w)[0]
        self.model.train()
        return product

    def clip_factor(self, gradient: Tensor, max_norm: float | None) -> float:
        return 1.0 if max_norm is None else min(1.0, max_norm / (float(gradient.norm()) + 1e-6))

    def descend(self, gradient: Tensor) -> None:
        """The base optimizer's step from `w`."""
        gradient = gradient * self.clip_factor(gradient, self.max_grad_norm)
        for p, g in zip(self.tensors, self.split(gradient)):
            p.grad = g.clone()
        self.base.step()

    def move(self, by: Tensor) -> None:
        """Add `by` to the weights, past the base optimizer."""
        vector_to_parameters(parameters_to_vector(self.tensors).detach() + by, self.tensors)

    def scale(self, at: Tensor | None = None) -> Tensor:
        """`T = |w|` if the step is adaptive, 1 otherwise."""
        w = self.w if at is None else at
        return w.abs() if self.options.adaptive else torch.ones_like(w)

    def ascent(self, d: Tensor, at: Tensor | None = None, eps: float = EPS) -> Tensor:
        """`rho T^2 d / ||T d||`."""
        T = self.scale(at)
        return self.rho * T**2 * d / ((T * d).norm() + eps)


def orthogonal(a: Tensor, b: Tensor) -> Tensor:
    """The part of `a` orthogonal to `b`."""
    return a - (a * b).sum() / (b * b).sum() * b


def sam(step: Step) -> None:
    g = step.gradient(step.w)
    step.descend(step.gradient(step.w + step.ascent(g)))


def asam(step: Step) -> None:
    g = step.gradient(step.w)
    if step.options.normalization == "names":
        eta = step.options.eta
        parts = zip(step.names, step.split(step.w))
        T = step.join(p.abs() + eta if "weight" in name else torch.ones_like(p) for name, p in parts)
    else:
        T = step.w.abs()
    step.descend(step.gradient(step.w + step.rho * T**2 * g / ((T * g).norm() + EPS)))


def gsam(step: Step) -> None:
    g = step.gradient(step.w)
    g_plus = step.gradient(step.w + step.ascent(g))
    step.descend(g_plus - step.options.alpha * orthogonal(g, g_plus))


def wsam(step: Step) -> None:
    o = step.options
    a = o.gamma / (1 - o.gamma)
    g = step.gradient(step.w)
    g_plus = step.gradient(step.w + step.ascent(g))
    # The ascent is along the gradient as it was; both are clipped for what follows only.
    g, g_plus = (v * step.clip_factor(v, o.max_norm) for v in (g, g_plus))
    if not o.decouple:
        step.descend(a * g_plus + (1 - a) * g)
        return
    # What moves the weights is g + a (g+ - g), in two parts: clipped as a whole, the parts keep their share.
    factor = step.clip_factor(g + a * (g_plus - g), step.max_grad_norm)
    step.max_grad_norm = None
    step.descend(factor * g)
    step.move(-step.lr * factor * a * (g_plus - g))


def crsam(step: Step) -> None:
    o = step.options
    g = step.gradient(step.w)
    e = step.ascent(g)
    g_plus, g_minus = step.gradient(step.w + e), step.gradient(step.w - e)
    step.descend(g_plus + o.gamma * (g_plus + g_minus - 2 * g) + o.beta * (g_plus - g_minus))


def fsam(step: Step) -> None:
    o, memory = step.options, step.memory
    g = step.gradient(step.w)
    if "m" not in memory:
        d = memory["m"] = g
    else:
        d = g - o.sigma * memory["m"]
        memory["m"] = o.lmbda * memory["m"] + (1 - o.lmbda) * g
    step.descend(step.gradient(step.w + step.ascent(d)))


def vasso(step: Step) -> None:
    theta, memory = step.options.theta, step.memory
    g = step.gradient(step.w)
    d = memory["d"] = (1 - theta) * memory["d"] + theta * g if "d" in memory else g
    # The authors' number; it is large enough to be seen.
    step.descend(step.gradient(step.w + step.ascent(d, eps=1e-7)))


def usam(step: Step) -> None:
    step.descend(step.gradient(step.w + step.rho * step.scale() ** 2 * step.gradient(step.w)))


def stablesam(step: Step) -> None:
    g = step.gradient(step.w)
    g_plus = step.gradient(step.w + step.rho * step.scale() ** 2 * g)
    step.descend(g_plus * g.norm() / (g_plus.norm() + EPS))


def gcsam(step: Step) -> None:
    g = step.gradient(step.w)
    parts = step.split(g)
    centred = step.join(p - p.flatten(1).mean(1).view(-1, *[1] * (p.ndim - 1)) if p.ndim > 1 else p for p in parts)
    T = step.scale()
    step.descend(step.gradient(step.w + step.rho * T**2 * centred / ((T * g).norm() + EPS)))


def gam(step: Step) -> None:
    o, w = step.options, step.w
    g0 = step.gradient(w)
    g1 = step.gradient(w + step.ascent(g0))
    d = g1 - g0
    u = w + o.norm_rho / step.rho * step.ascent(d)
    g2 = step.gradient(u)
    g3 = step.gradient(u + step.ascent(g2, at=u))
    p, q = g0 + abs(o.beta2) * g2, o.beta1 * g1 + o.beta3 * g3
    step.descend(q - o.gamma * orthogonal(p, q))


def looksam(step: Step) -> None:
    o, memory = step.options, step.memory
    number = memory["steps"] = memory.get("steps", -1) + 1
    whole = o.projection == "global"

    def pieces(v: Tensor) -> list[Tensor]:
        return [v] if whole else step.split(v)

    g = step.gradient(step.w)
    if number % o.k == 0:
        g_plus = step.gradient(step.w + step.ascent(g))
        parts = [orthogonal(a, b) for a, b in zip(pieces(g_plus), pieces(g))]
        memory["v"] = step.join(part / part.norm() for part in parts)
        step.descend(g_plus)
    else:
        lengths = step.join(part.norm() * torch.ones_like(part) for part in pieces(g))
        step.descend(g + o.alpha * lengths * memory["v"])


def esam(step: Step) -> None:
    o, memory = step.options, step.memory
    generator = memory.setdefault("draws", torch.Generator().manual_seed(o.seed))
    draws = iter(torch.rand(len(step.tensors), generator=generator))
    # A frozen tensor has no gradient in the first pass.
    climbs = step.join(step.draw(lambda p: torch.full_like(p, next(draws) <= o.beta)))
    # The authors' number; it is large enough to be seen.
    g = climbs * step.gradient(step.w)
    up = step.w + step.ascent(g, eps=1e-7) / o.beta
    with torch.no_grad():
        rise = step.losses(up) - step.losses(step.w)
    cut = rise.sort(descending=True).values[int(len(rise) * o.gamma) - 1]
    step.descend(step.gradient(up, rise > cut))


def xsam(step: Step) -> None:
    o, memory = step.options, step.memory
    number = memory["steps"] = memory.get("steps", -1) + 1
    up = step.w
    for _ in range(o.ascents):
        up = up + step.ascent(step.gradient(up))
    g = step.gradient(up)
    v0, v1 = (up - step.w) / (up - step.w).norm(), g / g.norm()
    theta = torch.arccos(v0 @ v1)

    def d(a: float) -> Tensor:
        return (torch.sin((1 - a) * theta) * v0 + torch.sin(a * theta) * v1) / torch.sin(theta)

    if number % o.interval == 0:
        with torch.no_grad():
            losses = {k / 10: float(step.losses(step.w + o.rho_max * d(k / 10)).mean()) for k in range(21)}
        memory["a"] = max(losses, key=lambda a: losses[a])
    step.descend(g.norm() * d(memory["a"]))


def lesam(step: Step) -> None:
    T, g = step.scale(), step.gradient(step.w)
    slope = (T * g).norm() + EPS
    length = torch.minimum(step.options.sigma / slope, step.rho)
    step.descend(step.gradient(step.w + length * T**2 * g / slope))


def zsharp(step: Step) -> None:
    o, g = step.options, step.gradient(step.w)
    filtered = []
    for part in step.split(g):
        z = (part - part.mean()) / part.std()
        filtered.append(part * (z.abs() > torch.quantile(z.abs(), o.quantile)) if part.ndim > 1 else part)
    f = step.join(filtered)
    if o.norm == "global":
        e = step.rho * f / (f.norm() + EPS)
    else:
        lengths = [part.norm() if part.ndim > 1 else g.norm() for part in filtered]
        e = step.rho * step.join(part / (length + EPS) for part, length in zip(filtered, lengths))
    step.descend(step.gradient(step.w + e))


def msam(step: Step) -> None:
    base = step.base
    key = "momentum_buffer" if isinstance(base, torch.optim.SGD) else "exp_avg"
    v = step.join(base.state[p][key] if base.state[p] else torch.zeros_like(p) for p in step.tensors)
    e = -step.rho * v / (v.norm() + EPS)
    g = step.gradient(step.w + e)
    g = g * step.clip_factor(g, step.max_grad_norm)
    step.max_grad_norm = None
    if not isinstance(base, torch.optim.AdamW):
        # The base adds `weight_decay w`; the authors' code decays at the perturbed weights.
        g = g + step.weight_decay * e
    step.descend(g)


def bayesiansam(step: Step) -> None:
    o, memory, w = step.options, step.memory, step.w
    if not memory:
        memory["draws"] = torch.Generator().manual_seed(o.seed)
        memory["s"], memory["m"] = torch.full_like(w, o.precision), torch.zeros_like(w)
    s = memory["s"]
    n = step.join(step.draw(lambda p: torch.randn(p.shape, generator=memory["draws"], dtype=p.dtype)))
    g = step.gradient(w + torch.sqrt(1 / (o.data_size * s)) * n)
    g_plus = step.gradient(w + step.rho * g / s)
    g_plus = g_plus * step.clip_factor(g_plus, step.max_grad_norm)
    beta1, beta2 = o.betas
    memory["m"] = beta1 * memory["m"] + (1 - beta1) * (g_plus + step.weight_decay * w)
    memory["s"] = beta2 * s + (1 - beta2) * (s.sqrt() * g.abs() + o.damping + step.weight_decay)
    step.move(-step.lr * memory["m"] / s)


def eigensam(step: Step) -> None:
    o, memory = step.options, step.memory
    number = memory["steps"] = memory.get("steps", -1) + 1
    if number == 0:
        generator = torch.Generator().manual_seed(o.seed)
        memory["v"] = step.join(step.draw(lambda p: torch.randn(p.shape, generator=generator, dtype=p.dtype)))
    if number % o.freq == 0:
        for _ in range(5):
            product = step.hessian_product(memory["v"])
            memory["v"] = product / product.norm()
    g, v = step.gradient(step.w), memory["v"]
    direction = g / g.norm() + o.alpha * torch.sign(g @ v) * orthogonal(v, g)
    step.descend(step.gradient(step.w + step.rho * direction))


METHODS: dict[str, Callable[[Step], None]] = {
    function.__name__: function
    for function in (
        sam, asam, gsam, wsam, crsam, fsam, vasso, usam, stablesam, gcsam, gam, looksam, esam, xsam, lesam, zsharp,
        msam, bayesiansam, eigensam,
    )
}  # fmt: skip
"""By the names of `medsharp.optim`."""
