"""Steps that are not taken, because a loss or gradient is not finite."""

from __future__ import annotations


class NotFiniteError(ArithmeticError):
    """A loss or gradient of this step is not finite: the step is skipped, by all workers."""


class SkippedSteps:
    """Counts skipped steps, and raises when there are too many in a row.

    Args:
        limit: So many in a row; None for any number.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.count = 0
        self._in_a_row = 0

    def add(self) -> None:
        """Count a step that was skipped.

        Raises:
            FloatingPointError: It was one too many in a row.
        """
        self.count += 1
        self._in_a_row += 1
        if self.limit is not None and self._in_a_row >= self.limit:
            raise FloatingPointError(
                f"loss or gradient was not finite in {self._in_a_row} steps in a row; lower the learning rate or rho"
            )

    def end_of_row(self) -> None:
        """Begin the count of those in a row again: a step was taken."""
        self._in_a_row = 0
