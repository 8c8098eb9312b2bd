"""Parts of the page's own forms."""

from __future__ import annotations

import html

from serve.page.asking import Asking

STOP = '<button type="button" class="ms-stop" hidden>Stop</button>'
"""Beside the button that begins long work."""

OUTCOME = (
    '<div class="ms-progress" hidden><progress max="1" value="0" aria-label="Progress"></progress> <span></span></div>'
    '<div class="ms-message"></div><div class="ms-outcome"></div>'
)
"""Where long work shows how far it is, what went wrong, and what came of it."""


def model_choice(asking: Asking) -> str:
    """Draw the choice of a model; nothing where there is one only."""
    if len(asking.names) == 1:
        return ""
    options = "".join(f"<option>{html.escape(name)}</option>" for name in asking.names)
    return f'<p><label class="ms-inline">Model <select name="model">{options}</select></label></p>'
