"""docs/checks.md names every check, what follows of it, and the shares that limits are set for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from medsharp.bundle import default_bundle, read_bundle
from medsharp.export.checks import FALSE_ALARMS
from medsharp.inference.checks.answers import ANSWER_CHECKS
from medsharp.inference.checks.entry import Check
from medsharp.inference.checks.registry import IMAGE_CHECKS
from medsharp.inference.checks.statistics import NAMES

PAGE = (Path(__file__).parents[2] / "docs" / "checks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("check", [*IMAGE_CHECKS, *ANSWER_CHECKS], ids=lambda check: check.key)
def test_page_has_a_row_of_each_check(check: Check[Any, Any]) -> None:
    what_there_is = PAGE[: PAGE.index("## How often they speak")]
    (row,) = [
        line for line in what_there_is.splitlines() if line.startswith("| `") and f"`{check.key}`" in line.split("|")[1]
    ]
    assert {"refusal": "refused", "caution": "cautioned"}[check.outcome] == row.split("|")[2].strip()
    assert check.outcome == "caution" or check in IMAGE_CHECKS, "a network's answer is never refused"
    if check in ANSWER_CHECKS:
        assert f"{FALSE_ALARMS[check.key]:.0%}".replace("%", " %") in row


def test_page_has_the_limits_and_rates_of_the_shipped_bundle() -> None:
    spec = read_bundle(default_bundle(), verify=False)
    checks: list[Check[Any, Any]] = [*IMAGE_CHECKS, *ANSWER_CHECKS]
    assert spec.checks.keys() == {check.key for check in checks}
    for check in checks:
        one = spec.checks[check.key]
        side = "above" if check.above else "below"
        share = f"{100 * one.false_alarms:.1f} % of {one.images:,}"
        assert f"| `{check.key}` | {side} {one.limit:.4g} | {share} |" in PAGE
    found = spec.checks["no_lesion"]
    assert found.found is not None
    assert f"`no_lesion` marks {100 * found.found:.1f} % of {found.without} normal breasts" in PAGE


def test_page_says_how_many_statistics_there_are() -> None:
    assert re.search(rf"logistic regression on {len(NAMES)} statistics", PAGE)
