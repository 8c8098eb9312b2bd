"""docs/checks.md names every check, what follows of it, and the shares that limits are set for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

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


def test_page_says_how_many_statistics_there_are() -> None:
    assert re.search(rf"logistic regression on {len(NAMES)} statistics", PAGE)
