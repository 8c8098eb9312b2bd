"""Arithmetic on lists of tensors: right for large tensors, whatever their layout, and precise in float32."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medsharp.optim.arithmetic import BLOCK, PART, add_each, inner, norm, norm_and_inner, parts, total_norm

LARGE = (PART // 9 + 50, 3, 3, 2)
"""More than two parts, and not a whole number of them."""


def numbers(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(LARGE, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("power", [0.1, 1, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_norm_of_millions_of_numbers_is_precise(dtype: torch.dtype, power: float) -> None:
    values = torch.rand(4_000_000, generator=torch.Generator().manual_seed(0)).pow_(power).to(dtype)
    exact = float(torch.linalg.vector_norm(values.double()))
    assert float(norm(values)) == pytest.approx(exact, rel=1e-6)
    assert float(total_norm([values, torch.ones(3)])) == pytest.approx((exact**2 + 3) ** 0.5, rel=1e-6)


@pytest.mark.parametrize("size", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7, PART + 3])
def test_norm_of_any_number_of_float32_is_precise(size: int) -> None:
    for seed in range(5):
        values = torch.rand(size, generator=torch.Generator().manual_seed(seed)).pow_(4)
        exact = float(torch.linalg.vector_norm(values.double()))
        assert float(norm(values)) == pytest.approx(exact, rel=1e-6)
        assert float(total_norm([values])) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_norm_is_that_of_all_numbers_in_any_layout(dtype: torch.dtype) -> None:
    values = numbers(0, dtype)
    expected = float(torch.linalg.vector_norm(values.double()))
    whole = torch.zeros((), dtype=dtype).expand(5000, 7)
    for layout in (values, values.to(memory_format=torch.channels_last), values.transpose(0, 1), values[::2], whole):
        size = float(torch.linalg.vector_norm(layout.double()))
        assert float(norm(layout)) == pytest.approx(size, rel=1e-6)
        assert norm(layout).dtype is torch.float64
    assert float(total_norm([values, values])) == pytest.approx(2**0.5 * expected, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_norm_of_nothing_is_zero(dtype: torch.dtype) -> None:
    empty = torch.zeros(0, 3, dtype=dtype)
    assert float(norm(empty)) == float(total_norm([])) == float(total_norm([empty])) == 0.0
    assert float(total_norm([empty, torch.full((4,), 2.0, dtype=dtype)])) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (torch.float32, 1e30),
        (torch.bfloat16, 1e30),
        (torch.float64, 1e200),
        (torch.float32, 1e-30),
        (torch.float64, 1e-200),
    ],
)
@pytest.mark.parametrize("size", [4, 3 * PART])
def test_squares_may_leave_the_range_of_the_numbers(dtype: torch.dtype, value: float, size: int) -> None:
    values = torch.full((size,), value, dtype=dtype)
    expected = float(values[0]) * size**0.5
    assert float(norm(values)) == pytest.approx(expected, rel=1e-6)
    assert float(total_norm([values, torch.zeros(2), values])) == pytest.approx(expected * 2**0.5, rel=1e-6)


def test_the_norm_of_the_largest_numbers_is_larger_than_they_are() -> None:
    largest = torch.full((4,), torch.finfo(torch.float32).max)
    assert float(norm(largest)) == pytest.approx(2 * float(largest[0]))


@pytest.mark.parametrize("size", [5, 9 * PART + 3])
def test_inner_products_are_precise_and_their_products_may_leave_the_range(size: int) -> None:
    one, other = (torch.rand(size, generator=torch.Generator().manual_seed(seed)).pow_(8) for seed in (0, 1))
    for factor in (1.0, 1e25):
        exact = float(torch.dot(one.double() * factor, other.double() * factor))
        both = [one * factor], [other * factor]
        assert inner(*both) == pytest.approx(exact, rel=1e-5)
        size_, product = norm_and_inner(*both)
        assert product == pytest.approx(exact, rel=1e-5)
        assert float(size_) == pytest.approx(float(norm(one)) * factor, rel=1e-5)


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
