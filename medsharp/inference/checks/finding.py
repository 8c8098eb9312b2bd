"""What a check found in an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["caution", "refusal"]
"""What follows of a finding: the answer is marked, or there is none."""

Status = Literal["answered", "cautioned", "refused", "failed"]
"""What became of an image: it was answered, answered with a caution, refused by a check, or could not be read."""


@dataclass(frozen=True)
class Finding:
    """What a check found in an image.

    Attributes:
        check: The check's key in the registry.
        outcome: What follows.
        sentence: Why, for a person: a sentence without a full stop.
        value: What was measured.
        limit: What it may be.
        advice: What to do, as a sentence without a full stop; empty where the image is answered all the same.
    """

    check: str
    outcome: Outcome
    sentence: str
    value: float
    limit: float
    advice: str = ""
