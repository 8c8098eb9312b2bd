"""From a column of findings to labels: BI-RADS categories or words of pathology, by a rule that is stated."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from medsharp.birads import CATEGORIES, SUSPICION, category
from medsharp.errors import InputError, nearest
from medsharp.keys import name_key, says_nothing

OTHERS = "*"
"""As a class's only value: whatever is stated and in no other class's list.

Of BI-RADS that are the categories that judge the image: neither 0 and 6 (`NO_ASSESSMENT`) nor what is no category.
"""

_SHOWN = 12


@dataclass(frozen=True)
class LabelRule:
    """Which values of a column are which class; what is in no list is excluded, with that reason.

    Attributes:
        column: Of the table of labels or of the manifest, such as `birads` or `histology`.
        values: Class to its values. BI-RADS categories stand for themselves: `4` is not `4a`.

    Raises:
        InputError: No class has a value, a value stands under two classes, or is no BI-RADS category where it must be.
    """

    column: str
    values: Mapping[str, Sequence[str]]

    def __post_init__(self) -> None:
        if not any(self.values.values()):
            raise InputError(
                f"label from {self.column}: say which of its values are a class, such as --malignant 4b,4c,5"
            )
        seen: dict[str, str] = {}
        for label, values in self.values.items():
            for value in values:
                plain = value if value == OTHERS else self.plain(value)
                if self.is_birads and value != OTHERS and plain not in CATEGORIES:
                    raise InputError(
                        f"label from {self.column}: '{value}' is no BI-RADS category{nearest(value, CATEGORIES)}"
                    )
                if seen.setdefault(plain, label) != label:
                    raise InputError(f"label from {self.column}: '{value}' is given for {seen[plain]} and for {label}")

    @property
    def is_birads(self) -> bool:
        """Whether the column holds BI-RADS categories, by its name."""
        plain = re.sub(r"[^a-z]", "", self.column.casefold())
        return "birads" in plain or plain == "acr"

    def heading(self, names: Iterable[str]) -> str | None:
        """Return the heading that is meant, whatever its case and separators; None where none is.

        Raises:
            InputError: Several are, and none is written as the column of the rule is.
        """
        alike = [name for name in names if _letters(name) == _letters(self.column)]
        exact = [name for name in alike if name_key(name) == name_key(self.column)]
        if len(alike) > 1 and not exact:
            several = " or ".join(f"'{name}'" for name in alike)
            raise InputError(
                f"label from {self.column}: '{self.column}' may be the column {several}; write it as it stands there"
            )
        return next(iter(exact or alike), None)

    def plain(self, value: str) -> str:
        """Return a value as it is compared: `BI-RADS IVb` and `4B` as `4b`; of words, case and blanks do not count."""
        text = name_key(value)
        if not self.is_birads:
            return text
        return category(text) or text

    def label(self, value: str) -> tuple[str, str]:
        """Return the class of a value, or an empty text and the reason why it has none."""
        plain = self.plain(value)
        for label, values in self.values.items():
            if plain and any(plain == self.plain(one) for one in values if one != OTHERS):
                return label, ""
        if says_nothing(plain):
            return "", f"{self.column} is not stated"
        for label, values in self.values.items():
            if OTHERS in values and (not self.is_birads or plain in SUSPICION):
                return label, ""
        return "", f"{self.column} {plain} is of no class"

    def notes(self, values: Iterable[str]) -> list[str]:
        """Say what the rule made of a column, and which of its values never occur there."""
        counts = Counter(self.plain(value) for value in values)
        parts: dict[str, list[str]] = {}
        for plain, count in sorted(counts.items()):
            parts.setdefault(self.label(plain)[0] or "excluded", []).append(f"{plain or 'not stated'} ({count})")
        told = "; ".join(
            f"{label}: {', '.join(found[:_SHOWN])}{', ...' * (len(found) > _SHOWN)}" for label, found in parts.items()
        )
        sentences = [f"labels are made from {self.column}: {told}"]
        wanted = {self.plain(value): value for values in self.values.values() for value in values if value != OTHERS}
        sentences += [
            # No error: a category that a hospital never gave is well stated.
            f"label from {self.column}: no row has '{value}'"
            + nearest(value, set(counts) - {""}).replace("; choose from", "; they have")
            for plain, value in wanted.items()
            if plain not in counts
        ]
        return sentences


def kept_headings(wanted: Collection[str], headings: Iterable[str], table: str) -> list[str]:
    """Return the headings of columns that are to be kept, as they are written; case, blanks and dashes do not count.

    Args:
        wanted: As a person calls them.
        headings: Of the table, no two of which are one (`medsharp.tables` sees to that).
        table: What it is called in the sentence of an error.

    Raises:
        InputError: One is not there.
    """
    known = {name_key(name): name for name in headings}
    for name in wanted:
        if name_key(name) not in known:
            raise InputError(f"{table} has no column '{name}' to keep{nearest(name, known.values())}")
    return [known[name_key(name)] for name in wanted]


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
