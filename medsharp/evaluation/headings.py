"""Columns of a table of predictions beside the model's answers."""

from __future__ import annotations

from medsharp.evaluation.findings import CHECKS, REASONS, STATUS

GROUPS = ("site", "device", "birads", "histology")
"""Images are counted, and figures given, by each of these."""

THRESHOLD, ORIGIN, OF_CLASS = "threshold", "threshold_from", "threshold_class"
"""The operating point that a row was decided by, which bundle or run it is of, and of which class's probability."""

KNOWN = (
    "image", "label", "patient", "group", "sha256", "split", "exclude", "error", "flags",
    STATUS, REASONS, CHECKS, THRESHOLD, OF_CLASS, ORIGIN, *GROUPS,
)  # fmt: skip
"""Columns that are used where they are, in whatever case; `Patient ID` and the like are the patient."""

OURS = frozenset({"split", STATUS, ORIGIN})
"""Columns of tables that medsharp wrote, whose empty cells say that nothing is known: nobody merged them."""
