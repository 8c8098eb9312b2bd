"""A cross-validation on the screen: a bar over all epochs with the time that remains, and a line a member."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.progress import TextColumn, TimeRemainingColumn

from medsharp.cli._console import note
from medsharp.cli._late_bar import LateBar


class CrossvalidationProgress(LateBar):
    """Takes the events of `training.crossvalidation.crossvalidate`; use it as a context."""

    def __init__(self) -> None:
        super().__init__(TextColumn("{task.percentage:3.0f} %"), TimeRemainingColumn())
        self.epochs: dict[str, float] = {}
        self.auroc: dict[str, float] = {}
        self.total = 0
        self.ended = 0

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event."""
        kind = event["kind"]
        if kind == "crossvalidation":
            self.total, self.ended = event["members"], event["finished"]
            if event["finished"]:
                note(f"{event['finished']} of {event['members']} members are finished already")
            if event["epochs"]:
                self.begin(event["epochs"])
        elif kind == "start":
            self.epochs[event["member"]] = event["epoch"]
        elif kind == "batch":
            self.epochs[event["member"]] = event["epoch"] + event["done"] / event["total"]
            self._show(event["member"])
        elif kind == "end":
            self.auroc[event["member"]] = event["val_auroc"]
        elif kind == "member":
            self._tell_end(event["member"], event["failure"])

    def _show(self, member: str) -> None:
        description = f"{escape(member)} ({self.ended + 1}/{self.total})"
        self.update(completed=sum(self.epochs.values()), description=description)

    def _tell_end(self, member: str, failure: str) -> None:
        self.ended += 1
        outcome = f"FAILED: {failure}" if failure else f"validation AUROC {self.auroc.get(member, float('nan')):.3f}"
        note(f"{self.ended}/{self.total}  {member}  {outcome}")
