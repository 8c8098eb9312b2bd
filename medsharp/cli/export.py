"""`medsharp export`: run folders in, a bundle that can be served out."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from medsharp.cli._console import console, heading, note, progress_bar, size_of, warn

if TYPE_CHECKING:
    from medsharp.bundle import BundleSpec, Precision
    from medsharp.data.manifest import Manifest


class Average(StrEnum):
    """What the answer of several members is the mean of: `medsharp.bundle.Average`."""

    probabilities = "probabilities"
    logits = "logits"


class Weights(StrEnum):
    """How weights are stored: `medsharp.export.half_weights.Weights`."""

    fp32 = "fp32"
    fp16 = "fp16"


def export(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="Run folders, as `medsharp train` makes them. Several, such as folds or seeds of one data set, become "
            "one graph that gives the mean of their answers. Or one YAML file that describes weights from elsewhere.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Bundle folder to make.")],
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DATA",
            help="With a YAML file: labelled images that the network did not learn from, which fix temperature and "
            "operating point.",
        ),
    ] = None,
    sensitivity: Annotated[
        float, typer.Option(min=0.5, max=1.0, help="Sensitivity that the operating point reaches on validation data.")
    ] = 0.95,
    average: Annotated[
        Average, typer.Option(help="What the mean of several answers is of: probabilities, or logits.")
    ] = Average.probabilities,
    flip: Annotated[
        bool,
        typer.Option("--flip", help="The mean over the image and its mirror image, in twice the time."),
    ] = False,
    weights: Annotated[
        Weights, typer.Option(help="How weights are stored; fp16 halves the file, and still computes in float32.")
    ] = Weights.fp32,
    precision: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="fp32, fp16 and int8, joined by commas: in what the graph computes. fp32 is always written; the "
            "others beside it, where they pass their gate on the validation images.",
        ),
    ] = "fp32",
    image_size: Annotated[
        list[int] | None,
        typer.Option(
            min=32,
            max=1024,
            help="Side of the input in pixels; that of training without it. Networks trained on enlarged "
            "parts of images may answer better at a larger one; temperature, threshold and figures are of that size. "
            "May be repeated: the answer is then the mean over all sizes, and the input is of the largest.",
        ),
    ] = None,
    held_out: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Figures at each hospital left out go into the bundle, its card and its page: what `medsharp "
            "crossvalidate --by site` wrote, or a bundle of runs made in the same way that left one hospital out; may "
            "be repeated.",
        ),
    ] = None,
    no_lesion: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Data set with images labelled `normal`, which show no lesion: the bundle then marks such images. "
            "Not for a model with that class.",
        ),
    ] = None,
    triton: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also lay each graph into a model repository of NVIDIA's Triton Inference Server: "
            "DIR/NAME/config.pbtxt and DIR/NAME/1/model.onnx.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
) -> None:
    """Write the weights that one or several runs keep as an ONNX bundle: checked, calibrated, threshold frozen.

    Temperature and operating point are chosen on the internal validation images alone; of several runs, on the images
    out of the folds of each, answered by members that did not learn from them.
    """
    from medsharp.export import export_described, export_runs
    from medsharp.export.triton import check_repository, write_repository

    precisions = parse_precisions(precision)
    if triton is not None:
        check_repository(out, precisions, triton, overwrite=overwrite)
    described = _described_data(runs, data or [], image_size=image_size, held_out=held_out)
    lesionless = None if no_lesion is None else _without_lesion(no_lesion)
    heading(f"Exporting {' and '.join(map(str, runs))} to {out}")
    options: dict[str, Any] = {
        "sensitivity": sensitivity,
        "average": average.value,
        "flip": flip,
        "weights": weights.value,
        "precisions": precisions,
        "no_lesion": lesionless,
        "overwrite": overwrite,
    }
    if described is None:
        options |= {"image_sizes": image_size or (), "held_out": held_out or ()}
    with progress_bar() as report:
        if described is None:
            bundle = export_runs(runs, out, **options, progress=report)
        else:
            bundle = export_described(runs[0], described, out, **options, progress=report)
    tell_choices(bundle)
    tell_held_out(bundle)
    tell_precisions(out)
    for name in sorted(bundle.files):
        note(f"{name}: {size_of((out / name).stat().st_size)}")
    if triton is not None:
        models = write_repository(out, bundle, triton, overwrite=overwrite)
        note(f"Triton model repository {triton}: {', '.join(model.name for model in models)}")
    evaluate = f"[bold]medsharp evaluate {escape(str(out))} --data FOLDER[/]"
    # The page does not serve a model that needs to be shown where the lesion is.
    other = "predict" if bundle.preprocess.crop == "lesion" else "serve"
    more = " MANIFEST" if other == "predict" else ""
    console.print(f"\nnext: {evaluate} or [bold]medsharp {other} {escape(str(out))}{more}[/]", soft_wrap=True)


def _described_data(runs: list[Path], data: list[str], **unfit: Any) -> Manifest | None:
    """Return the data for a description of weights from elsewhere; None where run folders are given."""
    from medsharp.data.sources import open_dataset
    from medsharp.errors import InputError
    from medsharp.export.elsewhere import read_description

    files = [run for run in runs if run.suffix.lower() in (".yaml", ".yml") and not run.is_dir()]
    if not files:
        if data:
            raise InputError("--data is for a YAML file that describes weights from elsewhere; a run has its own data")
        return None
    if len(runs) > 1:
        raise InputError(f"{files[0]} describes one network, which is exported by itself; give it alone")
    for name, value in unfit.items():
        if value:
            raise InputError(f"--{name.replace('_', '-')} is for runs; leave it out for {files[0]}")
    if len(data) != 1:
        raise InputError(f"{files[0]} needs one --data: labelled images that the network did not learn from")
    said = read_description(files[0])
    return open_dataset(data[0], classes=said.classes)


def _without_lesion(data: str) -> Manifest:
    """Return the images of a data set that are labelled as normal."""
    from medsharp.data.sources import open_dataset
    from medsharp.errors import InputError

    manifest = open_dataset(data)
    table = manifest.included
    table = table[table["label"] == "normal"]
    if table.empty:
        raise InputError(f"--no-lesion {data} has no image labelled normal")
    return replace(manifest, table=table)


def parse_precisions(text: str) -> tuple[Precision, ...]:
    """Return the precisions of a list joined by commas, and fp32, which is always written.

    Raises:
        InputError: One is unknown.
    """
    from medsharp.bundle import MODELS
    from medsharp.errors import InputError

    wanted = [part.strip().lower() for part in text.split(",") if part.strip()]
    unknown = [part for part in wanted if part not in MODELS]
    if unknown or not wanted:
        raise InputError(f"--precision '{unknown[0] if unknown else text}' is not one of {', '.join(MODELS)}")
    return tuple(precision for precision in MODELS if precision in {*wanted, "fp32"})


def tell_precisions(folder: Path) -> None:
    """Print how far each graph is from what it was held to, and which was not written and why."""
    from medsharp.bundle import read_graphs

    for name, graph in read_graphs(folder).items():
        differences, limits = graph["largest_difference"], graph["limit"]
        if not graph["written"]:
            worst = next(key for key, limit in limits.items() if not differences[key] <= limit)
            warn(
                f"{name} was not written: it differs from {graph['reference']} by {differences[worst]:.2g} in {worst}, "
                f"more than {limits[worst]:.2g}, on {graph['images']} validation images"
            )
            continue
        kept = graph.get("left_in_float32")
        note(
            f"{name}: {', '.join(f'{key} within {differences[key]:.1g}' for key in limits if 'batches' not in key)} "
            f"of {graph['reference']} on {graph['images']} validation images"
            + (f"; the first {kept:.0%} of its layers compute in float32" if kept else "")
        )


def tell_choices(bundle: BundleSpec) -> None:
    """Print what the validation images decided, and a warning where they were too few to decide it."""
    from medsharp.evaluation.statistics.operating_point import scarcity

    point = bundle.operating_point
    if bundle.combination is not None:
        note(bundle.combination.sentence())
    if bundle.uncalibrated:
        warn(f"not calibrated (the temperature is 1): {bundle.uncalibrated}")
    else:
        note(f"temperature {bundle.temperature:.3f}")
    if bundle.pooled:
        members = bundle.training.members
        each = sum(member.out_of_fold for member in members) / point.images
        note(
            f"decided by {each:.3g} of {len(members)} members for each image, those that did not learn from it; "
            "the mean of all of them gives less extreme probabilities"
        )
    images = "images out of the folds" if bundle.pooled else "validation images"
    strays = "" if point.interval is None else f", 95 % interval {point.interval[0]:.4f} to {point.interval[1]:.4f}"
    note(
        f"operating point: probability of {bundle.positive} >= {point.threshold:.4f}{strays} "
        f"({point.reached()} on {point.images} {images})"
    )
    if few := scarcity(point.positives, point.images - point.positives):
        warn(f"the operating point stands on {few}")


def tell_held_out(bundle: BundleSpec) -> None:
    """Print the figures at each hospital left out, or that there are none."""
    if not bundle.held_out:
        note("not measured on a hospital left out (medsharp crossvalidate --by site, then --held-out)")
    for site in bundle.held_out:
        figures = "; ".join(f"{name.replace('_', ' ')} {figure}" for name, figure in site.figures.items())
        note(f"left out, {site.site} ({site.images} images): {figures}")
