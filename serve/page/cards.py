"""HTML of what the page answers: one image's card, the table of several, refusals and errors."""

from __future__ import annotations

import html
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from medsharp.images.decoded import PART
from medsharp.images.values import BYTE_PALETTE
from medsharp.inference.checks import Finding
from serve.engine.draw import Assessment, is_missing
from serve.page import meaning
from serve.page.meaning import Background
from serve.page.numbers import noun, percent, probability_beside, sentence
from serve.page.sent import Sent
from serve.page.threshold import threshold_slider
from serve.page.viewer import tools, viewer

_FLAGS = {
    "colour": "Colour image, converted to grey: the model was not made for Doppler or photographs of a screen.",
    "alpha": "Image with transparency, laid on black.",
    "cmyk": "CMYK image, converted to grey.",
    "palette": "Palette image, converted to grey.",
    BYTE_PALETTE: "Its palette was stored in 8 of 16 bits, as some writers do, and is used as it is.",
    "16-bit": "Image of more than 8 bits, scaled to 8.",
    "upper bits unused": "Its values use less than a quarter of their 16 bits, so that it may be far too dark.",
    "floating-point": "Image of floating-point numbers, scaled to 8 bits.",
    "undefined pixels": "Some pixels were no number and are shown black.",
    "values beyond the declared range": "Some values were beyond the declared range and were cut.",
    "signed values without a window": "Signed values without a window, shown over their whole range.",
    "colour label corrected": "The DICOM file's colour label contradicted its data, which was believed.",
    "colour label doubtful": "The DICOM file's colour label hardly fits its pixels: the greys may be wrong.",
    "burned-in annotation": "The DICOM file says that text, perhaps a name, is part of its pixels.",
    "dicom": "Read from DICOM: the pixels, and what the file says of how to show them; nothing about the patient.",
    "rotated": "Turned as its EXIF orientation says.",
    PART: "Of a region that was asked for. The figures beside it are of whole images.",
    "cropped to the ultrasound region": "Cropped to the ultrasound region that the DICOM file names.",
}
_HARMLESS = frozenset({"dicom", "palette", BYTE_PALETTE, "rotated", "cropped to the ultrasound region"})


def _is_fact(flag: str) -> bool:
    """Whether a flag only says how the file was read; the others are warnings."""
    return flag in _HARMLESS or flag.startswith("frame ")


@dataclass(frozen=True)
class Asked:
    """What an answer is of.

    Attributes:
        sent: Where the browser finds the file; None for what cannot be asked anew.
        frame: Which frame of a clip was asked for; None for the sharpest.
    """

    sent: Sent | None = None
    frame: int | None = None


def result(assessments: Sequence[Assessment], background: Background, asked: Sequence[Asked] = ()) -> str:
    """Draw the answers of one upload: the card of a single image, or a table with the cards folded below.

    Args:
        assessments: One an image.
        background: Of the model that answered.
        asked: What each is of; nothing can be asked anew without.
    """
    asked = asked or [Asked()] * len(assessments)
    # Gradio draws only what has changed; the same file again must replace what was asked of it in between.
    start = f'<div class="ms-answer" data-drawn="{secrets.token_hex(4)}">'
    if len(assessments) == 1:
        return f"{start}{detail(assessments[0], background, asked[0])}</div>"
    rows = "".join(row(assessment, background) for assessment in assessments)
    folded = "".join(
        f"<details><summary>{html.escape(assessment.prediction.name)}</summary>"
        f"{detail(assessment, background, one)}</details>"
        for assessment, one in zip(assessments, asked, strict=True)
        if assessment.prediction.error is None
    )
    return (
        f'{start}<div class="ms-table" data-said="{_caption(assessments)}"><table><caption>{_caption(assessments)}'
        f'</caption><thead><tr><th scope="col">Image</th>'
        f'<th scope="col">Probability<br>of {html.escape(noun(background.positive))}</th>'
        f'<th scope="col">Operating point<br>{percent(background.threshold)}</th>'
        f'<th scope="col">Remarks</th></tr></thead><tbody>{rows}</tbody></table></div>{folded}</div>'
    )


