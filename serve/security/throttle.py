"""Bounded memory of whom to let wait, after how many failed attempts, and of what was right a short while ago."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable


class Throttle:
    """Counts attempts by whom they are of: so many at once, and then one each so many seconds.

    Args:
        most: Attempts that may be made at once.
        seconds: After how long one more may be made.
        clock: Tells the time in seconds.
        remembered: How many are told apart; of more, the one whose last attempt is longest ago is forgotten.
    """

    def __init__(self, most: int, seconds: float, clock: Callable[[], float], remembered: int = 4096) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._remembered = remembered
        self._spent: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, who: Hashable) -> float:
        """Return the seconds until `who` may make an attempt; 0 for now."""
        with self._lock:
            return max(0.0, (self._now(who) - self._most + 1) * self._seconds)

    def take(self, who: Hashable) -> None:
        """Count an attempt."""
        self._count(who, 1.0)

    def give_back(self, who: Hashable) -> None:
        """Count an attempt out, since it did not fail."""
        self._count(who, -1.0)

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._spent)

    def _count(self, who: Hashable, change: float) -> None:
        with self._lock:
            spent = max(0.0, self._now(who) + change)
            self._spent.pop(who, None)
            if spent > 0:
                self._spent[who] = (spent, self._clock())
                while len(self._spent) > self._remembered:
                    self._spent.popitem(last=False)

    def _now(self, who: Hashable) -> float:
        spent, when = self._spent.get(who, (0.0, 0.0))
        return max(0.0, spent - (self._clock() - when) / self._seconds) if spent else 0.0


class Remembered:
    """A set whose members leave it after a time, or when there are too many.

    Args:
        most: Members at once; of more, the one that was added longest ago leaves.
        clock: Tells the time in seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._until: OrderedDict[Hashable, float] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, member: Hashable) -> bool:
        """Whether it was added, and its time is not up."""
        with self._lock:
            return self._until.get(member, -math.inf) > self._clock()

    def __len__(self) -> int:
        """How many take up memory."""
        return len(self._until)

    def add(self, member: Hashable, seconds: float) -> None:
        """Add a member for so many seconds from now."""
        with self._lock:
            self._until.pop(member, None)
            self._until[member] = self._clock() + seconds
            while len(self._until) > self._most:
                self._until.popitem(last=False)

    def clear(self) -> None:
        """Let all leave."""
        with self._lock:
            self._until.clear()
