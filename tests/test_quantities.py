"""How numbers, differences and p values are written, wherever they are."""

from __future__ import annotations

import pytest

from medsharp.quantities import counted, number, p_equals, p_value, signed

MINUS = "\N{MINUS SIGN}"


def test_one_is_never_written_as_many() -> None:
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert counted(1, "patient or group", "patients or groups") == "1 patient or group"
    assert counted(2, "patient or group", "patients or groups") == "2 patients or groups"


@pytest.mark.parametrize(
    ("value", "digits", "scale", "plain", "difference"),
    [
        (0.1234, 3, 1.0, "0.123", "+0.123"),
        (-0.1234, 1, 100.0, f"{MINUS}12.3", f"{MINUS}12.3"),
        (-0.0004, 3, 1.0, "0.000", "0.000"),
        (0.0004, 3, 1.0, "0.000", "0.000"),
        (0.0, 2, 1.0, "0.00", "0.00"),
    ],
)
def test_sign_is_that_of_what_is_shown(value: float, digits: int, scale: float, plain: str, difference: str) -> None:
    assert number(value, digits, scale) == plain
    assert signed(value, digits, scale) == difference


def test_small_p_value_is_a_bound_and_a_missing_one_a_dash() -> None:
    assert [p_value(p) for p in (None, 0.0, 0.00099, 0.001, 0.25)] == ["-", "< 0.001", "< 0.001", "0.001", "0.250"]
    assert [p_equals(p) for p in (0.0009, 0.25)] == ["p < 0.001", "p = 0.250"]
