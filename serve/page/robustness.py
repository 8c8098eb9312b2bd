"""What becomes of one image's answer when the image is corrupted, and when drawings on it are removed."""

from __future__ import annotations

import asyncio
import base64
import functools
import io
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
from fastapi import FastAPI
from PIL import Image

from medsharp.errors import InputError
from medsharp.inference import Prediction
from medsharp.preprocess import find_drawings, remove_overlays
from medsharp.robustness.corruptions import CORRUPTIONS, Corruption, corrupt
from serve.api.wishes import read_wishes
from serve.engine.capacity import Memory
from serve.engine.draw import png_uri
from serve.page.answering import which_image
from serve.page.asking import Asking
from serve.page.robustness_table import Curve, Undrawn, robustness_table
from serve.page.told import add_work
from serve.security.access import Access
from serve.uploads.forms import Form
from serve.uploads.uploads import Limits

SIDE = 512
"""Longest side in pixels at which an image is corrupted, several times that at which networks see it."""

SEVERITIES = (1, 3, 5)

FAMILIES = {
    "ultrasound": "What differs between machines and settings",
    "medmnist-c": "Files and noise, as in MedMNIST-C",
    "annotation": "Drawings on the image",
}
"""The families of corruptions that can be asked for. Controls mean nothing for a single image."""


def add_robustness(app: FastAPI, asking: Asking, limits: Limits, memory: Memory) -> None:
    """Add `POST /page/robustness`: one image, and as fields `image`, `frame`, `box`, `model` and `family`."""
    add_work(app, "/page/robustness", functools.partial(_robustness, asking), limits, memory)


async def _robustness(asking: Asking, form: Form, who: Access) -> AsyncIterator[dict[str, Any]]:
    family = form.fields.get("family", "ultrasound")
    if family not in FAMILIES:
        raise InputError(f"there is no family '{family}' of corruptions; choose from {', '.join(FAMILIES)}")
    chosen = [one for one in CORRUPTIONS.values() if one.family == family]
    wishes = read_wishes({}, form.fields, 1)
    model = asking.model(wishes.model or "")
    background = await asyncio.to_thread(model.background)
    name, content = which_image(form)

    async def ask(images: Sequence[np.ndarray]) -> list[Prediction]:
        files = await asyncio.to_thread(lambda: [_png(one) for one in images])
        answers = await model.assess_in_turn(files, [name] * len(files), who)
        return [answer.prediction for answer in answers]

    (whole,) = await model.assess([content], [name], who, side=SIDE, options=wishes.options)
    _assert_answered(whole.prediction)
    pixels = _pixels(whole.image)
    total = len(chosen) + 1
    yield {"done": 0, "total": total, "what": "corrupting"}
    # At the size at which it is corrupted, so that all numbers of the table differ by the corruption alone.
    (clean,) = await ask([pixels])
    undrawn = await _without_drawings(pixels, clean, ask)
    curves = []
    for done, corruption in enumerate(chosen, start=1):
        yield {"done": done, "total": total, "what": f"corrupting: {corruption.name.replace('_', ' ')}"}
        images = await asyncio.to_thread(_corrupted, pixels, corruption)
        curves.append(Curve(corruption, tuple(await ask(images))))
    box, frame = whole.box, whole.prediction.frame
    of = name + ("" if frame is None else f", frame {frame}") + ("" if box is None else ", the region chosen")
    yield {"html": robustness_table(of, clean, curves, undrawn, background, FAMILIES[family])}


def _assert_answered(prediction: Prediction) -> None:
    if prediction.error is not None:
        raise InputError(prediction.error)
    if prediction.status == "refused":
        raise InputError(f"{prediction.name} has no answer that could change: {'; '.join(prediction.reasons)}")


async def _without_drawings(pixels: np.ndarray, clean: Prediction, ask: Any) -> Undrawn:
    found = await asyncio.to_thread(find_drawings, pixels)
    if not (found.calipers | found.text | found.rulers).any():
        return Undrawn((), clean, None)
    removed = await asyncio.to_thread(remove_overlays, pixels)
    (answer,) = await ask([removed])
    kinds = {"calipers": found.calipers, "text": found.text, "a ruler": found.rulers}
    names = tuple(name for name, mask in kinds.items() if mask.any())
    return Undrawn(names, clean, answer, (png_uri(pixels), png_uri(removed)))


def _corrupted(pixels: np.ndarray, corruption: Corruption) -> list[np.ndarray]:
    return [corrupt(pixels, corruption.name, severity) for severity in SEVERITIES]


def _pixels(uri: str | None) -> np.ndarray:
    if uri is None:
        raise InputError("the image cannot be shown, and so not be corrupted")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("L"))
    if min(pixels.shape) < 32:
        raise InputError(f"the image is {pixels.shape[1]} x {pixels.shape[0]} pixels; 32 a side are the least here")
    return pixels


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
