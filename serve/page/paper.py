"""An answer to keep: one sheet as PNG or PDF, or JSON; made in memory, without the name of the file."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi.responses import Response
from PIL import Image

from medsharp.inference import Prediction
from medsharp.inference.checks import Finding
from serve.engine.draw import Assessment, is_missing
from serve.page import meaning
from serve.page.cards import refusals_of, remark
from serve.page.meaning import Background
from serve.page.numbers import noun, probability_beside, sentence
from serve.page.viewer import frame_of
from serve.security.gate import NOTICE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWING = threading.Lock()
"""Matplotlib is not made for several threads: whoever draws holds this."""

_A4 = (8.27, 11.69)
_DPI = 150
_WIDTH = 96
"""Characters in a line of the sheet."""


def on_paper(kind: str, assessment: Assessment, content: bytes, background: Background) -> Response:
    """Return an answer as a file to keep. Takes a while: call it in a thread.

    The name of the image's file is left out, since it may be a patient's; its SHA-256 says which image it was.

    Args:
        kind: One of `KINDS`.
        assessment: The answer, which must have an image.
        content: The file that it is of.
        background: Of the model that answered.
    """
    facts = _facts(assessment, content, background)
    data, media = KINDS[kind](assessment, facts)
    name = f"medsharp-answer-{facts['image_sha256'][:8]}.{kind}"
    return Response(data, media_type=media, headers={"content-disposition": f'attachment; filename="{name}"'})


def _facts(assessment: Assessment, content: bytes, background: Background) -> dict[str, Any]:
    """Return what every kind of file says."""
    prediction = assessment.prediction
    probability = None if is_missing(prediction.positive_probability) else prediction.positive_probability
    near = None
    if probability is not None and background.validation is not None:
        near = background.validation.near(probability)
    frame = frame_of(assessment)
    return {
        "notice": NOTICE,
        "status": prediction.status,
        "positive": background.positive,
        "probabilities": prediction.probabilities or None,
        "positive_probability": probability,
        "threshold": background.threshold,
        "side": prediction.side,
        "margin": None if probability is None else prediction.margin,
        "prediction_set": None if prediction.prediction_set is None else list(prediction.prediction_set),
        "validation": None if near is None else vars(near),
        "meaning": [] if probability is None else _meanings(background, prediction),
        "reasons": list(prediction.reasons),
        "advice": list(dict.fromkeys(one.advice for one in _refusals(assessment))),
        "checks": list(prediction.checks),
        "flags": list(prediction.flags),
        "frame": None if frame is None else frame[0],
        "frames": None if frame is None else frame[1],
        "region": None if assessment.box is None else assessment.box._asdict(),
        "image_sha256": hashlib.sha256(content).hexdigest(),
        "model": background.spec.name,
        "digest": prediction.digest,
        "medsharp": version("medsharp"),
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _refusals(assessment: Assessment) -> list[Finding]:
    return refusals_of(assessment) if assessment.prediction.status == "refused" else []


def _meanings(background: Background, prediction: Prediction) -> list[str]:
    probability = prediction.positive_probability
    said = [
        f"{meaning.distance(probability, background.threshold)}. {meaning.odds(probability, background.threshold)}",
        meaning.score_meaning(background, probability),
        meaning.undecided(prediction.prediction_set),
        *meaning.elsewhere(background),
    ]
    return [words for words in said if words]


def _json(assessment: Assessment, facts: dict[str, Any]) -> tuple[bytes, str]:
    return json.dumps(facts, indent=1, ensure_ascii=False).encode(), "application/json"


def _png(assessment: Assessment, facts: dict[str, Any]) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    with DRAWING:
        _sheet(assessment, facts).savefig(buffer, format="png", dpi=_DPI, metadata={"Description": NOTICE})
    return buffer.getvalue(), "image/png"


def _pdf(assessment: Assessment, facts: dict[str, Any]) -> tuple[bytes, str]:
    from matplotlib import rc_context

    buffer = io.BytesIO()
    about = {"Title": f"Answer of {facts['model']}", "Subject": NOTICE, "Creator": f"medsharp {facts['medsharp']}"}
    # Type 42 keeps the text as text, which can be searched and copied.
    with DRAWING, rc_context({"pdf.fonttype": 42}):
        _sheet(assessment, facts).savefig(buffer, format="pdf", metadata=about)
    return buffer.getvalue(), "application/pdf"


KINDS: dict[str, Callable[[Assessment, dict[str, Any]], tuple[bytes, str]]] = {
    "png": _png,
    "pdf": _pdf,
    "json": _json,
}
"""The kinds of files that an answer can be kept as, each with what makes its bytes and says their media type."""


def _sheet(assessment: Assessment, facts: dict[str, Any]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=_A4, facecolor="white")
    figure.add_artist(Rectangle((0, 0.952), 1, 0.048, color="#7a1d1d", transform=figure.transFigure))
    figure.text(0.06, 0.976, f"{NOTICE} Research software.", color="white", size=13, weight="bold", va="center")
    figure.text(0.06, 0.925, "Breast-ultrasound lesion classifier", size=10, color="#475569", va="center")
    figure.text(0.06, 0.89, _headline(facts), size=20, weight="bold", va="center")
    bottom = _write(figure, 0.86, _lines(facts))
    _pictures(figure, assessment, facts, bottom)
    _write(figure, 0.1, _footer(facts), size=7.5, color="#475569")
    return figure


def _headline(facts: dict[str, Any]) -> str:
    probability = facts["positive_probability"]
    if probability is None:
        return "No answer"
    shown = probability_beside(probability, facts["threshold"])
    caution = ", with caution" if facts["reasons"] else ""
    return f"Probability of {noun(facts['positive'])}{caution}: {shown}"


def _lines(facts: dict[str, Any]) -> list[str]:
    lines = [sentence(reason) for reason in facts["reasons"]]
    if facts["positive_probability"] is None:
        lines += [f"What to do: {' '.join(map(sentence, facts['advice']))}"]
        lines += [f"No answer is not an all-clear: it says nothing about {noun(facts['positive'])}."]
    lines += facts["meaning"]
    lines += [remark(flag) for flag in facts["flags"]]
    if facts["region"]:
        region = facts["region"]
        lines.append(
            f"The region: pixels {region['left']} to {region['right']} from the left, {region['top']} to "
            f"{region['bottom']} from the top."
        )
    return lines


def _footer(facts: dict[str, Any]) -> list[str]:
    return [
        f"Model {facts['model']}, digest {facts['digest']}",
        f"Image, SHA-256 {facts['image_sha256']}",
        f"{facts['time']}, medsharp {facts['medsharp']}. {NOTICE}",
    ]


def _write(figure: Figure, top: float, lines: list[str], size: float = 9.5, color: str = "#0f172a") -> float:
    """Write lines from the top down, folded, and return where they end, as a share of the height."""
    import textwrap

    step = size * 1.45 / 72 / _A4[1]
    for line in lines:
        # A dollar sign would start mathematics.
        folded = textwrap.wrap(line.replace("$", r"\$"), _WIDTH if size > 8 else 120)
        for part in folded:
            figure.text(0.06, top, part, size=size, color=color, va="top")
            top -= step
        top -= step / 3
    return top


def _pictures(figure: Figure, assessment: Assessment, facts: dict[str, Any], top: float) -> None:
    shown = [
        (uri, caption)
        for uri, caption in (
            (assessment.image, "The image as decoded"),
            (assessment.heatmap, f"Heat map: warm for {noun(facts['positive'])}, cold against it"),
        )
        if uri is not None
    ]
    top -= 0.02  # for their captions
    width, height = 0.43, min(0.45, max(0.15, top - 0.15))
    for number, (uri, caption) in enumerate(shown):
        axes = figure.add_axes((0.06 + number * (width + 0.02), top - height, width, height))
        pixels = _pixels(uri)
        axes.imshow(pixels, cmap="gray" if pixels.ndim == 2 else None, vmin=0, vmax=255)
        axes.set_anchor("N")
        axes.set_axis_off()
        axes.set_title(caption, size=8, color="#475569", loc="left")


def _pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