def _caption(assessments: Sequence[Assessment]) -> str:
    """Say how many images there are, and how many of them have no answer and why."""
    statuses = [assessment.prediction.status for assessment in assessments]
    kinds = (("refused", "refused"), ("failed", "could not be read"))
    silent = [f"{statuses.count(status)} {words}" for status, words in kinds if status in statuses]
    return f"{len(assessments)} images" + (f"; without an answer: {', '.join(silent)}" if silent else "")


def detail(assessment: Assessment, background: Background, asked: Asked = Asked()) -> str:
    """Draw the card of one image: the number, what it means, the picture under its heat map, and what can be asked.

    What a check marks stands above the number; what a check refuses has neither number nor heat map.
    """
    prediction = assessment.prediction
    if prediction.status == "refused":
        said = f"{prediction.name}: no answer. {' '.join(sentence(one.sentence) for one in refusals_of(assessment))}"
        return _card(assessment, asked, background, said, _refusal(assessment, background.positive))
    if prediction.error is not None or is_missing(prediction.positive_probability):
        return problem(prediction.error or f"{prediction.name} could not be assessed")
    probability, threshold = prediction.positive_probability, background.threshold
    beside = probability_beside(probability, threshold)
    far = meaning.distance(probability, threshold)
    marked = bool(prediction.reasons)
    label = f"Probability of {html.escape(noun(background.positive))}{', with caution' if marked else ''}"
    side = "above" if probability >= threshold else "below"
    undecided = meaning.undecided(prediction.prediction_set)
    means = html.escape(f"{meaning.score_meaning(background, probability)} {undecided}".strip())
    at = "".join(f"<li>{html.escape(one)}</li>" for one in meaning.elsewhere(background))
    body = (
        f"{_remarks(prediction.reasons)}"
        f'<div class="ms-figures"><div><div class="ms-label">{label}</div>'
        f'<div class="ms-number{" ms-marked" if marked else ""}">{html.escape(beside)}</div></div>'
        f'<div class="ms-verdict ms-{side}"><b>{far.partition(",")[0]}</b>,{far.partition(",")[2]}. '
        f"{meaning.odds(probability, threshold)}</div></div>"
        f"{_bar(probability, threshold)}"
        f'<div class="ms-means"><p>{means}</p><ul>{at}</ul></div>{_remarks(prediction.flags)}'
        f"{viewer(assessment, background.positive)}"
        f"{threshold_slider(background, probability)}"
    )
    cautions = "".join(f"{sentence(reason)} " for reason in prediction.reasons)
    said = f"{prediction.name}: {cautions}{label} {beside}. {far}."
    return _card(assessment, asked, background, said, body)


def _card(assessment: Assessment, asked: Asked, background: Background, said: str, body: str) -> str:
    """Put a card together; one that can be asked anew carries what the page's scripts need for it."""
    prediction = assessment.prediction
    height, width = assessment.size or (0, 0)
    attributes, below = "", ""
    if asked.sent is not None and assessment.size is not None:
        part = assessment.box
        box = "" if part is None else f"{part.left},{part.top},{part.right},{part.bottom}"
        attributes = (
            f' {asked.sent.attributes()} data-model="{html.escape(background.spec.name)}" '
            f'data-name="{html.escape(prediction.name)}" data-width="{width}" data-height="{height}" '
            f'data-frame="{asked.frame or ""}" data-box="{box}"'
        )
        below = f"{tools(assessment)}{_downloads(prediction.status)}"
    return (
        f'<section class="ms-card" aria-label="Answer" data-said="{html.escape(said)}"{attributes}>'
        f'<div role="heading" aria-level="2" tabindex="-1" class="ms-name">{_title(assessment)}</div>{body}{below}'
        "</section>"
    )


def _downloads(status: str) -> str:
    kinds = ("png", "pdf", "json")
    what = "answer" if status != "refused" else "refusal"
    buttons = "".join(
        f'<button type="button" class="ms-save" value="{kind}" aria-label="Save the {what} as {kind.upper()}">'
        f"{kind.upper()}</button>"
        for kind in kinds
    )
    return (
        f'<p class="ms-saves ms-inline" role="group" aria-label="Save the {what}">Save the {what} as {buttons} '
        '<span class="ms-small">without the name of the file</span></p>'
    )


