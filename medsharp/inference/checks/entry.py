"""What a check is: what it measures, where its limit lies, and what follows beyond it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from medsharp.inference.checks.finding import Finding, Outcome
from medsharp.inference.checks.picture import Picture

Looked = TypeVar("Looked")
Measured = TypeVar("Measured")


@dataclass(frozen=True)
class Check(Generic[Looked, Measured]):
    """One check.

    Attributes:
        key: Its name in `bundle.yaml` and in predictions.
        outcome: What follows beyond the limit.
        sentence: What a person is told then: a sentence without a full stop.
        about: What it looks for and how, for the documentation.
        measure: Gives the value of what is looked at.
        limit: Where a bundle has none of its own; None where only a bundle has one.
        above: Whether values above the limit are found; below it otherwise.
        fitted: Whether a bundle has a limit of its own, of its own images.
        advice: What to do about a refusal: a sentence without a full stop; a refusing check has one.
    """

    key: str
    outcome: Outcome
    sentence: str
    about: str
    measure: Callable[[Looked], Measured]
    limit: float | None
    above: bool = True
    fitted: bool = False
    advice: str = ""

    def found(self, value: float, limit: float) -> Finding | None:
        """Return what is found at a value, None where it is within the limit."""
        beyond = value > limit if self.above else value < limit
        return Finding(self.key, self.outcome, self.sentence, value, limit, self.advice) if beyond else None


ImageCheck = Check[Picture, float]
"""Measures one picture."""
