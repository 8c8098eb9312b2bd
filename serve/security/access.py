"""Who asks: the name that was logged in with, and the number of the request."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

_HARMLESS_ID = re.compile(r"[0-9a-fA-F]{8}[0-9a-fA-F-]{8,56}")
"""A number such as a UUID or a trace's: no name of a person can be written with these characters alone."""


def new_request_id() -> str:
    """Make a number for a request."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class Access:
    """Who asks; `request.state.who` of every request that was let in, and the same of Gradio's requests.

    Attributes:
        name: Of the user or key; None where nobody has to log in.
        means: What it was proved with.
        request_id: Of this request, as the answer's header `X-Request-ID` gives it.
        address: Of the client, or None where the server listens at a socket that has none.
    """

    name: str | None = None
    means: Literal["password", "key"] | None = None
    request_id: str = field(default_factory=new_request_id)
    address: str | None = None


def who_asks(request: Any) -> Access:
    """Return who sent a request.

    Args:
        request: One of Starlette, FastAPI or Gradio.
    """
    # Gradio's own request wraps that of FastAPI.
    state = getattr(getattr(request, "request", request), "state", None)
    return getattr(state, "who", None) or Access()


def request_id(given: str | None) -> str:
    """Return the number that a client gave its request, where it is a number and nothing else; otherwise a new one."""
    return given if given is not None and _HARMLESS_ID.fullmatch(given) else new_request_id()
