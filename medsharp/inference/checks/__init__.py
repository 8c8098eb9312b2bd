"""Checks of an image before it is answered: what deserves no answer is refused, what is doubtful is marked."""

from medsharp.inference.checks.finding import Finding, Outcome, Status

__all__ = ["Finding", "Outcome", "Status"]
