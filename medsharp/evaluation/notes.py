"""Sentences that must stand beside the figures of a data set."""

from __future__ import annotations

from typing import Any

import numpy as np

from medsharp.evaluation.statistics.calibration import CLIP
from medsharp.quantities import counted

_FEW_CLUSTERS = 30


def alarming(note: str) -> bool:
    """Tell whether a note says that the figures do not mean what a reader takes them for."""
    return note.startswith("LEAK")


def is_leaked(entry: dict[str, Any]) -> bool:
    """Tell whether the model knows images of a data set of `evaluation.json`."""
    return any(map(alarming, entry.get("notes", ())))


def is_extreme(probabilities: np.ndarray) -> np.ndarray:
    """Return of each probability whether it is taken as another where a logarithm is, bool [N]."""
    return (probabilities < CLIP) | (probabilities > 1 - CLIP)


def refusal_notes(counts: dict[str, Any]) -> list[str]:
    """Return a sentence on the refused images, if there are any."""
    if not counts["refused"]:
        return []
    some = counted(counts["images"], "image")
    were = counted(counts["refused"], "more was", "more were")
    return [f"The figures are of the {some} answered; {were} refused by the input checks: see Refusals and cautions."]


def notes_of(counts: dict[str, Any], *, extreme: int, constant: bool) -> list[str]:
    """Return what a reader must know of these data: refused images, few or tied patients, extreme probabilities.

    Args:
        counts: As `medsharp.evaluation.counts.counts_of` gives them.
        extreme: How many probabilities are 0 or 1.
        constant: Whether every image has the same.
    """
    notes = refusal_notes(counts)
    if counts["clusters"] == 1:
        notes.append("There is one patient only: no interval can be given.")
    elif min(counts["clusters_by_label"].values()) < _FEW_CLUSTERS:
        notes.append(
            f"A class has fewer than {_FEW_CLUSTERS} patients or groups: "
            "intervals from so few are rough and often too narrow."
        )
    if counts["clusters_of_several_labels"]:
        number = counts["clusters_of_several_labels"]
        who = "patient or group has" if number == 1 else "patients or groups have"
        notes.append(f"{number} {who} images of several classes; they are kept and resampled together.")
    if 0 < counts["images_without_patient"] < counts["images"]:
        nameless = counts["images_without_patient"]
        have = f"{counted(nameless, 'image')} {'has' if nameless == 1 else 'have'} no patient"
        notes.append(f"{have}; each stands for one, or its group of near-duplicates does.")
    if extreme:
        are = counted(extreme, "probability is", "probabilities are")
        notes.append(f"{are} 0 or 1; log loss and calibration take them as {CLIP:g} and 1 - {CLIP:g}.")
    if constant:
        notes.append("Every image has the same probability: the model does not rank these images at all.")
    return notes
