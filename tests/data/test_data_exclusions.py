"""Reasons to leave an image out are counted by kind, whatever they name."""

from __future__ import annotations

import pandas as pd

from medsharp.data.exclusions import count_exclusions


def test_reasons_are_counted_without_the_files_they_name() -> None:
    reasons = [
        "",
        "unreadable: /data/Doe: old.png is empty",
        "unreadable: b.png is damaged",
        "unreadable: c of d.png",
        "exact duplicate of part of a.png",
        "contradictory duplicate of c.png (malignant)",
        "contradictory duplicate of d.png in BUSI",
        "duplicate of e.png in BUSI",
        "class not used: normal",
        "image of the axilla",
    ]
    assert count_exclusions(pd.Series(reasons)) == {
        "unreadable": 3,
        "contradictory duplicate": 2,
        "exact duplicate": 1,
        "duplicate": 1,
        "class not used: normal": 1,
        "image of the axilla": 1,
    }
