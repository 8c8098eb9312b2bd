"""`medsharp bench`: how fast things are on this machine; one file a benchmark."""

from __future__ import annotations

from typing import ClassVar

import typer

from medsharp.cli._lazy_group import LazyGroup, Place


class _Benchmarks(LazyGroup):
    lazy: ClassVar = {
        "checks": Place("medsharp.cli.bench.checks", "checks"),
        "cluster": Place("medsharp.cli.bench.cluster", "cluster"),
        "data": Place("medsharp.cli.bench.data", "data"),
        "drawings": Place("medsharp.cli.bench.drawings", "drawings"),
        "evaluation": Place("medsharp.cli.bench.evaluation", "evaluation"),
        "images": Place("medsharp.cli.bench.images", "images"),
        "inference": Place("medsharp.cli.bench.inference", "inference"),
        "optim": Place("medsharp.cli.bench.optim", "optim"),
        "page": Place("medsharp.cli.bench.page", "page"),
        "planning": Place("medsharp.cli.bench.planning", "planning"),
        "robustness": Place("medsharp.cli.bench.robustness", "robustness"),
        "saliency": Place("medsharp.cli.bench.saliency", "saliency"),
        "scale": Place("medsharp.cli.bench.scale", "scale"),
        "serve": Place("medsharp.cli.bench.serve", "serve"),
        "thresholds": Place("medsharp.cli.bench.thresholds", "thresholds"),
    }


app = typer.Typer(cls=_Benchmarks, help="Measure on this machine how fast things are.", no_args_is_help=True)


@app.callback()
def _bench() -> None:
    """Measure on this machine how fast things are."""
