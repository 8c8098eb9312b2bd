"""Gradients of parameters from one pass to the next: taken out of `.grad`, put back, and brought together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from medsharp.optim.arithmetic import owns_memory

Gradients = dict[Tensor, Tensor]
"""A gradient for each parameter that has one."""


def present_gradients(params: Iterable[Tensor]) -> Gradients:
    """Return the gradients in `.grad`, which the next pass overwrites."""
    return {p: p.grad for p in params if p.grad is not None}


def taken_gradients(params: Iterable[Tensor]) -> Gradients:
    """Return the gradients in `.grad`, to be kept over the next pass.

    A gradient is taken out of `.grad`, which costs nothing; one that is a view, of a flat buffer or of a bucket of
    `DistributedDataParallel`, is copied and stays where it is.
    """
    taken = {}
    for parameter, gradient in present_gradients(params).items():
        if owns_memory(gradient):
            taken[parameter] = gradient
            parameter.grad = None
        else:
            taken[parameter] = gradient.clone()
    return taken


def put_gradients(gradients: Gradients) -> None:
    """Put these into `.grad`."""
    for parameter, gradient in gradients.items():
        if parameter.grad is None:
            parameter.grad = gradient
        elif parameter.grad is not gradient:
            parameter.grad.copy_(gradient)


def paired_gradients(params: Iterable[Tensor], *kept: Gradients) -> Gradients:
    """Bring kept gradients and those in `.grad` to the same parameters; return the latter.

    A block that stochastic depth dropped in one pass has the gradient zero there.
    """
    present = present_gradients(params)
    seen = dict.fromkeys(parameter for gradients in (*kept, present) for parameter in gradients)
    for parameter in seen:
        if parameter not in present:
            parameter.grad = torch.zeros_like(parameter)
            present[parameter] = parameter.grad
        for gradients in kept:
            if parameter not in gradients:
                gradients[parameter] = torch.zeros_like(parameter)
    return {parameter: present[parameter] for parameter in seen}


def by_group(
    groups: list[dict[str, Any]], gradients: Gradients
) -> Iterator[tuple[dict[str, Any], list[Tensor], list[Tensor]]]:
    """Give each parameter group with those of its parameters that have a gradient, and these gradients."""
    for group in groups:
        params = [p for p in group["params"] if p in gradients]
        if params:
            yield group, params, [gradients[p] for p in params]
