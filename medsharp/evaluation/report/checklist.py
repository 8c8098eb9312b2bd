"""Reporting checklists (TRIPOD+AI, CLAIM 2024, STARD-AI), filled where the run knows the answer."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from medsharp.evaluation.report.evidence import EVIDENCE

REPORTED, PARTLY, PERSON = "in this report", "partly", "for a person"
"""How an item stands: answered here, answered in part, or to be written by a person."""


@cache
def checklists() -> tuple[dict[str, Any], ...]:
    """Return the checklists as packaged: guideline, citation, doi and items."""
    return tuple(yaml.safe_load((files("medsharp.evaluation.report") / "checklist.yaml").read_text(encoding="utf-8")))


def filled_checklists(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Answer each item from the document of an evaluation.

    Args:
        document: Bundle, data sets, robustness and versions, as in `evaluation.json`.

    Returns:
        For each guideline its name, citation, doi and items; an item has `id`, `item`, `status`, `answers` (each a text
        and the section of the page it points to) and `add`, what a person must still say.
    """
    known = {name: answer for name, find in EVIDENCE.items() if (answer := find(document)) is not None}
    return [
        {**{key: value for key, value in checklist.items() if key != "items"}, "items": _filled(checklist, known)}
        for checklist in checklists()
    ]


def _filled(checklist: dict[str, Any], known: dict[str, tuple[str, str]]) -> list[dict[str, Any]]:
    items = []
    for item in checklist["items"]:
        found = [known[name] for name in item.get("knows", ()) if name in known]
        add = item.get("add", "")
        status = PERSON if not found else PARTLY if add else REPORTED
        answers = [{"text": text, "section": section} for text, section in found]
        items.append({"id": item["id"], "item": item["item"], "status": status, "answers": answers, "add": add})
    return items
