"""The page, the table of findings and the manifests of an audit."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from medsharp import __version__
from medsharp.data.audit.audit import Audit
from medsharp.data.audit.balance import counts_by
from medsharp.data.audit.finding import KINDS, Action, Finding, Kind, Severity
from medsharp.data.exclusions import count_exclusions
from medsharp.data.manifest import Manifest, name_of, write_manifest
from medsharp.errors import InputError
from medsharp.files import atomic_folder, atomic_path, write_text
from medsharp.images import ImageLimits
from medsharp.progress import Progress

COLUMNS = (
    "dataset",
    "image",
    "kind",
    "severity",
    "detail",
    "other_image",
    "other_dataset",
    "distance",
    "similarity",
    "action",
)
"""Of `findings.csv`."""

PAGE, TABLE = "audit.html", "findings.csv"
_DONE = {
    Action.exclude: "left out",
    Action.group: "tied into groups",
    Action.flag: "flagged",
    Action.none: "nothing",
}
_SHOWN_PAIRS = 120
_SHOWN_IMAGES = 24
_THUMBNAIL = 168
_QUALITY = 72
_MOST_ROWS = 40


@dataclass(frozen=True)
class _Section:
    """Findings of one kind, and those of them that are shown."""

    kind: Kind
    count: int
    shown: tuple[Finding, ...]
    by_dataset: tuple[tuple[str, int], ...]
    done: str


def write_audit(audit: Audit, folder: str | Path, progress: Progress | None = None) -> list[Path]:
    """Write `audit.html`, `findings.csv` and a manifest for each data set.

    One data set's manifest lies in the folder, those of several in a folder each. A new folder appears whole or not at
    all, and its owner alone may enter it; in a folder that holds other files already, page and table are his alone.

    Args:
        audit: What was found.
        folder: Made if missing; its access rights stay where it holds files.
        progress: Called with thumbnails done, thumbnails in all and what is being done.

    Returns:
        The manifests' paths.

    Raises:
        InputError: The folder cannot be written.
    """
    folder = Path(folder)
    page = render(audit, progress)
    several = len(audit.after) > 1
    places = [folder / folder_name(manifest.info.name) if several else folder for manifest in audit.after]
    if len(set(places)) < len(places):
        raise InputError("two data sets have names that make one folder; give one another name in its manifest.yaml")
    if folder.is_dir() and any(folder.iterdir()):
        _write(audit, page, folder, places)
    else:
        with atomic_folder(folder, private=True) as temporary:
            _write(audit, page, temporary, [temporary / place.relative_to(folder) for place in places])
    return [place / "manifest.csv" for place in places]


def _write(audit: Audit, page: str, folder: Path, places: Sequence[Path]) -> None:
    for manifest, place in zip(audit.after, places, strict=True):
        write_manifest(manifest, place)
    with (
        atomic_path(folder / TABLE, private=True) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_row(finding) for finding in audit.findings)
    write_text(folder / PAGE, page, private=True)


def render(audit: Audit, progress: Progress | None = None) -> str:
    """Return the page: one HTML file without outside references, with the thumbnails in it."""
    sections = _sections(audit.findings)
    wanted = {
        (dataset, image)
        for section in sections
        for finding in section.shown
        for dataset, image in ((finding.dataset, finding.image), (finding.other_dataset, finding.other_image))
        if image
    }
    pictures = _thumbnails(audit, sorted(wanted), progress)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["whole"] = lambda number: f"{number:,}"
    here = files("medsharp")
    style = "\n".join(
        (here / name).read_text(encoding="utf-8") for name in ("evaluation/report/report.css", "data/audit/audit.css")
    )
    template = (here / "data/audit/audit.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        audit=audit,
        datasets=[_about(before, after) for before, after in zip(audit.before, audit.after, strict=True)],
        sections=sections,
        errors=[section for section in sections if section.kind.severity is Severity.error],
        pictures=pictures,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        style=Markup(style),
        table=TABLE,
    )


def _row(finding: Finding) -> list[Any]:
    severity = KINDS[finding.kind].severity
    values = {**finding.__dict__, "severity": severity.value, "action": finding.action.value}
    return ["" if values[column] is None else values[column] for column in COLUMNS]


def _sections(findings: Sequence[Finding]) -> list[_Section]:
    sections = []
    for kind in KINDS.values():
        chosen = [finding for finding in findings if finding.kind == kind.name]
        if not chosen:
            continue
        most = _SHOWN_PAIRS if kind.paired else _SHOWN_IMAGES
        names = list(dict.fromkeys(finding.dataset for finding in chosen))
        # Some of each data set.
        share = max(1, most // len(names))
        shown = [finding for name in names for finding in _spread([f for f in chosen if f.dataset == name], share)]
        counts = tuple((name, sum(finding.dataset == name for finding in chosen)) for name in names)
        sections.append(_Section(kind, len(chosen), tuple(shown), counts, actions_of(chosen)))
    return sections


def actions_of(findings: Sequence[Finding]) -> str:
    """Say what was done about findings, such as `left out`, or `left out 3, flagged 12`."""
    counts = Counter(finding.action for finding in findings)
    if len(counts) == 1:
        return _DONE[next(iter(counts))]
    return ", ".join(f"{_DONE[action]} {counts[action]:,}" for action in Action if action in counts)


def _spread(findings: Sequence[Finding], most: int) -> list[Finding]:
    """Choose findings from all over a list, so that what is shown is not only its beginning."""
    if len(findings) <= most:
        return list(findings)
    return [findings[number * len(findings) // most] for number in range(most)]


def _thumbnails(
    audit: Audit, wanted: Sequence[tuple[str, str]], progress: Progress | None
) -> dict[tuple[str, str], Markup]:
    by_name = {manifest.info.name: manifest for manifest in audit.before}
    rows = {
        (name, name_of(row)): row for name, manifest in by_name.items() for row in manifest.table.to_dict("records")
    }
    pictures: dict[tuple[str, str], Markup] = {}
    pool = ThreadPoolExecutor()
    try:
        made = pool.map(lambda one: _thumbnail(by_name[one[0]], rows[one], audit.limits), wanted)
        for done, (key, picture) in enumerate(zip(wanted, made, strict=True), start=1):
            if picture:
                pictures[key] = Markup(picture)
            if progress is not None:
                progress(done, len(wanted), "making thumbnails")
    finally:
        pool.shutdown(cancel_futures=True)
    return pictures


def _thumbnail(manifest: Manifest, row: Mapping[Any, Any], limits: ImageLimits) -> str:
    """Return the image of a row, of the frame that it names, as a data URI; empty where it cannot be read."""
    try:
        decoded = manifest.read(row, limits)
        picture = Image.fromarray(decoded.pixels)
        if decoded.colours is not None:
            picture = Image.fromarray(decoded.colours)
    except InputError:
        return ""
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _about(before: Manifest, after: Manifest) -> dict[str, Any]:
    table, given = after.table, before.table
    classes = before.info.classes or tuple(sorted(set(given["label"]) - {""}))
    newly = (given["exclude"] == "") & (table["exclude"] != "")
    reasons = count_exclusions(table.loc[newly, "exclude"])
    known = given[(given["exclude"] == "") & (given["patient"] != "")]
    patients = known.groupby(["site", "patient"]).size()
    counted = [(column, counts_by(given, column, classes)) for column in ("site", "device")]
    return {
        "info": before.info,
        "classes": classes,
        "images": len(given),
        "excluded_before": int((given["exclude"] != "").sum()),
        "labels": [(label, int((given["label"] == label).sum())) for label in classes],
        "unlabelled": int((given["label"] == "").sum()),
        "patients": len(patients),
        "several": int((patients > 1).sum()),
        "most": int(patients.max()) if len(patients) else 0,
        "reasons": list(reasons.items()),
        "left": len(after.included),
        "groups": int(after.included["group"].replace("", None).nunique()),
        "balance": [(column, rows) for column, rows in counted if 0 < len(rows) <= _MOST_ROWS],
        "masks": int((given["mask"] != "").sum()),
    }


def folder_name(name: str) -> str:
    """Return what the folder of a data set's manifest is called, where several were audited together."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "data"
