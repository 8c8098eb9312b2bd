"""A study on the screen: a bar over all runs with the time that remains, and a line a chain."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.progress import MofNCompleteColumn, TextColumn

from medsharp.cli._console import note
from medsharp.cli._late_bar import LateBar


class StudyProgress(LateBar):
    """Takes the events of `training.study.run_study`; use it as a context."""

    def __init__(self) -> None:
        super().__init__(MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
        self.running: dict[str, str] = {}

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event."""
        kind = event["kind"]
        if kind == "study":
            self._show_state(event)
        elif kind == "begin":
            self.running[event["chain"]] = event["cell"]
        elif kind == "batch":
            self._show_epoch(event)
        elif kind == "chain":
            self.running.pop(event["chain"], None)
            outcome = f"FAILED: {event['failure']}" if event["failure"] else "finished"
            note(f"{event['chain']}  {outcome}")

    def _show_state(self, event: dict[str, Any]) -> None:
        from training.study.forecast import duration

        if self.task is None:
            if event["finished"]:
                note(f"{event['finished']} of {event['runs']} runs are finished already")
            if event["finished"] == event["runs"]:
                return
            self.begin(event["runs"], left="")
        left = "" if event["remaining"] is None else f"{duration(event['remaining'])} of training left"
        self.update(completed=event["finished"], left=left)

    def _show_epoch(self, event: dict[str, Any]) -> None:
        cell = self.running.get(event["chain"], event["chain"])
        self.update(description=f"{escape(cell)}, epoch {event['epoch'] + 1}")
