"""Arithmetic on lists of tensors: right for large tensors, whatever their layout, and precise in float32."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medsharp.optim.arithmetic import PART, add_each, norm, parts, total_norm

LARGE = (PART // 9 + 50, 3, 3, 2)
"""More than two parts, and not a whole number of them."""


def numbers(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(LARGE, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("power", [1, 8])
def test_norm_of_millions_of_float32_is_precise(power: int) -> None:
    values = torch.rand(4_000_000, generator=torch.Generator().manual_seed(0)).pow_(power)
    exact = float(torch.linalg.vector_norm(values.double()))
    assert float(norm(values)) == pytest.approx(exact, rel=2e-5)
    assert float(total_norm([values, torch.ones(3)])) == pytest.approx((exact**2 + 3) ** 0.5, rel=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_norm_is_that_of_all_numbers_in_any_layout(dtype: torch.dtype) -> None:
    values = numbers(0, dtype)
    expected = float(torch.linalg.vector_norm(values.double()))
    for layout in (values, values.to(memory_format=torch.channels_last), values.transpose(0, 1), values[::2]):
        size = float(torch.linalg.vector_norm(layout.double()))
        assert float(norm(layout)) == pytest.approx(size, rel=1e-5)
        assert norm(layout).dtype is torch.promote_types(dtype, torch.float32)
    assert float(total_norm([values, values])) == pytest.approx(2**0.5 * expected, rel=1e-5)


@pytest.mark.parametrize("size", [3, PART + 3])
@pytest.mark.parametrize("dtypes", [(torch.bfloat16, torch.float64), (torch.float32, torch.float64, torch.bfloat16)])
def test_norm_over_several_precisions_is_in_the_widest(dtypes: tuple[torch.dtype, ...], size: int) -> None:
    for order in (dtypes, dtypes[::-1]):
        found = total_norm([torch.ones(size, dtype=dtype) for dtype in order])
        assert found.dtype is torch.float64
        assert float(found) == pytest.approx((len(dtypes) * size) ** 0.5, rel=1e-7)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_norm_of_what_is_not_finite_is_not_finite(bad: float) -> None:
    values = numbers(0, torch.float32)
    values.view(-1)[-1] = bad
    assert not torch.isfinite(total_norm([torch.ones(2), values]))


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.7])
@pytest.mark.parametrize("weight", [0.3, -2.0])
def test_sums_of_large_tensors_are_those_of_whole_ones(scale: float, weight: float) -> None:
    one, other = numbers(0), numbers(1)
    expected = scale * one + weight * other
    layouts = [one.clone(), one.to(memory_format=torch.channels_last), one.clone()]
    others = [other, other.to(memory_format=torch.channels_last), other.to(memory_format=torch.channels_last)]
    add_each(layouts, others, weight, scale)
    for target in layouts:
        torch.testing.assert_close(target, expected, rtol=0, atol=1e-14)


def test_parts_share_the_memory_of_tensors_that_lie_alike() -> None:
    one, other = numbers(0), numbers(1)
    for layout in (torch.contiguous_format, torch.channels_last):
        first, second = one.clone(memory_format=layout), other.clone(memory_format=layout)
        pieces = list(parts(first, second))
        assert [len(piece) for piece, _ in pieces] == [PART, PART, one.numel() - 2 * PART]
        for piece, addend in pieces:
            piece.add_(addend)
        torch.testing.assert_close(first, one + other, rtol=0, atol=0)


def test_tensors_that_lie_differently_or_have_gaps_are_one_part() -> None:
    one, other = numbers(0), numbers(1).to(memory_format=torch.channels_last)
    assert len(list(parts(one, other))) == 1
    gaps = torch.zeros(2 * PART, 2)[:, 0]
    ((piece, _),) = parts(gaps, gaps)
    assert piece is gaps
