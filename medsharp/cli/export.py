"""`medsharp export`: a run folder in, a bundle that can be served out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from medsharp.cli._console import console, heading, note, progress_bar, size_of, warn

if TYPE_CHECKING:
    from medsharp.bundle import BundleSpec


def export(
    run: Annotated[Path, typer.Argument(help="Run folder, as `medsharp train` makes it.")],
    out: Annotated[Path, typer.Option(help="Bundle folder to make.")],
    sensitivity: Annotated[
        float, typer.Option(min=0.5, max=1.0, help="Sensitivity that the operating point reaches on validation data.")
    ] = 0.95,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
) -> None:
    """Write the best weights of a run as an ONNX bundle: checked against PyTorch, calibrated, threshold frozen.

    Temperature and operating point are chosen on the internal validation images alone.
    """
    from medsharp.export import export_run

    heading(f"Exporting {run} to {out}")
    with progress_bar() as report:
        bundle = export_run(run, out, sensitivity=sensitivity, overwrite=overwrite, progress=report)
    tell_choices(bundle)
    for name in sorted(bundle.files):
        note(f"{name}: {size_of((out / name).stat().st_size)}")
    evaluate = f"[bold]medsharp evaluate {escape(str(out))} --data FOLDER[/]"
    # The page does not serve a model that needs to be shown where the lesion is.
    other = "predict" if bundle.preprocess.crop == "lesion" else "serve"
    more = " MANIFEST" if other == "predict" else ""
    console.print(f"\nnext: {evaluate} or [bold]medsharp {other} {escape(str(out))}{more}[/]", soft_wrap=True)


def tell_choices(bundle: BundleSpec) -> None:
    """Print what the validation images decided, and a warning where they were too few to decide it."""
    from medsharp.export.calibration import scarcity

    point = bundle.operating_point
    if bundle.uncalibrated:
        warn(f"not calibrated (the temperature is 1): {bundle.uncalibrated}")
    else:
        note(f"temperature {bundle.temperature:.3f}")
    note(
        f"operating point: probability of {bundle.positive} >= {point.threshold:.4f} "
        f"(sensitivity {point.sensitivity:.3f}, specificity {point.specificity:.3f} "
        f"on {point.images} validation images)"
    )
    if few := scarcity(point.positives, point.images - point.positives):
        warn(f"the operating point stands on {few}")
