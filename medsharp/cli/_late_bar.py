"""A bar for work whose length is told by its first event."""

from __future__ import annotations

from typing import Any, Self

from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn

from medsharp.cli._console import console


class LateBar:
    """Shows nothing until its length is known, so that other bars and notes may come before; use it as a context.

    Args:
        count: The column that says how much is done.
        left: The column that says how much time is left.
    """

    def __init__(self, count: ProgressColumn, left: ProgressColumn) -> None:
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            count,
            TimeElapsedColumn(),
            left,
            console=console,
            transient=True,
        )
        self.task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        if self.task is not None:
            self.bars.stop()

    def begin(self, total: float, **fields: Any) -> None:
        """Show the bar from now on.

        Args:
            total: Its length.
            fields: What columns of text show.
        """
        self.task = self.bars.add_task("training", total=total, **fields)
        self.bars.start()

    def update(self, **values: Any) -> None:
        """Change what is shown (`rich.progress.Progress.update`), once there is a bar."""
        if self.task is not None:
            self.bars.update(self.task, **values)
