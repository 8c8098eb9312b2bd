"""What the input checks refused and marked on a data set, and the figures with and without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from medsharp.evaluation.plots import abstaining
from medsharp.evaluation.report.blocks import Block, Cell, Column, Heading, Plot, Plots, Row, Table, Text
from medsharp.evaluation.report.wording import change, change_text, figure, interval
from medsharp.evaluation.statistics.registry import ALL, HEADLINE
from medsharp.quantities import counted, whole

TITLE = "Refusals and cautions"

POLICIES = {
    "unmarked": "those that no check marks",
    "answered": "all but the refused",
    "all": "all, the refused too",
}
"""Who is answered."""

_NUMBER = partial(Column, number=True)


def abstention_blocks(entry: dict[str, Any], number_of: int) -> list[Block]:
    """Return the part on refusals and cautions of a data set whose table says what became of each image."""
    found = entry.get("abstention")
    if not found:
        return []
    blocks: list[Block] = [Heading(TITLE, 3), Text(_summary(found))]
    if found["checks"]:
        blocks.append(_checks(entry, found))
    if found["refused"]["images"]:
        blocks += _with_and_without(entry, found)
    return [*blocks, *_marked(entry, found), *_policies(entry, found, number_of)] if found["checks"] else blocks


def refusals_of(entry: dict[str, Any]) -> list[str]:
    """Say how many images of which class were refused, and by which check, for the flow diagram."""
    found = entry.get("abstention")
    if not found:
        return []
    labels = ", ".join(f"{label} ({whole(images)})" for label, images in found["refused"]["labels"].items())
    return [labels, *(f"{name_of(check)}: {whole(check['images'])}" for check in refusing(found))]


def refusing(found: dict[str, Any], outcome: str = "refusal") -> list[dict[str, Any]]:
    """Return the checks that refused images, or that marked them."""
    return [check for check in found["checks"] if check["outcome"] == outcome]


def name_of(check: dict[str, Any]) -> str:
    """Name a check as a reader would: by what it says, or by its key."""
    return str(check["sentence"] or check["check"].replace("_", " "))


def _summary(found: dict[str, Any]) -> str:
    refused, marked, images = found["refused"], found["cautioned"], counted(found["images"], "image")
    if not refused["images"]:
        first = f"The input checks refused none of {images} (share {interval(refused['share'], 'share')})"
    else:
        first = (
            f"The input checks refused {whole(refused['images'])} of {images} ({interval(refused['share'], 'share')})"
        )
    second = f"marked {whole(marked['images']) if marked['images'] else 'none'}"
    second += f" ({interval(marked['share'], 'share')})." if marked["images"] else "."
    answered = found["images"] - refused["images"]
    rest = f" A refused image has no answer: the figures above are of the {whole(answered)} others."
    return f"{first} and {second}{rest if refused['images'] else ''}"


def _checks(entry: dict[str, Any], found: dict[str, Any]) -> Table:
    classes = entry["classes"]

    def cells(name: str, part: dict[str, Any]) -> list[Cell]:
        shares = [figure(part["share_by_label"][label], "share") for label in classes]
        return [
            name,
            whole(part["images"]),
            figure(part["share"], "share"),
            *shares,
            figure(part.get("error_rate"), "error_rate"),
        ]

    rows: list[Row | Sequence[Cell]] = []
    for outcome, key, title in (("refusal", "refused", "Refused"), ("caution", "cautioned", "Marked, and answered")):
        checks = refusing(found, outcome)
        if checks:
            rows.append(Row((title,), kind="head"))
            rows += [cells(name_of(check), check) for check in checks]
            # An image may be refused, or marked, by several.
            rows += [cells("together", found[key])] if len(checks) > 1 else []
    shares = [f"Of {label} images" for label in classes]
    header: list[str | Column] = ["Check", _NUMBER("Images"), "Of all images", *shares, "Decided wrongly"]
    return Table(f"What the checks found on {entry['name']}", header, rows, "subgroups", captioned=False)


def _with_and_without(entry: dict[str, Any], found: dict[str, Any]) -> list[Block]:
    anyway, worst = found["anyway"], found["intention_to_diagnose"]
    known = "figures" in anyway
    rows: list[Sequence[Cell]] = []
    for key in HEADLINE:
        if key not in entry["figures"] or not (known or key in worst):
            continue
        cells: list[Cell] = [ALL[key].name, figure(entry["figures"][key], key)]
        if known:
            moved = anyway["changes"].get(key)
            cells += [figure(anyway["figures"].get(key), key), None if moved is None else change(moved, key)]
        rows.append([*cells, figure(worst[key], key) if key in worst else None])
    more = ("All images, answered anyway", "Change: all less answered") if known else ()
    header = ("Figure", "Answered images", *more, "Refused counted as wrong")
    text = (
        "A model that refuses what is hard looks better on the rest. Refused counted as wrong (intention to diagnose): "
        "a refused positive image is a missed one, a refused negative one a false alarm; no handling of them is worse."
    )
    if not known:
        text += f" Figures of all images are not given: {anyway['reason']}."
    caption = f"With and without the refused images of {entry['name']}"
    return [Text(text, "soft"), Table(caption, header, rows, "subgroups")]


def _marked(entry: dict[str, Any], found: dict[str, Any]) -> list[Block]:
    marked = found["marked"]
    if marked is None:
        return []
    if "reason" in marked:
        return [Text(f"Marked images are not compared with the others: {marked['reason']}.", "soft")]
    one, other = marked["cautioned"], marked["others"]
    names = {key: "Wrong decisions" if key == "error_rate" else ALL[key].name for key in one if key in ALL}
    rows = [
        (name, figure(one[key], key), figure(other.get(key), key),
         change(marked["differences"][key], key) if key in marked["differences"] else None)
        for key, name in names.items()
    ]  # fmt: skip
    header = ("Figure", f"Marked ({counted(one['images'], 'image')})", f"Others ({counted(other['images'], 'image')})",
              "Marked less others")  # fmt: skip
    return [Table(f"Are marked images worse on {entry['name']}?", header, rows, "subgroups")]


def _policies(entry: dict[str, Any], found: dict[str, Any], number_of: int) -> list[Block]:
    """Return the risk-coverage curves with the points that the checks choose, or those alone."""
    rows = [
        (POLICIES[part["policy"]], whole(part["images"]), figure(part["coverage"], "share"),
         figure(part["risk"], "error_rate"))
        for part in found["policies"]
    ]  # fmt: skip
    header = ("Answered", _NUMBER("Images"), "Share of all images", "Of them decided wrongly")
    table = Table(f"Coverage and wrong decisions on {entry['name']}", header, rows, "small", scrolls=False)
    curve = found["risk_coverage"]
    if curve is None:
        return [table]
    areas = curve["aurc"]
    text = (
        "Wrong decisions among the images decided, the least certain left out first: by distance from the threshold "
        "alone, and with what the checks mark left out before that and what they refuse before all. Mean over all "
        f"coverages: {interval(areas['confidence'])} by distance alone, {interval(areas['checks'])} with the checks, "
        f"change {change_text(areas['difference'])} (below 0: the checks find what the model gets wrong)."
    )
    legend = f"Points, from the left: {'; '.join(POLICIES[part['policy']] for part in found['policies'])}."
    draw = partial(abstaining, entry, f"d{number_of}-abstention")
    return [Plots([Plot(text, draw, "Errors when the checks abstain", legend, numbers=table)], wide=True)]


def abstention_rows(entry: dict[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Give by, group, name and figure of everything that is known of refusals and cautions, for a table of figures."""
    found = entry.get("abstention")
    if not found:
        return
    parts = [(key, "", found[key]) for key in ("refused", "cautioned")]
    parts += [("check", f"{check['outcome']}: {check['check']}", check) for check in found["checks"]]
    for by, group, part in parts:
        yield by, group, "share", part["share"]
        yield from ((by, group, f"share of {label}", share) for label, share in part["share_by_label"].items())
        if "error_rate" in part:
            yield by, group, "error_rate", part["error_rate"]
    yield from (("intention to diagnose", "", key, part) for key, part in found["intention_to_diagnose"].items())
    anyway = found["anyway"] or {}
    yield from (("answered anyway", "", key, part) for key, part in anyway.get("figures", {}).items())
    yield from (("answered anyway", "", f"change_{key}", part) for key, part in anyway.get("changes", {}).items())
    for group, figures in (found["marked"] or {}).items():
        if isinstance(figures, dict):
            named = ((key, part) for key, part in figures.items() if isinstance(part, dict))
            yield from (("marked", group, key, part) for key, part in named)
    for policy in found["policies"]:
        yield "policy", policy["policy"], "coverage", policy["coverage"]
        yield "policy", policy["policy"], "error_rate", policy["risk"]
    for key, part in (found["risk_coverage"] or {}).get("aurc", {}).items():
        yield "policy", f"left out by {key}" if key != "difference" else "checks less confidence", "aurc", part
