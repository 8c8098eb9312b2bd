"""The table of a batch: sorted and filtered in the browser."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from medsharp.inference import Prediction
from serve.page.cards import remark
from serve.page.meaning import Background
from serve.page.numbers import noun, percent, probability_beside, sentence

_STATUS = {"answered": "answered", "cautioned": "with caution", "refused": "no answer", "failed": "not read"}


def batch_table(
    predictions: Sequence[Prediction], background: Background, labels: Mapping[int, str], notes: Sequence[str]
) -> str:
    """Draw the table, with the form that filters it.

    Args:
        predictions: One an image.
        background: Of the model that answered.
        labels: Of images by their place; of some, of all or of none.
        notes: Sentences on what was guessed of the labels or left out.
    """
    head = ["Image", f"Probability of {noun(background.positive)}", "Operating point", "Status", "Remarks"]
    if labels:
        head.insert(1, "Label")
    columns = "".join(
        f'<th scope="col"><button type="button" class="ms-sort" data-column="{number}">{html.escape(name)}</button>'
        "</th>"
        for number, name in enumerate(head)
    )
    rows = "".join(
        _row(prediction, background.threshold, labels.get(place) if labels else None, bool(labels))
        for place, prediction in enumerate(predictions)
    )
    said = _said(predictions, background)
    remarks = "".join(f"<li>{html.escape(sentence(note))}</li>" for note in notes)
    return (
        f'<div class="ms-table ms-batch" data-said="{html.escape(said)}"><p>{html.escape(said)}</p>'
        f"{f'<ul>{remarks}</ul>' if remarks else ''}"
        '<p class="ms-inline"><label class="ms-inline">Show <select class="ms-which"><option value="">all</option>'
        '<option value="above">at or above the operating point</option><option value="below">below it</option>'
        '<option value="cautioned">with caution</option><option value="silent">without an answer</option></select>'
        '</label><label class="ms-inline">whose name holds <input type="search" class="ms-holds"></label>'
        '<span class="ms-shown" role="status"></span></p>'
        f"<table><caption>{len(predictions)} images, operating point {percent(background.threshold)}</caption>"
        f"<thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _said(predictions: Sequence[Prediction], background: Background) -> str:
    answered = [one for one in predictions if one.side is not None]
    above = sum(one.side == "above" for one in answered)
    silent = len(predictions) - len(answered)
    without = f", {silent} without an answer" if silent else ""
    return (
        f"{len(predictions)} images: {above} at or above the operating point of {percent(background.threshold)}, "
        f"{len(answered) - above} below{without}."
    )


def _row(prediction: Prediction, threshold: float, label: str | None, labelled: bool) -> str:
    name = html.escape(prediction.name)
    remarks = [f"{prediction.error}."] if prediction.error else list(map(sentence, prediction.reasons))
    remarks += [remark(flag) for flag in prediction.flags]
    label_cell = f'<td data-sort="{html.escape(label or "")}">{html.escape(label or "")}</td>' if labelled else ""
    side = prediction.side
    if side is None:
        number, pill = '<td class="ms-cell" data-sort="-1">-</td>', '<td data-sort="0">-</td>'
    else:
        probability = prediction.positive_probability
        shown = html.escape(probability_beside(probability, threshold))
        marked = " ms-marked" if prediction.reasons else ""
        number = f'<td class="ms-cell{marked}" data-sort="{probability:.9f}">{shown}</td>'
        words = "at or above" if side == "above" else "below"
        pill = f'<td data-sort="{2 if side == "above" else 1}"><span class="ms-pill ms-{side}">{words}</span></td>'
    status = prediction.status
    kinds = {"answered": side, "cautioned": f"{side} cautioned", "refused": "silent", "failed": "silent"}
    row = {"refused": "ms-silent", "failed": "ms-failed"}.get(status, "")
    return (
        f'<tr class="{row}" data-kinds="{kinds[status]}"><td data-sort="{name}">{name}</td>{label_cell}{number}{pill}'
        f'<td data-sort="{status}">{_STATUS[status]}</td><td data-sort="{html.escape(" ".join(remarks))}">'
        f"{html.escape(' '.join(remarks))}</td></tr>"
    )
