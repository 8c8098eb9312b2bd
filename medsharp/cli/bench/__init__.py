"""`medsharp bench`: how fast things are on this machine; one file a benchmark."""

from __future__ import annotations

import typer

from medsharp.cli.bench import (
    checks,
    cluster,
    data,
    drawings,
    evaluation,
    images,
    inference,
    optim,
    page,
    planning,
    robustness,
    saliency,
    scale,
    serve,
    thresholds,
)

app = typer.Typer(help="Measure on this machine how fast things are.", no_args_is_help=True)
app.command("checks")(checks.checks)
app.command("cluster")(cluster.cluster)
app.command("data")(data.data)
app.command("drawings")(drawings.drawings)
app.command("evaluation")(evaluation.evaluation)
app.command("images")(images.images)
app.command("inference")(inference.inference)
app.command("optim")(optim.optim)
app.command("page")(page.page)
app.command("planning")(planning.planning)
app.command("robustness")(robustness.robustness)
app.command("saliency")(saliency.saliency)
app.command("scale")(scale.scale)
app.command("serve")(serve.serve)
app.command("thresholds")(thresholds.thresholds)


@app.callback()
def _bench() -> None:
    """Measure on this machine how fast things are."""
