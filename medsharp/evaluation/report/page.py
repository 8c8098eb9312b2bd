"""The report of an evaluation: from the document to blocks, and to one HTML page or Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medsharp.evaluation.notes import alarming
from medsharp.evaluation.report.blocks import (
    NOT_DIAGNOSTIC,
    Block,
    Bullets,
    Facts,
    Fold,
    Heading,
    Line,
    Notice,
    Page,
    Row,
    Section,
    Span,
    Table,
    Text,
    joined,
    strong,
)
from medsharp.evaluation.report.dataset import dataset_section
from medsharp.evaluation.report.degradation import degradation_sections, robustness_of
from medsharp.evaluation.report.headline import headline_section
from medsharp.evaluation.report.html import as_html
from medsharp.evaluation.report.markdown import as_markdown
from medsharp.evaluation.report.meanings import LIMITS
from medsharp.evaluation.report.model import hash_rows, model_sections
from medsharp.evaluation.report.verdict import verdict_section
from medsharp.evaluation.report.wording import changes_of, section_name
from medsharp.quantities import whole

_MARKS = {"in this report": "✓", "partly": "◐", "for a person": "✎"}


def render_page(document: dict[str, Any], thumbnails: Sequence[Mapping[str, str]] = ()) -> str:
    """Return the report of an `evaluation.json` document as one HTML page without outside references.

    Args:
        document: As `make_document` gives it, or read from a file that an earlier version wrote.
        thumbnails: For each data set pictures as data URIs by image name; none are shown where there are none.
    """
    return as_html(make_page(document, thumbnails))


def render_markdown(document: dict[str, Any]) -> str:
    """Return the report of an `evaluation.json` document as Markdown: what the page says, without plots and pictures.

    Args:
        document: As for `render_page`.
    """
    return as_markdown(make_page(document))


def make_page(document: dict[str, Any], thumbnails: Sequence[Mapping[str, str]] = ()) -> Page:
    """Lay out an `evaluation.json` document.

    Args:
        document: As for `render_page`.
        thumbnails: As for `render_page`.
    """
    entries, bundle = document["datasets"], document["bundle"]
    name = bundle.get("name")
    sections = [
        verdict_section(document),
        headline_section(document),
        *model_sections(bundle),
        *(
            dataset_section(entry, place, bundle, thumbnails[place] if place < len(thumbnails) else {})
            for place, entry in enumerate(entries)
        ),
        *degradation_sections(document),
        _methods(document),
        Section("limits", "Limits", [Bullets(LIMITS)]),
        *_checklists(document),
    ]
    elsewhere = " elsewhere" if changes_of(document) else ""
    return Page(
        heading=f"Does {name} hold up{elsewhere}?" if name else "Evaluation of predictions",
        title=f"{name}: evaluation" if name else "",
        notices=_notices(document, any(thumbnails) and any(map(_pictured, entries, thumbnails))),
        about=f"Written by medsharp {document['medsharp']}, {document['created']}. "
        "Ranges are 95 % intervals over patients.",
        blocks=sections,
    )


def _pictured(entry: dict[str, Any], thumbnails: Mapping[str, str]) -> bool:
    """Tell whether images of patients are shown."""
    return bool(thumbnails) and not entry["simulated"]


def _notices(document: dict[str, Any], pictures: bool) -> list[Notice]:
    entries = document["datasets"]
    notices = [NOT_DIAGNOSTIC]
    simulated = [str(entry["name"]) for entry in entries if entry["simulated"]]
    if simulated:
        all_here = len(simulated) == len(entries)
        which = "All images here were" if all_here else f"The images of {' and '.join(simulated)} were"
        made = " made by a computer; no patient was scanned. Their figures say nothing about any real hospital."
        notices.append(Notice((strong("Simulated images."), f" {which}{made}"), role="note"))
    for entry in entries:
        for note in filter(alarming, entry["notes"]):
            notices.append(Notice((strong(f"{entry['name']}:"), f" {note}."), alarm=True, role="alert"))
    for entry, model in robustness_of(document):
        for note in filter(alarming, model.get("notes", ())):
            notices.append(Notice((strong(f"Robustness on {entry['name']}:"), f" {note}."), alarm=True, role="alert"))
    if pictures:
        kept = " Keep it where the patients' data may be kept; text burned into the images may name them."
        notices.append(Notice((strong("This page contains images of patients."), kept), alarm=True, role="alert"))
    return notices


def _methods(document: dict[str, Any]) -> Section:
    versions = "".join(f", {name} {number}" for name, number in document["versions"].items())
    blocks: list[Block] = [
        Bullets(list(document["methods"].values())),
        Heading("Versions and hashes", 3),
        Text(f"medsharp {document['medsharp']}{versions}. The numbers behind every plot are in evaluation.json."),
    ]
    hashes = hash_rows(document["bundle"])
    if hashes:
        blocks.append(Facts([(name, (Span(digest, "code"),)) for name, digest in hashes], small=True))
    return Section("methods", "How the figures were made", blocks, listed="Methods")


def _checklists(document: dict[str, Any]) -> list[Section]:
    lists = document.get("checklists") or ()
    if not lists:
        return []
    how: Line = (
        "What these guidelines ask for, in short words of our own: ",
        strong("✓"), " is answered in this report, ", strong("◐"), " in part, ", strong("✎"),
        " must be written by a person. An answer says where to find it; whether it suffices is for the authors to "
        "judge. The guidelines' own texts decide.",
    )  # fmt: skip
    title = "Reporting checklists"
    return [Section("checklists", title, [Text(how), *(_checklist(given) for given in lists)], listed="Checklists")]


def _checklist(given: dict[str, Any]) -> Fold:
    statuses = [item["status"] for item in given["items"]]
    here, partly = (statuses.count(status) for status in ("in this report", "partly"))
    counts = f"{whole(here)} answered, {whole(partly)} in part, {whole(len(statuses) - here - partly)} for a person"
    rows = [
        Row((item["id"], item["item"], _answer(item)), kind="open" if item["status"] == "for a person" else "")
        for item in given["items"]
    ]
    table = Table(given["guideline"], ("Item", "Asks for", "Here"), rows, "small", captioned=False, scrolls=False)
    source = Text(f"{given['citation']}, doi {given['doi']}.", "soft")
    return Fold(given["guideline"], f", {given['about']}: {counts}", [source, table], "checklist")


def _answer(item: dict[str, Any]) -> Line:
    answers: list[Line] = [
        (f"{answer['text']} (", Span(section_name(answer["section"]), target=answer["section"]), ")")
        for answer in item["answers"]
    ]
    said: list[Line] = [(strong(_MARKS[item["status"]]),)]
    said += [joined(answers, "; ")] if answers else []
    if item["status"] == "partly":
        said[-1] = joined([said[-1], ". "], "")
        said.append((Span(f"To add: {item['add']}.", "emphasis"),))
    elif item["status"] == "for a person":
        said.append((Span(item["add"] or "to be written", "emphasis"),))
    return joined(said)
