"""What Gradio must be kept from: remembering visitors, reading other files than uploads, printing what they hold."""

from __future__ import annotations

import asyncio
import functools
import importlib
import sys
from collections.abc import Callable, Container
from types import SimpleNamespace
from typing import Any

from starlette.exceptions import HTTPException

from serve.security.crashes import log_fault

_LONGEST_SESSION = 100


def in_event_loop(build: Callable[[], None]) -> None:
    """Call `build` inside an event loop; outside of one, Gradio makes several and closes none."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:

        async def building() -> None:
            build()

        asyncio.run(building())
    else:
        build()


def keep_no_sessions(app: Any, page: Any) -> None:
    """Give every request to the page a session of its own, which is gone with the request.

    Gradio would store the last value of every component, here an image and its file name, for up to 10,000 visitors
    until the server stops, so that a page can have state. This page has none.

    Args:
        app: The application that Gradio mounted.
        page: Its `gradio.Blocks`.
    """
    from gradio.state_holder import SessionState, StateHolder

    class NoSessions(StateHolder):
        def __getitem__(self, session_id: str) -> SessionState:
            return SessionState(self.blocks)

    holder = NoSessions()
    holder.set_blocks(page)
    app.state_holder = holder


def accept_only_uploads(page: Any, uploads: Container[str]) -> None:
    """Let every component of a page, not those for files alone, take nothing of a file but uploads that wait.

    In a mounted page Gradio copies any path that a client names into its folder, since it checks paths only in a
    page that was launched, and it fetches addresses; it looks for both in whatever a component is given. Anybody could
    have the server's own images assessed and shown.

    Args:
        page: The `gradio.Blocks`, with all its components.
        uploads: Holds the path of each upload.
    """
    import gradio as gr

    async def only_uploads(path: Any) -> str:
        if str(path) not in uploads:
            raise gr.Error("This upload has expired; please choose the file again.", print_exception=False)
        return str(path)

    for block in page.blocks.values():
        if hasattr(block, "async_move_resource_to_block_cache"):
            block.async_move_resource_to_block_cache = only_uploads


def print_no_errors() -> None:
    """Have Gradio log the place of an error where it would print its words, which may be a patient's name."""

    def print_exc() -> None:
        error = sys.exception()
        if error is not None:
            log_fault("the page could not be answered", error)

    for name in ("queueing", "routes", "route_utils"):
        module = importlib.import_module(f"gradio.{name}")
        if not hasattr(module, "traceback"):
            raise TypeError(f"gradio.{name} prints its errors otherwise than it did")
        module.traceback = SimpleNamespace(print_exc=print_exc)  # type: ignore[attr-defined]


def refuse_odd_questions() -> None:
    """Have Gradio refuse what it would fail at, or keep for ever.

    An event that the page does not have is 404; the number of a session that is no short text is 422.
    """
    from gradio import route_utils

    find = route_utils.get_fn
    if hasattr(find, "__wrapped__"):
        return  # by another application of this process

    @functools.wraps(find)
    def get_fn(blocks: Any, api_name: str | None, body: Any) -> Any:
        session = body.session_hash or ""
        if not session.isascii() or len(session) > _LONGEST_SESSION:
            raise HTTPException(422, f"session_hash: it must be ASCII, {_LONGEST_SESSION} characters at most")
        try:
            return find(blocks, api_name, body)
        except (KeyError, route_utils.FnIndexInferError) as error:
            raise HTTPException(404, "the page has no such event") from error

    route_utils.get_fn = get_fn


class Visitor:
    """Whoever waits for the answer to the event that Gradio is working on; made inside the event's function.

    Args:
        page: The `gradio.Blocks`.

    Attributes:
        request: Of Gradio, or None where there is none.
    """

    def __init__(self, page: Any) -> None:
        from gradio.context import LocalContext

        self.request = LocalContext.request.get(None)
        self._queue = page._queue
        self._event = self._queue.event_ids_to_events.get(LocalContext.event_id.get(None))

    def is_waiting(self) -> bool:
        """Whether the visitor's page is open still, as far as Gradio knows."""
        return self._event is None or bool(self._event.alive)

    def forget_answer(self, seconds: float = 60.0) -> None:
        """Drop the answer after a while if nobody has fetched it.

        Gradio would keep it, with the images in it, until 2,000 other visitors have come.
        """
        if self._event is not None:
            asyncio.get_running_loop().call_later(seconds, self._drop_unread)

    def _drop_unread(self) -> None:
        session = self._event.session_hash
        messages = self._queue.pending_messages_per_session.get(session)
        # An open page takes its messages as they come.
        if messages is not None and not messages.empty():
            self._queue.pending_messages_per_session.pop(session, None)
            self._queue.pending_event_ids_session.pop(session, None)
