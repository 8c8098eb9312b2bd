"""Whether a model reads annotations: flips under each, against the flips under its control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medsharp.evaluation.statistics.estimate import ALWAYS_THE_SAME, Estimate
from medsharp.robustness.cells import FLIPS, Cell
from medsharp.robustness.corruptions import CORRUPTIONS, SEVERITIES


def against_controls(cells: Mapping[tuple[str, int], Cell], guessed: bool = False) -> list[dict[str, Any]]:
    """Return a test an annotation: it, its control, and their paired difference, annotation minus control.

    The difference is over the same images and resampled patients. It is tested once, on the mean of all severities, so
    that no severity is picked.

    Args:
        cells: By corruption and severity.
        guessed: Where the lesion is was guessed on some images.

    Returns:
        `corruption`, `control` (None where it was not run), `flips`, `control_flips` and `difference` of `FLIPS`, means
        over severities; `severities`, the same at each of them; and `sentence`, what may be claimed.
    """
    names = [name for name in dict.fromkeys(name for name, _ in cells) if CORRUPTIONS[name].family == "annotation"]
    controls = {entry.control_of: name for name, entry in CORRUPTIONS.items() if (name, SEVERITIES[0]) in cells}
    return [_test(cells, name, controls.get(name), guessed) for name in names]


def _test(cells: Mapping[tuple[str, int], Cell], name: str, control: str | None, guessed: bool) -> dict[str, Any]:
    def flips(of: str, at: tuple[int, ...]) -> dict[str, Estimate]:
        return {kind: Estimate.mean([cells[of, severity].flips[kind] for severity in at]) for kind in FLIPS}

    def pair(at: tuple[int, ...]) -> dict[str, Any]:
        ours = flips(name, at)
        found: dict[str, Any] = {"flips": _figures(ours), "control_flips": None, "difference": None}
        if control is not None:
            theirs = flips(control, at)
            found["control_flips"] = _figures(theirs)
            found["difference"] = _figures({kind: ours[kind] - theirs[kind] for kind in FLIPS})
        return found

    severities = [{"severity": severity, **pair((severity,))} for severity in SEVERITIES]
    test = {"corruption": name, "control": control, **pair(SEVERITIES), "severities": severities}
    return {**test, "sentence": sentence_of(test, guessed)}


def _figures(estimates: dict[str, Estimate]) -> dict[str, Any]:
    return {kind: estimate.figure() for kind, estimate in estimates.items()}


def sentence_of(test: Mapping[str, Any], guessed: bool = False) -> str:
    """Say what an annotation's test shows, and no more than its control allows.

    Args:
        test: One of `against_controls`.
        guessed: Where the lesion is was guessed on some images.
    """
    subject, beside, cause, caveat = _WORDS[test["corruption"]]
    if guessed:
        subject = subject.replace("on the lesion", "on the lesion, or where it was guessed to be,")
    if test["control"] is None:
        return f"{subject}: no control was run, so flips are not shown to come from what is drawn."
    part = test["difference"]["all"]
    alike = part["value"] == 0 and part.get("reason") == ALWAYS_THE_SAME
    if part["low"] is None and not alike:
        return f"{subject}: {part['reason']}, so nothing is claimed."
    if alike or part["low"] <= 0 <= part["high"]:
        start = f"{subject} not shown to flip more or fewer decisions than {beside}"
        other_way = _by_direction(test["difference"])
        return f"{start}{other_way}." if other_way else f"{start}: that the model reads {cause} is not shown."
    more = part["value"] > 0
    start = f"{subject} seen to flip {_points(part)} decisions than {beside}"
    return f"{start}: {caveat}." if more else f"{start}: that the model reads {cause} is not shown."


def _by_direction(differences: Mapping[str, Any]) -> str:
    """Say which of the two directions differs where their sum does not: one may be more, the other less."""
    said = [
        f"{_points(differences[kind])} to {kind.removeprefix('to_')}"
        for kind in ("to_positive", "to_negative")
        if differences[kind]["low"] is not None and not differences[kind]["low"] <= 0 <= differences[kind]["high"]
    ]
    return f" in all; by direction they differ: {' and '.join(said)} (not corrected for two looks)" if said else ""


def _points(part: Mapping[str, Any]) -> str:
    low, high = sorted(abs(part[key]) * 100 for key in ("low", "high"))
    which = "more" if part["value"] > 0 else "fewer"
    return f"{abs(part['value']) * 100:.1f} percentage points ({low:.1f} to {high:.1f}) {which}"


_PATCH = "a flat patch in the same place, as large and as bright"
_DRAWN = "what is drawn matters to the model, not only what it covers"
_WORDS = {
    "calipers": (
        "Calipers on the lesion are",
        "the same crosses beside it",
        "them where they measure",
        "where they lie matters to the model, be it that it reads the measuring or that the lesion's edge is covered",
    ),
    "burned_in_text": ("Text is", _PATCH, "it", _DRAWN),
    "body_marker": ("The body marker is", _PATCH, "it", _DRAWN),
    "vendor_banner": ("The banner is", "flat patches in the same places, as large and as bright", "it", _DRAWN),
}