def _refusal(assessment: Assessment, positive: str) -> str:
    """Say why there is no answer and what to do; the image is shown as it was decoded, without number, bar or map."""
    prediction = assessment.prediction
    refusals = refusals_of(assessment)
    why = "".join(f"<li>{html.escape(sentence(found.sentence))}</li>" for found in refusals)
    advice = " ".join(dict.fromkeys(sentence(found.advice) for found in refusals))
    return (
        f'<div class="ms-refusal"><p><b>No answer.</b> The model does not judge this image:</p><ul>{why}</ul>'
        f"<p><b>What to do:</b> {html.escape(advice)} If that was done, the model cannot judge this image.</p>"
        f"<p><b>No answer is not an all-clear:</b> it says nothing about {html.escape(noun(positive))}.</p></div>"
        f"{_remarks(prediction.flags)}{viewer(assessment, positive)}"
    )


def refusals_of(assessment: Assessment) -> list[Finding]:
    """Return what an image was refused for; what is merely marked in it says nothing more."""
    return [found for found in assessment.prediction.findings if found.outcome == "refusal"]


def problem(sentence: str) -> str:
    """Say what went wrong, and what to do, in one sentence."""
    return f'<div class="ms-problem" role="alert"><b>Not assessed.</b> {html.escape(sentence)}</div>'


def _title(assessment: Assessment) -> str:
    prediction = assessment.prediction
    size = f"{assessment.size[1]} by {assessment.size[0]} pixels, " if assessment.size else ""
    return f"{html.escape(prediction.name)} <span>{size}model {html.escape(prediction.model)}</span>"


def _bar(probability: float, threshold: float) -> str:
    fill, mark = 100 * probability, 100 * threshold
    # The words under the mark must not leave the bar on a phone.
    anchor = "start" if mark < 30 else "end" if mark > 70 else "middle"
    return (
        f'<div class="ms-bar" role="img" aria-label="{html.escape(probability_beside(probability, threshold))}, '
        f'operating point {percent(threshold)}">'
        f'<div class="ms-track"><div class="ms-fill" style="width:{fill:.2f}%"></div></div>'
        f'<div class="ms-mark" style="left:{mark:.2f}%"></div>'
        f'<div class="ms-point ms-{anchor}" style="left:{mark:.2f}%">operating point {percent(threshold)}</div></div>'
    )


def _remarks(flags: Sequence[str]) -> str:
    items = ""
    for flag in flags:
        kind = "ms-fact" if _is_fact(flag) else "ms-warning"
        items += f'<li class="{kind}">{html.escape(remark(flag))}</li>'
    return f'<ul class="ms-remarks">{items}</ul>' if items else ""


def remark(flag: str) -> str:
    """Say in a sentence what a flag or a finding means."""
    return _FLAGS.get(flag, sentence(flag))


def row(assessment: Assessment, background: Background) -> str:
    """Draw the row of one image among several."""
    threshold = background.threshold
    prediction = assessment.prediction
    name = html.escape(prediction.name)
    if prediction.error is not None:
        return f'<tr class="ms-failed"><td>{name}</td><td colspan="3">{html.escape(prediction.error)}</td></tr>'
    if prediction.status == "refused":
        why = html.escape(" ".join(sentence(found.sentence) for found in refusals_of(assessment)))
        return f'<tr class="ms-silent"><td>{name}</td><td colspan="3"><b>No answer.</b> {why}</td></tr>'
    above = prediction.positive_probability >= threshold
    side = "at or above" if above else "below"
    warnings = "; ".join(html.escape(flag) for flag in prediction.flags if not _is_fact(flag))
    start = f"<tr><td>{name}</td>"
    if prediction.reasons:
        # Above the number, not behind it.
        why = html.escape(" ".join(map(sentence, prediction.reasons)))
        start = (
            f'<tr class="ms-cautioned"><td rowspan="2">{name}</td><td colspan="3"><b>Caution:</b> {why}</td></tr><tr>'
        )
    return (
        f'{start}<td class="ms-cell{" ms-marked" if prediction.reasons else ""}">'
        f"{html.escape(probability_beside(prediction.positive_probability, threshold))}</td>"
        f'<td><span class="ms-pill ms-{"above" if above else "below"}">{side}</span></td><td>{warnings}</td></tr>'
    )
