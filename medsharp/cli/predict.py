"""`medsharp predict`: images or a manifest in, a table of probabilities out."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from medsharp.cli._console import (
    ANYWAY_HELP,
    DEVICE_HELP,
    LIMIT_HELP,
    PRECISION_HELP,
    RANGE_HELP,
    console,
    errors,
    note,
    progress_bar,
)
from medsharp.errors import InputError
from medsharp.quantities import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from medsharp.inference import FindLesion, Frames, Prediction, Predictor

SHOWN_ROWS = 40


def predict(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder, as `medsharp export` makes it.")],
    images: Annotated[list[Path], typer.Argument(help="Images, folders of images, or one manifest (CSV).")],
    out: Annotated[Path | None, typer.Option(help="CSV to write; without it only a table is printed.")] = None,
    heatmaps: Annotated[Path | None, typer.Option(help="Folder for one PNG an image with its heat map.")] = None,
    frames: Annotated[
        str, typer.Option(help="Of DICOM clips: sharpest, all (a row each), or a number, counted from 1.")
    ] = "sharpest",
    box: Annotated[
        str | None,
        typer.Option(metavar="LEFT,TOP,RIGHT,BOTTOM", help="The lesion in pixels, for a bundle that crops to it."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Open one folder as a data set, with what is known of its images: auto, folder, or a public data set "
            "such as busi. Without it a folder is a heap of images."
        ),
    ] = None,
    limit: Annotated[list[str] | None, typer.Option(help=LIMIT_HELP)] = None,
    value_range: Annotated[str | None, typer.Option("--range", metavar="LOW,HIGH", help=RANGE_HELP)] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    precision: Annotated[str, typer.Option(help=PRECISION_HELP)] = "auto",
    answer_anyway: Annotated[bool, typer.Option("--answer-anyway", help=ANYWAY_HELP)] = False,
) -> None:
    """Give each image's class probabilities, and on which side of the frozen operating point it is.

    An image that an input check refuses has no number, but a row with its status and the reasons.

    Exit code 0: every image has a number; 1: some have none, as they failed or were refused (also where all were
    refused: the answer is that there is none), and are listed with the reason; 2: none could be read.
    """
    from medsharp.config import read_limits
    from medsharp.images import read_range
    from medsharp.inference import Predictor

    wanted, limits = _frames(frames), read_limits(limit or ())
    declared = None if value_range is None else read_range(value_range, "--range")
    loaded: dict[str, Any] = {"device": device, "limits": limits, "value_range": declared}
    loaded |= {"precision": precision, "answer_anyway": answer_anyway}
    if source is not None or _is_table(images[0]):
        for option, value in (("--heatmaps", heatmaps), ("--box", box)):
            if value is not None:
                raise InputError(f"{option} takes images or folders, not a data set")
        predictor = Predictor.load(bundle, **loaded)
        table = _of_dataset(predictor, images, wanted, source)
        rows = [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
    else:
        files, lesion = _expand(images), None if box is None else _lesion(box)
        predictor = Predictor.load(bundle, **loaded)
        if box is not None and predictor.preprocessing.crop != "lesion":
            raise InputError(f"{bundle} does not crop to the lesion; leave --box out")
        predictions = _of_images(predictor, files, heatmaps, wanted, lesion)
        rows = [_row(prediction) for prediction in predictions]
        if out is not None:
            # Loads pandas, which takes as long as the prediction of an image and is not needed to print one.
            from medsharp.inference.table import frozen_columns, predictions_table

            table = predictions_table(predictions, predictor.spec.classes).assign(**frozen_columns(predictor.spec))
    if out is not None:
        from medsharp.files import atomic_path

        with atomic_path(out) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
    _show(predictor, [row for row in rows if not math.isnan(row["threshold_margin"])])
    silent = [row for row in rows if math.isnan(row["threshold_margin"])]
    for row in silent:
        said = row["error"] or row["reasons"]
        shown = said if row["image"] in said else f"{row['image']}: {said}"
        errors.print(f"[bold red]{row['status']}:[/] {escape(shown)}", soft_wrap=True)
    if out is not None:
        note(f"{counted(len(rows), 'row')} in {out}")
    if silent:
        raise typer.Exit(2 if len(silent) == len(rows) and all(row["error"] for row in silent) else 1)


def _frames(text: str) -> Frames:
    if text in ("sharpest", "all"):
        return text  # type: ignore[return-value]
    if re.fullmatch(r"[1-9]\d{0,8}", text):
        return int(text)
    raise InputError(f"--frames {text}: write sharpest, all, or the number of a frame, counted from 1")


def _lesion(text: str) -> FindLesion:
    from medsharp.data.lesion import read_box, within

    box = read_box(text, "--box")
    return lambda number, name, image: within(box, image, name)


def _is_table(path: Path) -> bool:
    from medsharp.files import TABLE_SUFFIXES

    return path.suffix.lower() in TABLE_SUFFIXES


def _of_dataset(predictor: Predictor, paths: Sequence[Path], frames: Frames, source: str | None) -> pd.DataFrame:
    from medsharp.data.manifest import check_files, read_manifest
    from medsharp.data.sources import open_dataset
    from medsharp.inference import predict_manifest

    if len(paths) > 1:
        raise InputError(f"give either one data set or images, not both ({paths[0]} and {paths[1]})")
    manifest = read_manifest(paths[0]) if source is None else open_dataset(paths[0], source=source)
    manifest = manifest.with_range(predictor.value_range)
    check_files(manifest)
    for sentence in manifest.notes:
        note(sentence)
    with progress_bar() as report:
        return predict_manifest(predictor, manifest, frames=frames, progress=report)


def _of_images(
    predictor: Predictor, files: list[Path], heatmaps: Path | None, frames: Frames, lesion: FindLesion | None
) -> list[Prediction]:
    with progress_bar() as report:
        names = [str(file) for file in files]
        predictions = predictor.predict(files, names=names, frames=frames, lesion=lesion, progress=report)
    if heatmaps is not None:
        _write_heatmaps(predictor, predictions, heatmaps)
    return predictions


def _row(prediction: Prediction) -> dict[str, Any]:
    """Name what is printed of a prediction as the table of a manifest does."""
    return {
        "image": prediction.name,
        **{f"p_{name}": share for name, share in prediction.probabilities.items()},
        "threshold_side": prediction.side or "",
        "threshold_margin": prediction.margin,
        "status": prediction.status,
        "reasons": "; ".join(prediction.reasons),
        "checks": "; ".join(prediction.checks),
        "flags": "; ".join(prediction.flags),
        "error": prediction.error or "",
    }


def _write_heatmaps(predictor: Predictor, predictions: Sequence[Prediction], folder: Path) -> None:
    from PIL import Image

    from medsharp.files import atomic_path
    from medsharp.images import read_image
    from medsharp.inference import overlay
    from medsharp.inference.heatmap import shrink
    from medsharp.inference.prediction import DISPLAY_SIDE

    for number, prediction in enumerate(predictions, start=1):
        relevance = prediction.heatmap(DISPLAY_SIDE)  # none of what failed or was refused
        if relevance is not None:
            file, frame = Path(prediction.source), prediction.frame
            image = read_image(
                file, limits=predictor.limits, frame=frame or "sharpest", value_range=predictor.value_range
            )
            picture = overlay(shrink(image.pixels, DISPLAY_SIDE), relevance)
            stem = file.stem if frame is None else f"{file.stem}-frame-{frame}"
            with atomic_path(folder / f"{number:05d}-{stem}.png", private=True) as temporary:
                Image.fromarray(picture).save(temporary, format="PNG")


def _expand(paths: Sequence[Path]) -> list[Path]:
    """Replace each folder by the images in it, known by their content; say what is left out, masks among it."""
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        from medsharp.data.sources import list_images

        listing = list_images(path)
        for sentence in listing.notes():
            note(f"{path}: {sentence}")
        if listing.masks:
            note(f"{path}: {len(listing.masks)} files are masks by their names, and not predicted")
        if not listing.images:
            raise InputError(f"{path} holds no images: no pictures and no DICOM files with an image")
        files += listing.images
    return files


def _marked(row: dict[str, Any]) -> str:
    """Say what the checks found in an image that has a number."""
    if row["status"] == "refused":
        return f"answered against a refusal: {row['reasons']}"
    return f"caution: {row['reasons']}" if row["status"] == "cautioned" else ""


def _show(predictor: Predictor, rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    positive = predictor.spec.positive
    shown = Table(title="Not for diagnostic use", title_style="bold yellow", title_justify="left")
    for name in ("image", f"probability of {positive}", "operating point", "log odds from it", "remarks"):
        shown.add_column(name, overflow="fold")  # a frame's number stands at the end of a name
    for row in rows[:SHOWN_ROWS]:
        shown.add_row(
            escape(str(row["image"])),
            f"{row[f'p_{positive}']:.3f}",
            row["threshold_side"],
            f"{row['threshold_margin']:+.2f}",
            escape("; ".join(filter(None, (_marked(row), row["flags"])))),
        )
    console.print(shown)
    if len(rows) > SHOWN_ROWS:
        note(f"... and {len(rows) - SHOWN_ROWS} more rows")
    note(predictor.runs_on)
    note(f"operating point: probability of {positive} >= {predictor.spec.operating_point.threshold:.4f}")
