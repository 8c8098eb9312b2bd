"""Arithmetic on lists of tensors: few kernels on an accelerator, part by part while it is in the cache on a CPU."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

PART = 65_536
"""Numbers that are worked on at a time: with what is made of them, they stay in the cache of a core."""

BLOCK = 1024
"""Numbers whose squares are added up in float32: the error of their norm is below 3e-7, however the CPU adds."""

_SMALLEST_TRUSTED = 1e-12
"""Of a norm below it, squares may have vanished: those of numbers below 1e-19 do, in float32."""


def total_norm(tensors: Iterable[Tensor]) -> Tensor:
    """Return the Euclidean norm of all tensors together, a scalar as of `norm`; 0 for none."""
    tensors = list(tensors)
    if not tensors:
        return torch.zeros((), dtype=torch.float64)
    if _together(tensors):
        return norm_of_norms(list(torch._foreach_norm(tensors, 2, dtype=_widest(tensors[0].device))))
    small = [tensor for tensor in tensors if tensor.numel() <= BLOCK]
    precision = _precise(*{tensor.dtype for tensor in small})
    norms = list(torch._foreach_norm(small, 2, dtype=precision)) if small else []
    for tensor in tensors:
        if tensor.numel() > BLOCK:
            norms += block_norms(tensor)
    return _trusted(norm_of_norms(norms), tensors)


def norm(tensor: Tensor) -> Tensor:
    """Return the Euclidean norm of a tensor, in float64 (float32 on devices without it), right to 1e-6.

    `torch.linalg.vector_norm` adds up millions of float32 squares with an error of 1e-4, the dot product of some BLAS
    with one of 3e-5. Here the norms of blocks are computed in float32, and those of all blocks are added up in float64,
    which takes no more time than either, as it reads the tensor once. Where squares may have left the range of float32,
    it is computed once more, of the tensor divided by its largest number.
    """
    size = norm_of_norms(block_norms(tensor))
    return _trusted(size, [tensor]) if tensor.device.type == "cpu" else size


def block_norms(tensor: Tensor) -> list[Tensor]:
    """Return the norms of blocks of a tensor, and of what is left over, as scalars or vectors for `norm_of_norms`."""
    if tensor.device.type != "cpu":
        return [torch.linalg.vector_norm(tensor, dtype=_widest(tensor.device))]
    precision = _precise(tensor.dtype)
    if tensor.numel() <= BLOCK or precision is not torch.float32:
        return [torch.linalg.vector_norm(tensor, dtype=precision)]
    flat = _in_memory_order(tensor)
    flat = tensor.reshape(-1) if flat is None else flat
    left = flat.numel() % BLOCK
    whole = flat[: flat.numel() - left] if left else flat
    blocks = torch.linalg.vector_norm(whole.view(-1, BLOCK), dim=1, dtype=precision)  # [n / BLOCK]
    return [blocks, torch.linalg.vector_norm(flat[-left:], dtype=precision)] if left else [blocks]


def norm_of_norms(norms: list[Tensor]) -> Tensor:
    """Return the Euclidean norm of what has these norms, scalars or vectors; they may lie on several devices."""
    return torch.linalg.vector_norm(_joined(norms))


def inner(ones: list[Tensor], others: list[Tensor]) -> float:
    """Return the inner product of two lists of tensors: that of the BLAS for parts, added up in float64."""
    return _sum_of([product for pair in zip(ones, others, strict=True) for product in _products(*pair)], ones, others)


def norm_and_inner(ones: list[Tensor], others: list[Tensor]) -> tuple[Tensor, float]:
    """Return the norm of `ones` and its inner product with `others`, as `total_norm` and `inner` do by themselves."""
    if not ones or _together(ones):
        return total_norm(ones), inner(ones, others)
    norms: list[Tensor] = []
    products: list[Tensor] = []
    for one, other in zip(ones, others, strict=True):
        # Tensor by tensor, so that the second finds in the cache what the first has read.
        norms += block_norms(one)
        products += _products(one, other)
    return _trusted(norm_of_norms(norms), ones), _sum_of(products, ones, others)


def kth_smallest(numbers: Tensor, k: int) -> Tensor:
    """Return the k-th smallest number of a tensor, a scalar; `k` counts from 1. NaN is larger than any number.

    As `kthvalue` of all of it, which takes some 40 times as long as a norm; of large ones a sample tells which numbers
    are too small to look at.
    """
    flat = numbers.reshape(-1)
    if flat.numel() > PART:
        sample = flat[:: flat.numel() // 4096]
        share = (k - 1) / flat.numel() - 4 * math.sqrt(0.25 / sample.numel())
        if share > 0:
            left = flat[~(flat < sample.kthvalue(1 + int(share * (sample.numel() - 1))).values)]  # with NaN
            k_left = k - (flat.numel() - left.numel())
            if k_left > 0:
                return left.kthvalue(k_left).values
    return flat.kthvalue(k).values


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


def move_each(
    params: list[Tensor], backups: list[Tensor], directions: list[Tensor], step: float, moved: dict[Tensor, Tensor]
) -> None:
    """`backup <- w`, then `w <- w + step * direction`.

    Args:
        params: `w`.
        backups: Memory for a copy of each.
        directions: Of each.
        step: What they are multiplied with.
        moved: Gets the backup of each parameter once it holds the weights, and before they move: whenever this is
            interrupted, what it names can be brought back, and the others have not moved.
    """
    if _together(params):
        torch._foreach_copy_(backups, params)
        moved.update(zip(params, backups, strict=True))
        torch._foreach_add_(params, directions, alpha=step)
        return
    for parameter, backup, direction in zip(params, backups, directions, strict=True):
        backup.copy_(parameter)
        moved[parameter] = backup
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


def _trusted(size: Tensor, tensors: list[Tensor]) -> Tensor:
    """Return a norm that was computed from squares, or compute it without them where they may have left their range."""
    if _SMALLEST_TRUSTED < float(size) < float("inf"):
        return size
    filled = [tensor.detach() for tensor in tensors if tensor.numel()]
    norms = [torch.linalg.vector_norm(tensor, math.inf).double() for tensor in filled]
    largest = torch.stack(norms).max() if norms else size
    if not 0 < float(largest) < float("inf"):  # zero, infinite, or not a number
        return largest
    parts_of = (part.double() / largest for tensor in filled for part in tensor.reshape(-1).split(PART))
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(part) for part in parts_of])) * largest


def _products(one: Tensor, other: Tensor) -> list[Tensor]:
    """Return the inner products of parts of two tensors."""
    precision = _precise(one.dtype, other.dtype)
    first, second = one.reshape(-1).to(precision), other.reshape(-1).to(precision)
    if one.device.type != "cpu" or first.numel() <= 4 * PART:
        return [torch.dot(first, second)]
    return [torch.dot(part, factor) for part, factor in zip(first.split(4 * PART), second.split(4 * PART), strict=True)]


def _sum_of(products: list[Tensor], ones: list[Tensor], others: list[Tensor]) -> float:
    total = float(_joined(products).sum()) if products else 0.0
    if math.isfinite(total) or any(tensor.device.type != "cpu" for tensor in ones):
        return total
    # Products of what is finite may overflow in float32; those of what is not, do in float64 as well.
    doubles = ((one.reshape(-1).double(), other.reshape(-1).double()) for one, other in zip(ones, others, strict=True))
    return float(torch.stack([torch.dot(*pair) for pair in doubles]).sum())


def _joined(numbers: list[Tensor]) -> Tensor:
    """Return scalars and vectors as one vector, in the widest precision of the first's device."""
    device = numbers[0].device
    # Stacked and joined as they are, and converted together: of hundreds, each conversion would cost.
    kinds: dict[tuple[torch.device, torch.dtype], tuple[list[Tensor], list[Tensor]]] = {}
    for number in numbers:
        kinds.setdefault((number.device, number.dtype), ([], []))[number.ndim].append(number)
    vectors = [
        vector.to(device, _widest(device))
        for scalars, parts_ in kinds.values()
        for vector in ([torch.stack(scalars)] if scalars else []) + ([torch.cat(parts_)] if parts_ else [])
    ]
    return torch.cat(vectors) if len(vectors) > 1 else vectors[0]


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _precise(*dtypes: torch.dtype) -> torch.dtype:
    return functools.reduce(torch.promote_types, dtypes, torch.float32)
