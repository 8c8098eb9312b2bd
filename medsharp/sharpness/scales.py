"""How far each weight may move: as far as any other, in proportion to itself, or to the filter that it belongs to."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from medsharp.sharpness.lanczos import Product
from medsharp.sharpness.problem import Problem

Scale = Literal["plain", "adaptive", "filter"]
"""The diagonal T of a measure: 1 for every weight; `|w|`, element by element (J. Kwon et al., "ASAM", ICML 2021, eq.
3); or `||f|| / sqrt(n_f)` for each of the n_f weights of a filter f, so that a random direction has in each filter the
length that its weights have (after H. Li et al., NeurIPS 2018, section 4)."""

SCALES: tuple[Scale, ...] = get_args(Scale)


def weight_scale(problem: Problem, scale: Scale) -> Tensor:
    """Return the diagonal of T, [n], of at least 0.

    A filter is what makes one output of a layer: a row of a tensor of two dimensions or more. In tensors of one
    dimension (biases, norm layers) each weight is one by itself. A weight, or filter, of 0 does not move.

    With `plain`, a network's measures change when one layer is multiplied by a factor and the next divided by it, which
    changes nothing of the function if a ReLU stands between them (L. Dinh et al., "Sharp Minima Can Generalize for Deep
    Nets", ICML 2017). With the others they do not; with `filter` this holds for a factor common to a layer.
    """
    weights = problem.weights()
    if scale == "plain":
        return torch.ones_like(weights)
    if scale == "adaptive":
        return weights.abs()
    parts = [_filter_scale(part) for part in problem.split(weights).values()]
    return torch.cat([part.reshape(-1) for part in parts])


def scaled_product(problem: Problem, scale: Tensor) -> Product:
    """Return the product with `T H T`: the Hessian by `T^-1 w`, of which a radius means the same for every weight."""
    return lambda vector: scale * problem.product(scale * vector)


def _filter_scale(weight: Tensor) -> Tensor:
    if weight.ndim < 2:
        return weight.abs()
    rows = weight.flatten(1)  # [filters, n_f]
    size = rows.norm(dim=1, keepdim=True) / rows.shape[1] ** 0.5
    return size.expand_as(rows)
