"""`comparison.json`, and the same as one self-contained page and as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medsharp import __version__
from medsharp.evaluation.comparison.compare import Comparison
from medsharp.evaluation.report.blocks import Block, Bullets, Column, Heading, Page, Section, Table, Text, soft
from medsharp.evaluation.report.document import plain
from medsharp.evaluation.report.html import as_html
from medsharp.evaluation.report.markdown import as_markdown
from medsharp.evaluation.statistics.registry import COMPARED, names_of
from medsharp.files import json_text, write_text
from medsharp.quantities import counted, number, p_equals, signed, whole


def write_comparison(folder: str | Path, comparison: Comparison) -> tuple[Path, ...]:
    """Write `comparison.json`, `comparison.html` and `comparison.md`.

    Args:
        folder: Made if missing.
        comparison: What to write.

    Returns:
        The files.

    Raises:
        InputError: The folder cannot be written.
    """
    document = plain(comparison.as_dict() | {"medsharp": __version__})
    page = make_page(document)
    texts = {
        "comparison.json": json_text(document),
        "comparison.html": as_html(page),
        "comparison.md": as_markdown(page),
    }
    written = tuple(Path(folder) / name for name in texts)
    for path, text in zip(written, texts.values(), strict=True):
        write_text(path, text)
    return written


def difference_text(figure: dict[str, Any]) -> str:
    """Write a difference as `+0.012 (-0.003 to +0.027)`, or the reason why there is none."""
    if figure["value"] is None:
        return str(figure["reason"])
    if figure["low"] is None:
        return f"{signed(figure['value'])} ({figure['reason']})"
    return f"{signed(figure['value'])} ({signed(figure['low'])} to {signed(figure['high'])})"


def p_text(figure: dict[str, Any]) -> str:
    """Write the adjusted p value of a test and which test it is, or why one is withheld; nothing where none is made."""
    if "p_holm" not in figure:
        return ""
    if figure["p_holm"] is not None:
        return f"{p_equals(figure['p_holm'])}, {figure['p_method']}"
    return f"no test: {figure['p_reason']}" if "p_reason" in figure else ""


def make_page(document: dict[str, Any]) -> Page:
    """Lay out a `comparison.json` document."""
    counts = document["counts"]
    about = (
        f"{counted(counts['images'], 'image')}, {whole(counts['positives'])} of them {document['positive']}. 95 % "
        f"intervals resample {whole(counts['clusters'])} {document['intervals']['unit']}. Written by medsharp "
        f"{document['medsharp']}."
    )
    heading = f"{' and '.join(group['name'] for group in document['groups'])} compared"
    sections = [_conclusions(document), _differences(document), _models(document)]
    return Page(heading, sections, title="Comparison of models", about=about)


def _conclusions(document: dict[str, Any]) -> Section:
    several = len(document["pairs"]) > 1
    blocks: list[Block] = []
    for pair in document["pairs"]:
        blocks += [Heading(f"{pair['second']} against {pair['first']}", 3)] if several else []
        blocks.append(Bullets(pair["conclusions"]))
    blocks += [Heading("What this comparison cannot tell", 3), Bullets(document["limits"])]
    return Section("conclusions", "What may be said", blocks)


def _differences(document: dict[str, Any]) -> Section:
    blocks: list[Block] = []
    for pair in document["pairs"]:
        title = f"{pair['second']} minus {pair['first']}"
        header = (
            "Figure",
            Column(pair["first"], number=True),
            Column(pair["second"], number=True),
            "Difference",
            "Test",
        )
        rows = []
        for key, name in names_of(COMPARED).items():
            found = pair["figures"][key]
            values = (_three_digits(found["first"]), _three_digits(found["second"]))
            rows.append((name, *values, difference_text(found), (soft(p_text(found)),)))
        blocks += [Heading(title, 3), Table(title, header, rows, "differences", captioned=False)]
    adjusted = "; p values adjusted by Holm's method" if len(document["pairs"]) > 1 else ""
    resamples = document["intervals"]["resamples"]
    text = f"Intervals: the same resampled patients for all models, {counted(resamples, 'time')}{adjusted}."
    return Section("differences", "Differences", [*blocks, Text(text, "soft")])


def _models(document: dict[str, Any]) -> Section:
    rows = []
    for group in document["groups"]:
        found = group["figures"]["auroc"]
        for place, model in enumerate(group["models"]):
            area = _three_digits(found["networks"][place] if "networks" in found else None)
            named = group["name"] if place == 0 else ""
            of_mean = _uncertainty(found) if place == 0 else ""
            rows.append((named, model["name"], model["thresholds"], (soft(model["threshold_from"]),), area, of_mean))
    threshold, area_column = Column("Threshold", number=True), Column("AUROC", number=True)
    header = ("Model", "Network", threshold, "Where it is from", area_column, "Uncertainty of the mean AUROC")
    return Section("models", "Models", [Table("Models", header, rows, captioned=False)])


def _uncertainty(found: dict[str, Any]) -> str:
    """Say what of the variance is of patients, and what of seeds."""
    if "patient_sd" not in found:
        return ""
    text = f"patients \N{PLUS-MINUS SIGN}{found['patient_sd']:.4f}"
    if found["seed_sd"] is None:
        return f"{text}; one seed: unknown"
    share = f"{100 * found['seed_share']:.0f} % of the variance"
    return f"{text}, seeds \N{PLUS-MINUS SIGN}{found['seed_sd']:.4f} ({share})"


def _three_digits(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else number(value)
