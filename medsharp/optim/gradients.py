"""Gradients of parameters from one pass to the next: taken out of `.grad`, put back, and brought together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from medsharp.optim.arithmetic import owns_memory
from medsharp.optim.shards import divided_like, is_sharded, shard

Gradients = dict[Tensor, Tensor]
"""A gradient for each parameter that has one; of one that is sharded, this process's parts of both."""


def present_gradients(params: Iterable[Tensor]) -> Gradients:
    """Return the gradients in `.grad`, which the next pass overwrites."""
    return {shard(p): shard(p.grad) for p in params if p.grad is not None}


def taken_gradients(params: Iterable[Tensor]) -> Gradients:
    """Return the gradients in `.grad`, to be kept over the next pass.

    A gradient is taken out of `.grad`, which costs nothing; one that is a view, of a flat buffer or of a bucket of
    `DistributedDataParallel`, is copied and stays where it is.
    """
    taken = {}
    for parameter in params:
        if parameter.grad is None:
            continue
        gradient = shard(parameter.grad)
        # A sharded one is a view of what the backward pass has scattered, which no other pass uses.
        if is_sharded(parameter) or owns_memory(gradient):
            taken[shard(parameter)] = gradient
            parameter.grad = None
        else:
            taken[shard(parameter)] = gradient.clone()
    return taken


def put_gradients(params: Iterable[Tensor], gradients: Gradients) -> None:
    """Put these into `.grad` of the parameters that they are of."""
    for parameter in params:
        gradient = gradients.get(shard(parameter))
        if gradient is None:
            continue
        if parameter.grad is None:
            parameter.grad = divided_like(parameter, gradient)
        elif shard(parameter.grad) is not gradient:
            shard(parameter.grad).copy_(gradient)


def paired_gradients(params: Iterable[Tensor], *kept: Gradients) -> Gradients:
    """Bring kept gradients and those in `.grad` to the same parameters; return the latter.

    A block that stochastic depth dropped in one pass has the gradient zero there.
    """
    whole = {shard(parameter): parameter for parameter in params}
    present = present_gradients(whole.values())
    seen = dict.fromkeys(parameter for gradients in (*kept, present) for parameter in gradients)
    for parameter in seen:
        if parameter not in present:
            present[parameter] = torch.zeros_like(parameter)
            whole[parameter].grad = divided_like(whole[parameter], present[parameter])
        for gradients in kept:
            if parameter not in gradients:
                gradients[parameter] = torch.zeros_like(parameter)
    return {parameter: present[parameter] for parameter in seen}


def by_group(
    groups: list[dict[str, Any]], gradients: Gradients
) -> Iterator[tuple[dict[str, Any], list[Tensor], list[Tensor]]]:
    """Give each parameter group with those of its parameters that have a gradient, and these gradients."""
    for group in groups:
        params = [p for p in map(shard, group["params"]) if p in gradients]
        if params:
            yield group, params, [gradients[p] for p in params]
