"""A study on the screen: a bar over all runs with the time that remains, and a line a chain."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from medsharp.cli._console import console, note


class StudyProgress:
    """Takes the events of `training.study.run_study`; use it as a context."""

    def __init__(self) -> None:
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
        )
        self.task: TaskID | None = None
        self.running: dict[str, str] = {}
        self.state: dict[str, Any] = {}

    def __enter__(self) -> StudyProgress:
        return self

    def __exit__(self, *exception: Any) -> None:
        if self.task is not None:
            self.bars.stop()

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

        self.state = event
        if self.task is None:
            if event["finished"]:
                note(f"{event['finished']} of {event['runs']} runs are finished already")
            if event["finished"] == event["runs"]:
                return
            self.task = self.bars.add_task("training", total=event["runs"], left="")
            self.bars.start()
        left = "" if event["remaining"] is None else f"{duration(event['remaining'])} of training left"
        self.bars.update(self.task, completed=event["finished"], left=left)

    def _show_epoch(self, event: dict[str, Any]) -> None:
        if self.task is not None:
            cell = self.running.get(event["chain"], event["chain"])
            self.bars.update(self.task, description=f"{escape(cell)}, epoch {event['epoch'] + 1}")
