"""A server that finishes what it has before it stops, and that loads its models again at a signal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

DRAIN_SECONDS = 60.0
"""How long a stopping server goes on with the requests that it has; a second Ctrl-C ends it at once."""


class GracefulServer(uvicorn.Server):
    """Stops in two steps: `/readyz` says so and new requests are refused while those inside are finished; then it ends.

    On SIGHUP the models are loaded again, where the system has that signal. The signal also says that the terminal is
    closed in which the server was started: then it stops, as nobody would expect it to go on.

    Args:
        app: As `create_app` makes it.
        config: For it. Its `timeout_graceful_shutdown` is for what holds a connection without being answered, such as
            an open page.
        drain_seconds: How long requests inside are waited for.
        hangup: Set where SIGHUP came while the application was built: what was loaded then may be old.
    """

    def __init__(
        self,
        app: FastAPI,
        config: uvicorn.Config,
        drain_seconds: float = DRAIN_SECONDS,
        hangup: threading.Event | None = None,
    ) -> None:
        super().__init__(config)
        self._app = app
        self._drain_seconds = drain_seconds
        self._hangup = hangup
        self._reloads: set[asyncio.Task[None]] = set()
        self._had_terminal = _has_terminal()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and to heed SIGHUP."""
        await super().startup(sockets)
        if hasattr(signal, "SIGHUP"):
            # Only the main thread hears signals; a server in another one is reloaded by its program.
            with contextlib.suppress(ValueError, RuntimeError):
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hear_hangup)
        if self._hangup is not None and self._hangup.is_set():
            self._hear_hangup()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is inside, then end."""
        state = self._app.state
        state.admission.close()
        state.models.close()
        end = asyncio.get_running_loop().time() + self._drain_seconds
        while state.admission.inside and not self.force_exit and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)

    def _hear_hangup(self) -> None:
        if self._had_terminal and not _has_terminal():
            self.should_exit = True
            return
        # In a thread, since loading takes seconds, and meanwhile requests are answered.
        task = asyncio.get_running_loop().create_task(asyncio.to_thread(self._app.state.models.reload))
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)


@contextlib.contextmanager
def hangup_noted() -> Iterator[threading.Event]:
    """Give an event that SIGHUP sets, which then does not end the process, unless its terminal is closed."""
    noted, had_terminal = threading.Event(), _has_terminal()

    def note(number: int, _: FrameType | None) -> None:
        if had_terminal and not _has_terminal():
            raise KeyboardInterrupt
        noted.set()

    if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = signal.signal(signal.SIGHUP, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGHUP, before)


def _has_terminal() -> bool:
    try:
        return os.isatty(0)
    except OSError:
        return False
