"""Arithmetic on lists of tensors: few kernels on an accelerator, part by part while it is in the cache on a CPU."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

PART = 65_536
"""Numbers that are worked on at a time: with what is made of them, they stay in the cache of a core."""


def total_norm(tensors: Iterable[Tensor]) -> Tensor:
    """Return the Euclidean norm of all tensors together, a scalar in at least float32; 0 for none."""
    tensors = list(tensors)
    if not tensors:
        return torch.zeros(())
    precision = _precise(*{tensor.dtype for tensor in tensors})
    if _together(tensors):
        return norm_of_norms(list(torch._foreach_norm(tensors, 2, dtype=precision)))
    small = [tensor for tensor in tensors if tensor.numel() <= PART]
    norms = list(torch._foreach_norm(small, 2, dtype=precision)) if small else []
    return norm_of_norms(norms + [norm(tensor) for tensor in tensors if tensor.numel() > PART])


def norm_of_norms(norms: list[Tensor]) -> Tensor:
    """Return the Euclidean norm of what has these norms; they may lie on several devices."""
    return torch.linalg.vector_norm(_stacked(norms))


def norm(tensor: Tensor) -> Tensor:
    """Return the Euclidean norm of a tensor, in at least float32."""
    if tensor.numel() > PART and tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64):
        flat = _in_memory_order(tensor)
        if flat is not None:
            # vector_norm adds up millions of float32 with an error of 1e-4; a dot product does better, and is faster.
            return torch.dot(flat, flat).sqrt_()
    return torch.linalg.vector_norm(tensor, dtype=_precise(tensor.dtype))


def inner(ones: list[Tensor], others: list[Tensor]) -> float:
    """Return the inner product of two lists of tensors, computed in at least float32."""
    return _sum([_dot(one, other) for one, other in zip(ones, others, strict=True)])


def norm_and_inner(ones: list[Tensor], others: list[Tensor]) -> tuple[Tensor, float]:
    """Return the norm of `ones` and its inner product with `others`, as `total_norm` and `inner` do by themselves."""
    if not ones or _together(ones):
        return total_norm(ones), inner(ones, others)
    # Tensor by tensor, so that the second finds in the cache what the first has read.
    pairs = [(norm(one), _dot(one, other)) for one, other in zip(ones, others, strict=True)]
    return norm_of_norms([size for size, _ in pairs]), _sum([product for _, product in pairs])


def clip_factor(size: float, limit: float) -> float:
    """Return what to multiply a gradient of this norm with to bring it to the limit, as `clip_grad_norm_` does."""
    return min(1.0, limit / (size + 1e-6))


def copy_each(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Copy the sources into the targets."""
    if _together(targets) and len({target.data_ptr() for target in targets}) == len(targets):
        torch._foreach_copy_(targets, sources)
        return
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)  # in their order, which matters where some share memory


def move_each(params: list[Tensor], backups: list[Tensor], directions: list[Tensor], step: float) -> None:
    """`backup <- w`, then `w <- w + step * direction`."""
    if _together(params):
        torch._foreach_copy_(backups, params)
        torch._foreach_add_(params, directions, alpha=step)
        return
    for parameter, backup, direction in zip(params, backups, directions, strict=True):
        backup.copy_(parameter)
        parameter.add_(direction, alpha=step)


def add_each(targets: list[Tensor], others: list[Tensor], weight: float, scale: float = 1.0) -> None:
    """`target <- scale * target + weight * other`."""
    # Multiply and add are two trips through memory; where the weights add up to one, interpolation is one.
    interpolates = scale != 1.0 and math.isclose(scale + weight, 1.0, rel_tol=1e-15)
    if _together(targets):
        if interpolates:
            torch._foreach_lerp_(targets, others, weight)
            return
        if scale != 1.0:
            torch._foreach_mul_(targets, scale)
        torch._foreach_add_(targets, others, alpha=weight)
        return
    for target, other in zip(targets, others, strict=True):
        if interpolates:
            target.lerp_(other, weight)
            continue
        if scale == 1.0:
            target.add_(other, alpha=weight)
            continue
        for part, addend in parts(target, other):
            part.mul_(scale).add_(addend, alpha=weight)


def parts(one: Tensor, other: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Give two tensors of one shape part by part, so that what is done to a part in several steps stays in the cache.

    Tensors on an accelerator, or that do not lie in memory in the same order, are one part.
    """
    alike = one.stride() == other.stride() or (one.is_contiguous() and other.is_contiguous())
    if one.device.type == "cpu" and one.numel() > PART and alike:
        first, second = _in_memory_order(one), _in_memory_order(other)
        if first is not None and second is not None:
            yield from zip(first.split(PART), second.split(PART), strict=True)
            return
    yield one, other


def scale_each(targets: list[Tensor], factor: float) -> None:
    """`target <- factor * target`."""
    if targets and factor != 1.0:
        torch._foreach_mul_(targets, factor)


def owns_memory(tensor: Tensor) -> bool:
    """Whether nothing else uses the tensor's memory: not a view of a flat buffer or bucket, though it be all of it."""
    return not tensor._is_view() and tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def _in_memory_order(tensor: Tensor) -> Tensor | None:
    """Return the numbers as they lie in memory, one dimension that shares it; None where they have gaps or repeat."""
    if tensor.is_contiguous():
        return tensor.view(-1)
    if tensor.layout is torch.strided and torch.ops.aten.is_non_overlapping_and_dense(tensor):
        return tensor.as_strided((tensor.numel(),), (1,))
    return None


def _together(tensors: list[Tensor]) -> bool:
    return bool(tensors) and tensors[0].device.type != "cpu"


def _dot(one: Tensor, other: Tensor) -> Tensor:
    precision = _precise(one.dtype)
    return torch.dot(one.reshape(-1).to(precision), other.reshape(-1).to(precision))


def _sum(numbers: list[Tensor]) -> float:
    return float(_stacked(numbers).sum()) if numbers else 0.0


def _stacked(numbers: list[Tensor]) -> Tensor:
    precision = _precise(*{number.dtype for number in numbers})
    return torch.stack([number.to(numbers[0].device, precision) for number in numbers])


def _precise(*dtypes: torch.dtype) -> torch.dtype:
    return functools.reduce(torch.promote_types, dtypes, torch.float32)
