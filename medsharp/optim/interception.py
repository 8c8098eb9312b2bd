"""Functions of torch whose calls in this thread go elsewhere for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Interception:
    """A function of a module or class that may be replaced: for as long as a thread asks, and for that thread alone.

    Args:
        owner: The module or class.
        name: Of the function in it.
    """

    def __init__(self, owner: Any, name: str) -> None:
        self._owner, self._name = owner, name
        self._lock = threading.Lock()
        self._users = 0
        self._original: Callable[..., Any] = getattr(owner, name)
        self._local = threading.local()

        def dispatch(*args: Any, **kwargs: Any) -> Any:
            handlers = self._handlers()
            return handlers[-1](self._original, *args, **kwargs) if handlers else self._original(*args, **kwargs)

        self._dispatch = dispatch

    @contextmanager
    def by(self, handler: Callable[..., Any]) -> Iterator[None]:
        """Inside of it, calls go to `handler(original, *args, **kwargs)`."""
        with self._lock:
            if self._users == 0:
                self._original = getattr(self._owner, self._name)
                setattr(self._owner, self._name, self._dispatch)
            self._users += 1
        self._handlers().append(handler)
        try:
            yield
        finally:
            self._handlers().pop()
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    setattr(self._owner, self._name, self._original)

    def _handlers(self) -> list[Callable[..., Any]]:
        handlers: list[Callable[..., Any]] = self._local.__dict__.setdefault("handlers", [])
        return handlers
