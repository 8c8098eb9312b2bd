"""The figures as rows of a table: one a figure, a data set and a group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from medsharp.evaluation.report.abstention import abstention_rows
from medsharp.evaluation.report.by_patient import unit_rows
from medsharp.evaluation.report.readers import reader_rows

COLUMNS = (
    "dataset",
    "role",
    "simulated",
    "by",
    "group",
    "figure",
    "value",
    "low",
    "high",
    "images",
    "method",
    "reason",
)


def figure_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every figure of an `evaluation.json` document as a row; numbers are as there, empty where there is none.

    `by` and `group` are empty for a whole data set. A row `change_<figure>` is the external minus the internal one.
    With several classes `by` is `class`, or `all classes` for the averages over them; for conformal sets it is
    `prediction sets`, and `group` how they were made. By `patient` or `lesion`, `group` says how the images'
    probabilities become one (`mean`, `maximum`, or `any` image called), and `images` counts patients or lesions. For
    readers it is `reader`, and `group` who, and from which step of the scale on; differences are the model's figure
    less the reader's. What the input checks did is by `refused`, `cautioned`, `check`, `intention to diagnose`,
    `answered anyway` (with `change_<figure>`: all less answered images), `marked` and `policy`. The summary over
    external data sets has no data set; its rows `<figure>_prediction` hold where the next one may lie.
    """
    rows = [row for entry in document["datasets"] for row in _rows_of(entry, document)]
    return [*rows, *_summary(document)]


def _rows_of(entry: dict[str, Any], document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    where = {"dataset": entry["name"], "role": entry["role"], "simulated": str(entry["simulated"]).lower()}
    for name, figure in entry["figures"].items():
        yield _row(where, name, figure)
    if entry["role"] != "internal":
        for change in document["changes"]:
            if change["name"] == entry["name"]:
                for name, figure in change["figures"].items():
                    yield _row(where, f"change_{name}", figure)
    for group in entry["subgroups"]:
        place = where | {"by": group["by"], "group": group["group"]}
        for name, figure in group.items():
            if isinstance(figure, dict) and "value" in figure:
                yield _row(place, name, figure)

    for by, group_of, name, figure in abstention_rows(entry):
        yield _row(where | {"by": by, "group": group_of}, name, figure)
    yield from _classes(entry, where)
    yield from _sets(entry, where)
    for unit, rule, name, figure in unit_rows(entry):
        yield _row(where | {"by": unit, "group": rule}, name, figure)
    for group, name, figure in reader_rows(entry):
        yield _row(where | {"by": "reader", "group": group}, name, figure)


def _classes(entry: dict[str, Any], where: dict[str, Any]) -> Iterator[dict[str, Any]]:
    found = entry.get("multiclass")
    if found:
        for name, figure in found["overall"].items():
            yield _row(where | {"by": "all classes"}, name, figure)
        for label, figures in found["one_vs_rest"].items():
            for name, figure in figures.items():
                if isinstance(figure, dict):
                    yield _row(where | {"by": "class", "group": label}, name, figure)


def _sets(entry: dict[str, Any], where: dict[str, Any]) -> Iterator[dict[str, Any]]:
    found = entry.get("conformal") or {}
    for kind in ("marginal", "label_conditional"):
        if kind not in found:
            continue
        place = where | {"by": "prediction sets", "group": kind}
        for name, figure in found[kind].items():
            if isinstance(figure, dict) and "value" in figure:
                yield _row(place, name, figure)
        for label, figure in found[kind]["coverage_by_label"].items():
            yield _row(place, f"coverage of {label}", figure)
        for site in found[kind]["by_site"]:
            yield _row(place, f"coverage at {site['site']}", site)


def _summary(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    where = {"role": "external", "by": "random effects"}
    for name, found in ((document.get("site_summary") or {}).get("figures", {})).items():
        yield _row(where, name, found)
        limits = {"value": None, "low": found["prediction_low"], "high": found["prediction_high"]}
        yield _row(where, f"{name}_prediction", limits | {"method": found.get("method"), "reason": found.get("reason")})


def _row(where: dict[str, Any], name: str, figure: dict[str, Any]) -> dict[str, Any]:
    given = {"figure": name, "images": figure.get("n")}
    given |= {key: figure.get(key) for key in ("value", "low", "high", "method", "reason")}
    row = {**dict.fromkeys(COLUMNS, ""), **where, **given}
    return {key: "" if value is None else value for key, value in row.items()}
