"""What Gradio must be kept from: remembering visitors, reading other files than uploads, leaving event loops open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any


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


def accept_only_uploads(page: Any, component: Any) -> None:
    """Let a file component take nothing but files that arrived by upload.

    In a mounted page Gradio copies any path that a client names into its folder, since it checks paths only in a
    page that was launched, and it fetches addresses. Anybody could have the server's own images assessed and shown.

    Args:
        page: The `gradio.Blocks`.
        component: Its `gradio.File`.
    """
    import gradio as gr

    async def only_uploads(path: Any) -> str:
        if str(path) not in page.upload_file_set:
            raise gr.Error("Only uploaded files can be assessed.", print_exception=False)
        return str(path)

    component.async_move_resource_to_block_cache = only_uploads


def forget_paths(page: Any, paths: Iterable[str]) -> None:
    """Drop deleted uploads, whose paths end in the visitors' file names, from Gradio's lists of files to delete."""
    gone = set(paths)
    for remembered in page.temp_file_sets:
        remembered.difference_update(gone)
