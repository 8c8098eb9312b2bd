"""What a clinician may repeat: what the model keeps elsewhere, what it loses, and whether acting by it does good.

Each word is one that a 95 % interval allows, of the change from the internal to the external images, or of the net
benefit gained. `falls` and `rises`: the interval excludes zero. `keeps`: it includes zero, and excludes a loss of five
points (AUROC: 0.05). Anything else is `not shown`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medsharp.evaluation.notes import is_leaked
from medsharp.evaluation.report.blocks import Block, Line, Section, Text, joined, soft, strong
from medsharp.evaluation.report.wording import (
    OWN_THRESHOLDS,
    change_text,
    changes_of,
    has_own_thresholds,
    interval,
    is_percent,
    percent,
)
from medsharp.evaluation.sites import apart
from medsharp.quantities import counted, number

TOLERATED = 0.05
"""A loss that the interval of a change must exclude before a figure is called kept."""

_FIGURES = (("auroc", "AUROC"), ("sensitivity", "sensitivity"), ("specificity", "specificity"))
_GAIN = "net_benefit_gain_at_threshold"
_MOST = 3
"""Of more external data sets the worst alone is told of."""


def verdict_section(document: dict[str, Any]) -> Section:
    """Return the verdict on each external data set, the worst first; of many, on the worst."""
    entries = document["datasets"]
    external = sorted((entry for entry in entries if entry["role"] != "internal"), key=_order)
    if not external:
        no_other = "What the model keeps elsewhere is not shown: all images here are of the hospital it was trained on."
        said: list[Block] = [Text(no_other, "verdict"), *(Text(_benefit(entry), "verdict") for entry in entries)]
        return Section("verdict", "In short", said)
    said = []
    hospitals = [entry for entry in external if not apart(entry)]
    real = [entry for entry in hospitals if not entry["simulated"]] or hospitals
    if len(real) > 1:
        worst = real[0]["figures"]["auroc"]
        where = f" (AUROC {interval(worst)})." if worst["value"] is not None else ", where it does not rank at all."
        count = f"Of {counted(len(real), 'data set')} from elsewhere the model ranks worst on "
        said.append(Text((count, strong(real[0]["name"]), where), "verdict"))
    told = external if len(external) <= _MOST else external[:1]
    said += [Text(_verdict(document, entry), "verdict") for entry in told]
    if any(entry["name"] in changes_of(document) for entry in told):
        how = (
            "Falls, rises: the 95 % interval of the change from the internal images excludes zero. Keeps: it includes "
            f"zero and excludes a loss of {number(TOLERATED, 0, 100)} points ({number(TOLERATED, 2)} in AUROC)."
        )
        said.append(Text(how, "soft"))
    return Section("verdict", "In short", said)


def _order(entry: dict[str, Any]) -> tuple[bool, bool, float]:
    """Put the worst ranking first, which is none at all; then simulated hospitals, where no patient was, and leaks."""
    value = entry["figures"]["auroc"]["value"]
    return bool(apart(entry)), bool(entry["simulated"]), -1.0 if value is None else float(value)


def _verdict(document: dict[str, Any], entry: dict[str, Any]) -> Line:
    where: Line = ("On ", strong(entry["name"]), " (simulated) " if entry["simulated"] else " ")
    if is_leaked(entry):
        return joined([where, "nothing is shown: the model knows some of these images."], "")
    return joined([joined([where, _transported(document, entry)], ""), _benefit(entry)])


def _transported(document: dict[str, Any], entry: dict[str, Any]) -> Line:
    """Say in one sentence what becomes of ranking, sensitivity and specificity on the way from the internal images."""
    internal = next((other for other in document["datasets"] if other["role"] == "internal"), None)
    changes = changes_of(document).get(entry["name"])
    if internal is None or changes is None:
        figures = ", ".join(f"{name} {interval(entry['figures'][key], key)}" for key, name in _FIGURES)
        return f"the model has {figures}; what it keeps or loses is not shown, without internal images beside these."
    parts: dict[str, list[Line]] = {"keeps": [], "falls": [], "rises": [], "not shown": []}
    for key, name in _FIGURES:
        before, after = (part["figures"][key]["value"] for part in (internal, entry))
        found = changes.get(key)
        if found is None or before is None or after is None:
            parts["not shown"].append(f"{name} (not known of both)")
            continue
        kind = _kind(found)
        write = percent if is_percent(key) else number
        change = f"{change_text(found, key)}{' points' if is_percent(key) else ''}"
        if kind in ("falls", "rises"):
            parts[kind].append((f"{name} {kind} from {write(before)} to {write(after)}", soft(f" ({change})")))
        else:
            parts[kind].append((f"{name} of {write(before)}", soft(f" (here {write(after)}, {change})")))
    said: list[Line] = [joined(["the model keeps its ", _and(parts["keeps"])], "")] if parts["keeps"] else []
    said += [*parts["falls"], *parts["rises"]]
    if parts["not shown"]:
        said.append(joined(["that it keeps its ", _and(parts["not shown"]), " is not shown"], ""))
    return joined([joined(said, "; "), "."], "")


def _kind(found: dict[str, Any]) -> str:
    """Return what the interval of a change allows one to say."""
    if found["low"] is None:
        return "not shown"
    if found["high"] < 0:
        return "falls"
    if found["low"] > 0:
        return "rises"
    return "keeps" if found["low"] > -TOLERATED else "not shown"


def _benefit(entry: dict[str, Any]) -> Line:
    """Say in one sentence whether acting by the model is better than treating everyone, or no one."""
    found = entry["figures"].get(_GAIN)
    if found is None:
        return "Whether acting by it beats treating everyone is not shown: these figures have no net benefit."
    score = entry.get("scale") == "score"
    start = f"a score of {entry['threshold']:.4g}" if score else f"a risk of {percent(entry['threshold'], 1)}"
    acting = f"acting by it from {start} on"
    if has_own_thresholds(entry):
        acting = f"acting by it, {OWN_THRESHOLDS.replace('each', 'each image', 1)},"
    both = "treating everyone and treating no one"
    if found["value"] is None or found["low"] is None:
        return f"Whether {acting} beats {both} is not shown: {found['reason']}."
    gained = soft(f" (net benefit gained {change_text(found)})")
    if found["low"] > 0:
        return (f"{acting.capitalize()} beats {both}", gained, ".")
    if found["high"] < 0:
        return (f"{acting.capitalize()} is worse than the better of {both}", gained, ".")
    return (f"That {acting} beats {both} is not shown", gained, ".")


def _and(parts: Sequence[Line]) -> Line:
    return joined([joined(parts[:-1], ", "), parts[-1]], " and ") if len(parts) > 1 else joined(parts)
