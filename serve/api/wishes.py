"""What a request wants beside its images: from its query, or from the fields of its form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException

from medsharp.errors import nearest
from medsharp.images import Box
from serve.engine import ReadOptions
from serve.uploads.uploads import shown

_SWITCH = {"0": False, "false": False, "1": True, "true": True}
_MOST_DIGITS = 6


@dataclass(frozen=True)
class Wishes:
    """What a request wants.

    Attributes:
        heatmap: Whether heat maps are drawn.
        model: Name of the model; None takes the default one.
        options: What of an image is looked at.
    """

    heatmap: bool
    model: str | None
    options: ReadOptions


@dataclass(frozen=True)
class Parameter:
    """What a request may say beside its images, as `/openapi.json` tells it.

    Attributes:
        schema: Of its value.
        meaning: Of it.
        example: A value.
    """

    schema: dict[str, Any]
    meaning: str
    example: str

    def in_query(self, name: str) -> dict[str, Any]:
        """Describe it as a part of the address."""
        about = {"schema": self.schema, "description": self.meaning, "example": self.example}
        return {"name": name, "in": "query", "required": False, **about}


PARAMETERS = {
    "heatmap": Parameter({"type": "string", "enum": ["0", "1", "false", "true"]}, "`1` adds heat maps", "1"),
    "model": Parameter(
        {"type": "string", "maxLength": 200}, "Name of a model, of those that `/v1/models` lists", "bus-lite0"
    ),
    "frame": Parameter(
        {"type": "string", "pattern": "^[0-9]{1,6}$"},
        "Frame of a DICOM clip, counted from 1; the sharpest by default. For one image only",
        "12",
    ),
    "box": Parameter(
        {"type": "string", "pattern": "^[0-9]{1,6}(,[0-9]{1,6}){3}$"},
        "`left,top,right,bottom` in pixels: the part of the image that is looked at. For one image only",
        "40,60,360,380",
    ),
}
"""By name."""


NAME = "name"
"""In the address alone: what a file that is the whole body is called."""


def assert_known(query: Iterable[str], fields: Iterable[str]) -> None:
    """Refuse what nobody could grant: an answer without a wish that was misspelt looks like one with it.

    Args:
        query: Names in the address.
        fields: Names in the form.

    Raises:
        HTTPException: 422, there is no such wish.
    """
    for where, names, known in (("address", query, {*PARAMETERS, NAME}), ("form", fields, {*PARAMETERS})):
        for name in names:
            if name not in known:
                if name == NAME:
                    raise HTTPException(422, "name is said in the address, of a file that is the whole body")
                raise HTTPException(422, f"there is no {shown(name)} to wish for in the {where}{nearest(name, known)}")


def read_wishes(query: Mapping[str, str], fields: Mapping[str, str], images: int) -> Wishes:
    """Read what a request wants.

    Args:
        query: Of its address.
        fields: Of its form.
        images: How many it brings.

    Raises:
        HTTPException: 422, something is not as it should be, or is said twice and differently.
    """
    given = {name: _one(name, query, fields) for name in PARAMETERS}
    heatmap = _SWITCH.get("0" if given["heatmap"] is None else given["heatmap"].lower())
    if heatmap is None:
        raise HTTPException(422, "heatmap must be 0 or 1")
    options = ReadOptions(_frame(given["frame"]), _box(given["box"]))
    if options != ReadOptions() and images > 1:
        raise HTTPException(422, "frame and box are of one image; send it alone")
    return Wishes(heatmap, given["model"] or None, options)


def _one(name: str, query: Mapping[str, str], fields: Mapping[str, str]) -> str | None:
    values = {values[name] for values in (query, fields) if name in values}
    if len(values) > 1:
        raise HTTPException(422, f"{name} is one thing in the address and another in the form")
    return next(iter(values), None)


def _frame(text: str | None) -> int | None:
    if not text:
        return None
    if not _is_number(text) or int(text) < 1:
        raise HTTPException(422, "frame must be a whole number from 1 on")
    return int(text)


def _box(text: str | None) -> Box | None:
    if not text:
        return None
    parts = text.split(",")
    if len(parts) != 4 or not all(_is_number(part) for part in parts):
        raise HTTPException(422, "box must be left,top,right,bottom: four whole numbers of pixels")
    left, top, right, bottom = map(int, parts)
    return Box(top, left, bottom, right)


def _is_number(text: str) -> bool:
    return re.fullmatch(f"[0-9]{{1,{_MOST_DIGITS}}}", text) is not None
