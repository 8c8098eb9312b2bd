"""What became of each row of a table of predictions, and what the input checks found: the columns, and the one rule.

The rule: a row that is excluded, failed or refused is not answered, whatever numbers it has, and no figure is of it
that does not say so. `medsharp predict --answer-anyway` writes numbers of refused images; they stay refused.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from medsharp.keys import name_key, text_of

STATUS, REASONS, CHECKS = "status", "reasons", "checks"
"""Columns of predictions: what became of the image; why, in sentences; and which checks found it, as `caution:dark`.

Several are divided by semicolons, refusals first. Tables of other tools may lack all three."""

REFUSAL, CAUTION = "refusal", "caution"
"""What follows of a finding: no answer, or one that is marked."""

ANSWERED, CAUTIONED, REFUSED, FAILED, EXCLUDED = "answered", "cautioned", "refused", "failed", "excluded"


class Found(NamedTuple):
    """What a check found in an image.

    Attributes:
        outcome: `refusal` or `caution`.
        check: Its key; its sentence, where the table names no checks.
        sentence: Why, for a person.
    """

    outcome: str
    check: str
    sentence: str


def fate_of(table: pd.DataFrame) -> pd.Series:
    """Return what became of each row: `excluded`, `failed`, `refused`, `cautioned` or `answered`, the first that holds.

    `exclude` and `error` say why, `status` what; any other status than those of a bundle counts as answered.
    """
    status = text_of(table, STATUS)
    status = status.map({text: name_key(text) for text in status.unique()})
    fates = np.select(
        [
            text_of(table, "exclude") != "",
            (text_of(table, "error") != "") | (status == FAILED),
            status == REFUSED,
            status == CAUTIONED,
        ],
        [EXCLUDED, FAILED, REFUSED, CAUTIONED],
        ANSWERED,
    )
    return pd.Series(fates, index=table.index, dtype=object)


def is_answered(table: pd.DataFrame) -> pd.Series:
    """Return of each row whether figures are of it: it is not excluded, and neither failed nor was refused."""
    return fate_of(table).isin((ANSWERED, CAUTIONED))


def findings_of(table: pd.DataFrame) -> list[list[Found]]:
    """Return what the checks found in each row; nothing in rows that are neither refused nor cautioned.

    Without a column `checks` each sentence stands for a check, and what refused an image refused it by all of them.
    """
    found = []
    for fate, reasons, checks in zip(fate_of(table), text_of(table, REASONS), text_of(table, CHECKS), strict=True):
        found.append(_found(fate, _parts(reasons), _parts(checks)) if fate in (REFUSED, CAUTIONED) else [])
    return found


def _found(fate: str, sentences: list[str], checks: list[str]) -> list[Found]:
    usual = REFUSAL if fate == REFUSED else CAUTION
    if not checks:
        return [Found(usual, sentence, sentence) for sentence in sentences] or [Found(usual, "no reason given", "")]
    # A sentence with a semicolon of its own cannot be laid to a check.
    said = sentences if len(sentences) == len(checks) else [""] * len(checks)
    found = []
    for check, sentence in zip(checks, said, strict=True):
        outcome, colon, name = check.partition(":")
        known = colon and outcome in (REFUSAL, CAUTION)
        found.append(Found(outcome, name, sentence) if known else Found(usual, check, sentence))
    return found


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()]
