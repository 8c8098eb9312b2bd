"""What a data set's own table says of its images: where it says so, nothing is guessed from pixels."""

from __future__ import annotations

from dataclasses import dataclass

from medsharp.data.audit.finding import KINDS, Finding
from medsharp.data.manifest import Manifest

COLUMNS = {"doppler": "doppler", "combined": "dual-view", "marks": "calipers"}
"""Columns of a manifest, in whatever case, and the kind of finding that each decides."""

_YES = frozenset({"1", "1.0", "yes", "y", "true", "t", "x", "si", "sí", "s", "ja", "oui"})
_NO = frozenset({"0", "0.0", "no", "n", "false", "f", "nein", "non", "none", "-"})


@dataclass(frozen=True)
class Statement:
    """What a cell says.

    Attributes:
        column: Its name in the manifest.
        value: As it stands there.
        holds: Whether the image is of that kind.
    """

    column: str
    value: str
    holds: bool

    def __str__(self) -> str:
        return f"the column {self.column} says {self.value}" if self.value else f"the column {self.column} is empty"


def read_statements(manifest: Manifest) -> tuple[dict[int, dict[str, Statement]], list[Finding]]:
    """Read the columns that decide a kind of finding.

    A cell says yes or no, in some languages, as a number or as a cross; its column's own name is a yes. An empty cell
    says nothing, except in a column that says yes elsewhere and no nowhere: there it is the box that was not ticked.

    Returns:
        By row, what is stated of each kind; and a finding for each column with cells that are neither yes nor no.
    """
    stated: dict[int, dict[str, Statement]] = {}
    findings = []
    for column in manifest.table.columns:
        kind = COLUMNS.get(str(column).strip().lower())
        if kind is None:
            continue
        cells = {int(row): str(value).strip() for row, value in manifest.table[column].items()}
        words = {value.lower() for value in cells.values()}
        yes, no = words & (_YES | {str(column).strip().lower()}), words & _NO
        unread = [value for value in cells.values() if value and value.lower() not in yes | no]
        for row, value in cells.items():
            word = value.lower()
            if word in yes or word in no or (not word and yes and not no):
                stated.setdefault(row, {})[kind] = Statement(str(column), value, word in yes)
        if unread:
            examples = ", ".join(f"'{value}'" for value in sorted(set(unread))[:3])
            detail = f"the column {column} has {len(unread):,} cells that are neither yes nor no, such as {examples}"
            findings.append(Finding(manifest.info.name, "", "column", detail, KINDS["column"].action))
    return stated, findings
