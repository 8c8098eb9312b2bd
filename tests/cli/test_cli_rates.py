"""Rates that are shown: slow is not none."""

from __future__ import annotations

import pytest

from medsharp.progress import rate_text


@pytest.mark.parametrize(
    ("rate", "text"), [(12_340.4, "12,340"), (10.0, "10"), (9.94, "9.9"), (0.417, "0.42"), (0.0042, "0.0042"), (0, "0")]
)
def test_a_slow_rate_has_digits_and_none_is_zero_but_zero(rate: float, text: str) -> None:
    assert rate_text(rate) == text
