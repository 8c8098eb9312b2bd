"""`medsharp data`: look at data before training; one file a command."""

from __future__ import annotations

from typing import ClassVar

import typer

from medsharp.cli._lazy_group import LazyGroup, Place


class _DataCommands(LazyGroup):
    lazy: ClassVar = {
        "audit": Place("medsharp.cli.data.audit", "audit"),
        "list": Place("medsharp.cli.data.list_", "list_"),
        "prepare": Place("medsharp.cli.data.prepare", "prepare"),
        "phantom": Place("medsharp.cli.data.phantom", "phantom"),
        "split": Place("medsharp.cli.data.split", "split"),
        "preview": Place("medsharp.cli.data.preview", "preview"),
        "cache": Place("medsharp.cli.data.cache", "cache"),
    }


app = typer.Typer(cls=_DataCommands, help="Known data sets, simulated hospitals, audited splits.", no_args_is_help=True)


@app.callback()
def _data() -> None:
    """Known data sets, simulated hospitals, audited splits."""
