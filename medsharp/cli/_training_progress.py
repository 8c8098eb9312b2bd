"""Training on the screen: a bar over epochs and steps, and a line an epoch."""

from __future__ import annotations

from typing import Any

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from medsharp.cli._console import console, note
from medsharp.progress import rate_text


class TrainingProgress:
    """Takes the events of `training.train`; use it as a context.

    Args:
        epochs: Epochs in all.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console,
            transient=True,
        )
        self.tasks: dict[str, TaskID] = {}
        self.auroc = ""

    def __enter__(self) -> TrainingProgress:
        self.bars.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.bars.__exit__(*exception)

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event."""
        if event["kind"] == "start":
            for sentence in event["notes"]:
                note(sentence)
            reason = f" ({event['precision_reason']})" if event["precision_reason"] else ""
            note(f"device {event['device']}, precision {event['precision']}{reason}")
        elif event["kind"] == "end" and event["trained"] == 0:
            note("this run is finished already; nothing was trained")
        elif event["kind"] == "cache":
            self._bar("decoding", event["done"], event["total"], "")
        elif event["kind"] == "batch":
            done = event["epoch"] + event["done"] / event["total"]
            detail = f"loss {event['loss']:.3f}{self.auroc}  {rate_text(event['images_per_second'])} images/s"
            self._bar(f"epoch {event['epoch'] + 1}/{self.epochs}", done, self.epochs, detail, name="training")
        elif event["kind"] == "epoch":
            self.auroc = f"  AUROC {event['val_auroc']:.3f}"
            best = "  best so far" if event["best"] else ""
            self.bars.console.print(
                f"  epoch {event['epoch'] + 1:>3}/{self.epochs}  loss {event['train_loss']:.3f}  "
                f"validation loss {event['val_loss']:.3f}  AUROC {event['val_auroc']:.3f}  "
                f"{rate_text(event['images_per_second'])} images/s{best}",
                soft_wrap=True,
            )

    def _bar(self, description: str, done: float, total: float, detail: str, name: str | None = None) -> None:
        name = name or description
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(description, total=total, detail=detail)
        self.bars.update(self.tasks[name], completed=done, total=total, description=description, detail=detail)
        if done >= total and name == "decoding":
            self.bars.update(self.tasks[name], visible=False)
