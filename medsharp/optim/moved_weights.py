"""Weights that are elsewhere for a pass, and come back bit for bit."""

from __future__ import annotations

from types import TracebackType

import torch
from torch import Tensor

from medsharp.optim.arithmetic import copy_each, move_each

Move = tuple[list[Tensor], list[Tensor], float]
"""Parameters, a direction for each, and what the directions are multiplied with."""


class MovedWeights:
    """Keeps a copy of weights that were moved, in memory that is reserved once.

    They are restored by copying, because `w + e - e` is not `w` in floating point; the storage of a parameter stays.
    """

    def __init__(self) -> None:
        self._backup: dict[Tensor, Tensor] = {}
        self._moved: dict[Tensor, Tensor] = {}

    # No generator: one that an interrupt leaves unfinished would bring the weights back when it is collected, perhaps
    # within a later step.
    def away(self) -> MovedWeights:
        """Let the weights move inside; bring them back exactly, whatever happens there."""
        return self

    def __enter__(self) -> None:
        """Begin where the weights are."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Bring them back."""
        self.come_back()

    def come_back(self) -> None:
        """Bring the weights back to where they were, and forget that they moved; nothing if they have not."""
        if not self._moved:
            return
        try:
            self.bring_back()
        except BaseException:
            self.bring_back()  # an interrupt in the midst of it
            self._moved = {}
            raise
        self._moved = {}

    def climb(self, moves: list[Move]) -> None:
        """Move the weights by `factor * direction` from where they are; only inside `away`."""
        _forget_converted()
        for params, directions, step in moves:
            moved = [p in self._moved for p in params]
            fresh = [p for p, known in zip(params, moved, strict=True) if not known]
            backups = [self._buffer(p) for p in fresh]
            new = [d for d, known in zip(directions, moved, strict=True) if not known]
            move_each(fresh, backups, new, step, self._moved)
            for parameter, direction, known in zip(params, directions, moved, strict=True):
                if known:
                    parameter.add_(direction, alpha=step)

    def climb_from_start(self, moves: list[Move]) -> None:
        """Move the weights to `factor * direction` from where they were before any move."""
        _forget_converted()
        for params, directions, step in moves:
            for parameter, direction in zip(params, directions, strict=True):
                if parameter in self._moved:
                    torch.add(self._moved[parameter], direction, alpha=step, out=parameter)
                else:
                    self.climb([([parameter], [direction], step)])
        stay = set(self._moved).difference(p for params, _, _ in moves for p in params)
        copy_each(list(stay), [self._moved[p] for p in stay])

    def bring_back(self) -> None:
        """Bring the weights back to where they were before any move, and stay inside `away`."""
        _forget_converted()
        # The last first: of two parameters in one memory, the second was backed up when the first had moved.
        copy_each(list(self._moved)[::-1], list(self._moved.values())[::-1])

    def _buffer(self, parameter: Tensor) -> Tensor:
        """Return memory like the parameter's, made once; free until the parameter moves."""
        buffer = self._backup.get(parameter)
        if buffer is None or buffer.device != parameter.device or buffer.dtype != parameter.dtype:
            buffer = torch.empty_like(parameter, memory_format=torch.preserve_format)
            self._backup[parameter] = buffer
        return buffer

    def __getstate__(self) -> dict[str, object]:
        return {"_backup": {}, "_moved": {}}


def _forget_converted() -> None:
    # While autocast lasts, weights that it has converted are not converted again, though they have moved.
    torch.clear_autocast_cache()
