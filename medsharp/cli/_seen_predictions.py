"""What `medsharp predict` prints of many predictions: the first rows, and each that has no number with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from medsharp.cli._console import console, errors, note

if TYPE_CHECKING:
    from medsharp.bundle import BundleSpec

SHOWN_ROWS = 40


class Seen:
    """Keeps of predictions what is printed of them.

    Args:
        spec: Of the bundle.
        runs_on: Where it ran, in words; empty where nothing was predicted.

    Attributes:
        spec: Of the bundle.
        rows: How many there were.
        silent: Status and sentence of each that has no number.
        all_failed: Whether there was none that could be read.
    """

    def __init__(self, spec: BundleSpec, runs_on: str = "") -> None:
        self.rows = 0
        self.silent: list[tuple[str, str]] = []
        self.all_failed = True
        self.spec = spec
        self._runs_on = runs_on
        self._shown: list[Mapping[str, Any]] = []

    def add(self, rows: Iterable[Mapping[str, Any]]) -> Seen:
        """Look at rows of a table of predictions, also as text.

        Returns:
            Itself.
        """
        for row in rows:
            self.rows += 1
            self.all_failed &= bool(row["error"])
            margin = float(row["threshold_margin"] if row["threshold_margin"] != "" else "nan")
            if margin != margin:
                said = row["error"] or row["reasons"]
                self.silent.append((row["status"], said if row["image"] in said else f"{row['image']}: {said}"))
            elif len(self._shown) < SHOWN_ROWS:
                self._shown.append(row)
        return self

    def show(self) -> None:
        """Print the first rows, and to standard error those without a number."""
        positive = self.spec.positive
        answered = self.rows - len(self.silent)
        if answered:
            table = Table(title="Not for diagnostic use", title_style="bold yellow", title_justify="left")
            for name in ("image", f"probability of {positive}", "operating point", "log odds from it", "remarks"):
                table.add_column(name, overflow="fold")  # a frame's number stands at the end of a name
            for row in self._shown:
                table.add_row(
                    escape(str(row["image"])),
                    f"{float(row[f'p_{positive}']):.3f}",
                    row["threshold_side"],
                    f"{float(row['threshold_margin']):+.2f}",
                    escape("; ".join(filter(None, (_marked(row), _open(row), row["flags"])))),
                )
            console.print(table)
            if answered > SHOWN_ROWS:
                note(f"... and {answered - SHOWN_ROWS} more rows")
            if self._runs_on:
                note(self._runs_on)
            note(f"operating point: probability of {positive} >= {self.spec.operating_point.threshold:.4f}")
        for status, sentence in self.silent:
            errors.print(f"[bold red]{status}:[/] {escape(sentence)}", soft_wrap=True)


def _marked(row: Mapping[str, Any]) -> str:
    """Say what the checks found in an image that has a number."""
    if row["status"] == "refused":
        return f"answered against a refusal: {row['reasons']}"
    return f"caution: {row['reasons']}" if row["status"] == "cautioned" else ""


def _open(row: Mapping[str, Any]) -> str:
    """Say which classes cannot be ruled out, where it is not one alone."""
    from medsharp.bundle.prediction_sets import ALPHA, NO_CLASS, PREDICTION_SET

    found = str(row[PREDICTION_SET])
    return f"{100 * (1 - ALPHA):.0f} % set: {found}" if ";" in found or found == NO_CLASS else ""
