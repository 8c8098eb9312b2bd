"""Adversarial images: changed within a bound, with the network's gradient at hand, so that its answer gets worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Norm = Literal["Linf", "L2"]


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        name: `FGSM` (one step from the image) or `PGD` (several steps from a random place within the bound).
        norm: What is bounded: the largest change of a pixel, or the root of the sum of squares.
        epsilon: The bound, in grey levels.
        steps: 1 for FGSM.
    """

    name: Literal["FGSM", "PGD"]
    norm: Norm
    epsilon: float
    steps: int


ATTACKS = (
    *(Attack("FGSM", "Linf", epsilon, 1) for epsilon in (0.5, 1.0, 2.0, 4.0, 8.0)),
    *(Attack("PGD", "Linf", epsilon, 10) for epsilon in (0.5, 1.0, 2.0)),
    *(Attack("PGD", "L2", epsilon, 10) for epsilon in (32.0, 128.0)),
)
"""Those of `medsharp robustness --adversarial`."""


def attack(
    network: nn.Module, images: Tensor, labels: Tensor, how: Attack, generator: torch.Generator | None = None
) -> Tensor:
    """Change images within a bound so that the cross entropy of their labels rises.

    FGSM takes one step along the sign of the gradient (Goodfellow et al., ICLR 2015, section 4). PGD takes steps of 2.5
    epsilon / steps from a random start, along the sign (Linf) or the direction (L2) of the gradient, and projects back
    each time (Madry et al., ICLR 2018, eq. 2.2). Of PGD's iterates and the image itself, that of the highest loss is
    returned for each image. Changed images stay between 0 and 255.

    Args:
        network: In eval mode; its weights get no gradients.
        images: Grey levels, uint8 or float from 0 to 255, [B, 1, S, S].
        labels: int64 [B].
        how: The attack.
        generator: Of PGD's random start, on the images' device.

    Returns:
        float32 [B, 1, S, S], no further than epsilon from the images.
    """
    clean = images.float()
    if how.name == "FGSM":
        _, gradient = _loss(network, clean, labels)
        return (clean + how.epsilon * gradient.sign()).clamp(0, 255)
    now = _projected(clean + _start(clean, how, generator), clean, how)
    best, highest = clean, _loss(network, clean, labels)[0]
    step = 2.5 * how.epsilon / how.steps
    for _ in range(how.steps):
        loss, gradient = _loss(network, now, labels)
        best, highest = _better(best, highest, now, loss)
        direction = gradient.sign() if how.norm == "Linf" else gradient / _length(gradient).clamp_min(1e-12)
        now = _projected(now + step * direction, clean, how)
    return _better(best, highest, now, _loss(network, now, labels)[0])[0]


def _loss(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss [B] and its gradient by the images."""
    given = images.detach().requires_grad_()
    loss = F.cross_entropy(network(given), labels, reduction="none")
    (gradient,) = torch.autograd.grad(loss.sum(), given)
    return loss.detach(), gradient


def _better(best: Tensor, highest: Tensor, now: Tensor, loss: Tensor) -> tuple[Tensor, Tensor]:
    higher = loss > highest
    return torch.where(higher[:, None, None, None], now, best), torch.where(higher, loss, highest)


def _start(clean: Tensor, how: Attack, generator: torch.Generator | None) -> Tensor:
    """Draw a change, uniform in the cube (Linf) or of a random direction and length (L2)."""
    if how.norm == "Linf":
        drawn = torch.rand(clean.shape, generator=generator, device=clean.device)
        return how.epsilon * (2 * drawn - 1)
    direction = torch.randn(clean.shape, generator=generator, device=clean.device)
    share = torch.rand((len(clean), 1, 1, 1), generator=generator, device=clean.device)
    return how.epsilon * share * direction / _length(direction)


def _projected(changed: Tensor, clean: Tensor, how: Attack) -> Tensor:
    """Bring images back to within epsilon of the clean ones and between 0 and 255."""
    change = changed - clean
    if how.norm == "Linf":
        change = change.clamp(-how.epsilon, how.epsilon)
    else:
        change = change * (how.epsilon / _length(change).clamp_min(1e-12)).clamp_max(1)
    # Clipping to grey levels moves each pixel towards the clean image, so that the bound still holds.
    return (clean + change).clamp(0, 255)


def _length(values: Tensor) -> Tensor:
    return values.flatten(1).norm(dim=1)[:, None, None, None]
