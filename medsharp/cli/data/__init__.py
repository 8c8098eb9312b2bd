"""`medsharp data`: look at data before training; one file a command."""

from __future__ import annotations

import typer

from medsharp.cli.data import audit, cache, list_, phantom, prepare, preview, split

app = typer.Typer(help="Known data sets, simulated hospitals, audited splits.", no_args_is_help=True)
app.command("audit")(audit.audit)
app.command("list")(list_.list_)
app.command("prepare")(prepare.prepare)
app.command("phantom")(phantom.phantom)
app.command("split")(split.split)
app.command("preview")(preview.preview)
app.command("cache")(cache.cache)
