"""BI-RADS categories as people write them, in the one order that readers mean by them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from medsharp.keys import name_key

CATEGORIES = ("0", "1", "2", "3", "4", "4a", "4b", "4c", "5", "6")
"""All assessment categories of the atlas."""

NO_ASSESSMENT = {"0": "incomplete", "6": "known by biopsy"}
"""Categories that are no judgement of the image: one asks for more images, the other knows what the biopsy said."""

SUSPICION = {"1": 1.0, "2": 2.0, "3": 3.0, "4a": 4.0, "4": 5.0, "4b": 5.0, "4c": 6.0, "5": 7.0}
"""Rank of each category by suspicion. A 4 without a letter stands in the middle of 4A to 4C, where 4B is."""

_MALIGNANT = re.compile(r"\b(malign|cancer|carcinoma)")
_DENIED = re.compile(r"\b(no|non|not|without)\b")
_HARMLESS = re.compile(r"benign\w*|normal|healthy|negative|no finding|cysts?|fibroadenomas?|0|no|false")

_ROMAN = {"i": "1", "ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6"}
_CATEGORY = re.compile(
    r"^(?:us)?(?:acr)?(?:birads?)?(?:us)?(?:category|cat\.?|kategorie|grade|score)?[:=]?([0-6]|iv|v?i{1,3}|v)([abc]?)$"
)


def category(text: str) -> str | None:
    """Return the category that a cell states, one of `CATEGORIES`; None where it states none.

    `BI-RADS IVb`, `ACR 4B` and `4b` are one, and so are `4` and `4.0`; a range such as `2-3` is none.
    """
    key = name_key(text)
    if key.startswith("-"):
        return None  # -1 is what some write where nothing is known
    # Of a range the dash stays.
    match = _CATEGORY.match(re.sub(r"[\s_\u00ae]|[.,]0$|(?<![0-9])-|-(?![0-9])", "", key))
    if match is None:
        return None
    found = _ROMAN.get(match[1], match[1]) + match[2]
    return found if found in CATEGORIES else None


def is_suspicious(label: str, classes: Iterable[str]) -> bool:
    """Whether readers mean this class by suspicion: the malignant one, or, where none is called so, no harmless one.

    Args:
        label: One of the classes.
        classes: All of them, such as `benign` and `malignant`.
    """
    malignant = {name for name in classes if _MALIGNANT.search(_words(name)) and not _DENIED.search(_words(name))}
    return label in malignant if malignant else not _HARMLESS.fullmatch(_words(label))


def _words(name: str) -> str:
    return re.sub(r"[_-]+", " ", name_key(name)).strip()
