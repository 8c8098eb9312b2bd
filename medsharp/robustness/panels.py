"""Small line charts over severity, as SVG that takes its colours from the page; a page has hundreds of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 240.0, 160.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 38.0, 8.0, 10.0, 24.0
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)

Series = tuple[str, Sequence[dict[str, Any]]]
"""A name, and the figure at severity 0 to 5."""


def limits_of(
    series: Sequence[Series], floor: float | None = None, ceiling: float | None = None
) -> tuple[float, float]:
    """Return the range of values and their limits, within `floor` and `ceiling`."""
    values = [
        part[key]
        for _, figures in series
        for part in figures
        for key in ("value", "low", "high")
        if part.get(key) is not None
    ] or [0.0, 1.0]
    low, high = min(values), max(values)
    if high - low < 0.02:
        low, high = low - 0.01, high + 0.01
    return (low if floor is None else max(low, floor)), (high if ceiling is None else min(high, ceiling))


def panel(title: str, series: Sequence[Series], limits: tuple[float, float], *, percent: bool = False) -> Markup:
    """Draw figures with their bands over severity; what has no value is left out.

    Args:
        title: For readers who cannot see it.
        series: A line each, at most five told apart by colour and dashes.
        limits: Of the vertical axis.
        percent: Write the axis in percent.
    """
    low, high = limits

    def x(place: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * place / 5

    def y(value: float) -> float:
        inside = min(max(value, low), high)
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - (inside - low) / (high - low))

    parts = []
    for tick in _ticks(low, high):
        text = f"{tick * 100:.0f} %" if percent else f"{tick:.2f}".replace("-", "\N{MINUS SIGN}")
        parts.append(f'<path class="grid" d="M{_LEFT:.0f} {y(tick):.1f}H{_WIDTH - _RIGHT:.0f}"/>')
        parts.append(f'<text x="{_LEFT - 5:.0f}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{text}</text>')
    for place in range(6):
        label = str(place) if place else "clean"
        parts.append(f'<text x="{x(place):.1f}" y="{_HEIGHT - 7:.0f}" text-anchor="middle">{label}</text>')
    for number, (_, figures) in enumerate(series):
        known = [(place, part) for place, part in enumerate(figures) if part.get("value") is not None]
        banded = [(place, part) for place, part in known if part.get("low") is not None]
        if len(banded) > 1:
            there = " ".join(f"{x(place):.1f},{y(part['high']):.1f}" for place, part in banded)
            back = " ".join(f"{x(place):.1f},{y(part['low']):.1f}" for place, part in reversed(banded))
            parts.append(f'<polygon class="band s{number % 5}" points="{there} {back}"/>')
        line = " ".join(f"{x(place):.1f},{y(part['value']):.1f}" for place, part in known)
        parts.append(f'<polyline class="line s{number % 5}" points="{line}"/>')
        parts += [
            f'<circle class="dot s{number % 5}" cx="{x(place):.1f}" cy="{y(part["value"]):.1f}" r="2.4"/>'
            for place, part in known
        ]
    body = "".join(parts)
    box = f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}"
    return Markup(f'<svg class="panel" viewBox="{box}" role="img" aria-label="{escape(title)}">{body}</svg>')


def _ticks(low: float, high: float) -> list[float]:
    step = next((step for step in _STEPS if (high - low) / step <= 4.5), (high - low) / 4)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 6) for number in range(first, math.floor(high / step + 1e-9) + 1)]
