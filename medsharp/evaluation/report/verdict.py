"""What a clinician may repeat: what the model keeps elsewhere, what it loses, and whether acting by it does good.

Each word is one that a 95 % interval allows, of the change from the internal to the external images, or of the net
benefit gained. `falls` and `rises`: the interval excludes zero. `keeps`: it includes zero, and excludes a loss of five
points (AUROC: 0.05). Anything else is `not shown`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medsharp.evaluation.quantities import counted
from medsharp.evaluation.report.blocks import Block, Line, Section, Text, joined, strong
from medsharp.evaluation.report.wording import alarming, change_text, changes_of, interval, is_percent, number, percent

TOLERATED = 0.05
"""A loss that the interval of a change must exclude before a figure is called kept."""

_FIGURES = (("auroc", "AUROC"), ("sensitivity", "sensitivity"), ("specificity", "specificity"))
_GAIN = "net_benefit_gain_at_threshold"
_MOST = 3
"""Of more external data sets the worst alone is told of."""


def verdict_section(document: dict[str, Any]) -> Section:
    """Return the verdict on each external data set, the worst first; of many, on the worst."""
    entries = document["datasets"]
    external = sorted((entry for entry in entries if entry["role"] != "internal"), key=_area)
    if not external:
        no_other = "What the model keeps elsewhere is not shown: all images here are of the hospital it was trained on."
        said: list[Block] = [Text(no_other, "verdict"), *(Text(_benefit(entry), "verdict") for entry in entries)]
        return Section("verdict", "In short", said)
    said = []
    if len(external) > 1:
        worst = external[0]["figures"]["auroc"]
        where = f" (AUROC {interval(worst)})." if worst["value"] is not None else ", where it does not rank at all."
        count = f"Of {counted(len(external), 'external data set')} the model ranks worst on "
        said.append(Text((count, strong(external[0]["name"]), where)))
    told = external if len(external) <= _MOST else external[:1]
    said += [Text(_verdict(document, entry), "verdict") for entry in told]
    if any(entry["name"] in changes_of(document) for entry in told):
        how = (
            "Falls, rises: the 95 % interval of the change from the internal images excludes zero. Keeps: it includes "
            f"zero and excludes a loss of {number(TOLERATED, 0, 100)} points ({number(TOLERATED, 2)} in AUROC)."
        )
        said.append(Text(how, "soft"))
    return Section("verdict", "In short", said)


def _area(entry: dict[str, Any]) -> float:
    """Return what data sets are ordered by; a model that does not rank at all is worst."""
    value = entry["figures"]["auroc"]["value"]
    return -1.0 if value is None else float(value)


def _verdict(document: dict[str, Any], entry: dict[str, Any]) -> Line:
    where: Line = ("On ", strong(entry["name"]), " (simulated)" if entry["simulated"] else "", " ")
    if any(map(alarming, entry["notes"])):
        return joined([where, "nothing is shown: the model knows some of these images."], "")
    return joined([joined([where, _transported(document, entry)], ""), _benefit(entry)])


def _transported(document: dict[str, Any], entry: dict[str, Any]) -> str:
    """Say in one sentence what becomes of ranking, sensitivity and specificity on the way from the internal images."""
    internal = next((other for other in document["datasets"] if other["role"] == "internal"), None)
    changes = changes_of(document).get(entry["name"])
    if internal is None or changes is None:
        figures = ", ".join(f"{name} {interval(entry['figures'][key], key)}" for key, name in _FIGURES)
        return f"the model has {figures}; what it keeps or loses is not shown, without internal images beside these."
    parts: dict[str, list[tuple[str, str]]] = {"keeps": [], "falls": [], "rises": [], "not shown": []}
    for key, name in _FIGURES:
        before, after = (part["figures"][key]["value"] for part in (internal, entry))
        found = changes.get(key)
        if found is None or before is None or after is None:
            parts["not shown"].append((name, "(not known of both)"))
            continue
        kind = _kind(found)
        moved = kind in ("falls", "rises")
        parts[kind].append((name, _span(found, key, before, after, moved=moved)))
    said = [f"the model keeps its {_and([' '.join(part) for part in parts['keeps']])}"] if parts["keeps"] else []
    said += [f"{name} {verb} {span}" for verb in ("falls", "rises") for name, span in parts[verb]]
    if parts["not shown"]:
        said.append(f"whether it keeps its {_and([' '.join(part) for part in parts['not shown']])} is not shown")
    return f"{_and(said, semicolons=True)}."


def _kind(found: dict[str, Any]) -> str:
    """Return what the interval of a change allows one to say."""
    if found["low"] is None:
        return "not shown"
    if found["high"] < 0:
        return "falls"
    if found["low"] > 0:
        return "rises"
    return "keeps" if found["low"] > -TOLERATED else "not shown"


def _span(found: dict[str, Any], key: str, before: float, after: float, *, moved: bool) -> str:
    """Write `from 66 % to 20 % (change ...)` of what moved, else `(95 % to 94 %, change ...)`."""
    write = percent if is_percent(key) else number
    change = f"change {change_text(found, key)}{' points' if is_percent(key) else ''}"
    if moved:
        return f"from {write(before)} to {write(after)} ({change})"
    return f"({write(before)} to {write(after)}, {change})"


def _benefit(entry: dict[str, Any]) -> str:
    """Say in one sentence whether acting by the model is better than treating everyone, or no one."""
    found = entry["figures"].get(_GAIN)
    if found is None:
        return "Whether acting by it beats treating everyone is not shown: these figures have no net benefit."
    threshold = percent(entry["threshold"], 1)
    both = "treating everyone and treating no one"
    if found["value"] is None or found["low"] is None:
        known = "" if found["value"] is None else f"; net benefit gained {change_text(found)}"
        return (
            f"Whether acting by it from a risk of {threshold} on beats {both} is not shown: {found['reason']}{known}."
        )
    gained = f"net benefit gained {change_text(found)}"
    if found["low"] > 0:
        return f"Acting by it from a risk of {threshold} on beats {both}: {gained}."
    if found["high"] < 0:
        return f"Acting by it from a risk of {threshold} on is worse than the better of {both}: {gained}."
    return f"That acting by it from a risk of {threshold} on beats {both} is not shown: {gained}."


def _and(parts: Sequence[str], *, semicolons: bool = False) -> str:
    if len(parts) < 2:
        return "".join(parts)
    return f"{('; ' if semicolons else ', ').join(parts[:-1])}{'; ' if semicolons else ' and '}{parts[-1]}"
