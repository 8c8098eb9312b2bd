"""`medsharp predict`: images or a manifest in, a table of probabilities out."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medsharp.cli._console import (
    ANYWAY_HELP,
    DEVICE_HELP,
    GPUS_HELP,
    LIMIT_HELP,
    PRECISION_HELP,
    RANGE_HELP,
    RAY_HELP,
    note,
    progress_bar,
)
from medsharp.cli._seen_predictions import Seen
from medsharp.errors import InputError
from medsharp.quantities import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pandas import DataFrame

    from medsharp.data.manifest import Manifest
    from medsharp.images import ValueRange
    from medsharp.inference import FindLesion, Frames, Prediction, Predictor
    from medsharp.inference.blocks import Blocks, Shard, Told
    from medsharp.progress import Progress

SHARD_HELP = (
    "Predict this part of a manifest only, such as 2/4, on this machine or another that sees --out; then --merge. What "
    "was predicted before a run ended is not predicted again, with and without it."
)


def predict(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder, as `medsharp export` makes it.")],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES", help="Images, folders of images, or one manifest (CSV, Excel, Parquet), also at a URL."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="CSV to write, or of a manifest a folder of Parquet: NAME.parquet. Without it a table is printed."
        ),
    ] = None,
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
    shard: Annotated[str | None, typer.Option(metavar="I/N", help=SHARD_HELP)] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Join what all shards of a manifest made to --out.")] = False,
    answer_anyway: Annotated[bool, typer.Option("--answer-anyway", help=ANYWAY_HELP)] = False,
    ray: Annotated[str | None, typer.Option(metavar="[ADDRESS]", help=RAY_HELP)] = None,
    gpus_each: Annotated[float | None, typer.Option(min=0, help=GPUS_HELP)] = None,
) -> None:
    """Give each image's class probabilities, and on which side of the frozen operating point it is.

    An image that an input check refuses has no number, but a row with its status and the reasons.

    Exit code 0: every image has a number; 1: some have none, as they failed or were refused (also where all were
    refused: the answer is that there is none), and are listed with the reason; 2: none could be read.
    """
    from medsharp.cli._cluster_models import assert_on_cluster
    from medsharp.files import assert_utf8
    from medsharp.images import ImageLimits, read_range

    assert_utf8(bundle, out, heatmaps)  # an image's may be, and has its own row then
    assert_on_cluster(ray, gpus_each=gpus_each)
    if merge and ray is not None:
        raise InputError("--merge joins what was predicted, which needs no cluster; leave --ray out")
    wanted, limits = _frames(frames), ImageLimits()
    if limit:
        from medsharp.config import read_limits  # all of the configuration, which takes a tenth of a second

        limits = read_limits(limit)
    declared = None if value_range is None else read_range(value_range, "--range")
    loaded: dict[str, Any] = {"device": device, "limits": limits, "value_range": declared}
    loaded |= {"precision": precision, "answer_anyway": answer_anyway}
    if out is not None:
        _refuse_replacing(out, images)
    if source is not None or _is_table(images[0]):
        for option, value in (("--heatmaps", heatmaps), ("--box", box)):
            if value is not None:
                raise InputError(f"{option} takes images or folders, not a data set")
        asked = _Asked(bundle, images, source, wanted, loaded, out, shard)
        if merge:
            seen = asked.merged()
        elif ray is None:
            seen = asked.predicted_here()
        else:
            seen = asked.predicted_on(ray, gpus_each)
    else:
        for option, given in (("--shard", shard is not None), ("--merge", merge), ("--ray", ray is not None)):
            if given:
                raise InputError(f"{option} takes a manifest, not images")
        if out is not None and out.suffix.lower() == ".parquet":
            raise InputError(f"--out {out}: a table of Parquet takes a manifest, not images; give a CSV")
        seen = _of_images(bundle, [Path(image) for image in images], wanted, loaded, out, heatmaps, box)
    seen.show()
    if out is not None and shard is None:
        note(f"{counted(seen.rows, 'row')} in {out}")
    if seen.silent:
        raise typer.Exit(2 if seen.all_failed else 1)


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


def _is_table(path: str) -> bool:
    from medsharp.files import TABLE_SUFFIXES

    return Path(path).suffix.lower() in TABLE_SUFFIXES


def _refuse_replacing(out: Path, data: Sequence[str]) -> None:
    """Refuse a table that would take the place of a manifest that is read, or lies in a folder that is."""
    from medsharp.data.manifest import manifest_file
    from medsharp.files import assert_other_file

    folders = (manifest_file(Path(one)) for one in data)
    assert_other_file(out, [*data, *(file for file in folders if file is not None)])


@dataclass(frozen=True)
class _Asked:
    """What is asked of a data set: the arguments of `predict`."""

    bundle: Path
    paths: Sequence[str]
    source: str | None
    frames: Frames
    loaded: dict[str, Any]
    out: Path | None
    shard: str | None

    def merged(self) -> Seen:
        """Join what shards made."""
        from medsharp.bundle import digest_of, read_bundle
        from medsharp.inference.blocks import Blocks, read_rows

        if self.shard is not None:
            raise InputError("--merge joins what the shards made; leave --shard out")
        out = self._out("--merge")
        spec = read_bundle(self.bundle)
        blocks = Blocks(out, self._open(self.loaded["value_range"]), spec.classes)
        settings = {"frames": self.frames, "limits": asdict(self.loaded["limits"])}
        settings |= {name: self.loaded[name] for name in ("answer_anyway", "precision")}
        if settings["precision"] == "auto":  # what that comes to is found out where it runs
            del settings["precision"]
        blocks.check(digest_of(spec), settings)
        blocks.merge(self.frames)
        return Seen(spec).add(read_rows([out]))

    def predicted_here(self) -> Seen:
        """Predict in this process."""
        from medsharp.inference import Predictor, predict_manifest

        part = self._part()
        predictor = Predictor.load(self.bundle, **self.loaded)
        manifest = self._open(predictor.value_range, check=True)
        seen = Seen(predictor.spec, predictor.runs_on)
        if self.out is None:
            with progress_bar() as report:
                return _added(seen, predict_manifest(predictor, manifest, frames=self.frames, progress=report))

        def fill(blocks: Blocks, report: Progress, told: Told | None) -> None:
            blocks.predict(predictor, part, self.frames, report, told=told)

        return self._filled(seen, manifest, part, fill)

    def predicted_on(self, address: str, gpus_each: float | None) -> Seen:
        """Predict on a cluster."""
        from medsharp.cluster import ClusterModel, joined

        part = self._part()
        manifest = self._open(self.loaded["value_range"])
        with joined(address) as cluster:
            model = ClusterModel(self.bundle, cluster, gpus_each=gpus_each, **self.loaded)
            seen = Seen(model.spec, model.runs_on)
            if self.out is None:
                with progress_bar() as report:
                    return _added(seen, model.predict_manifest(manifest, frames=self.frames, progress=report))

            def fill(blocks: Blocks, report: Progress, told: Told | None) -> None:
                tables = model.tables(blocks.images, self.frames)
                blocks.fill(model.made_by(self.frames), part, tables, report, told=told)

            return self._filled(seen, manifest, part, fill)

    def _filled(
        self, seen: Seen, manifest: Manifest, part: Shard, fill: Callable[[Blocks, Progress, Told | None], None]
    ) -> Seen:
        from medsharp.inference.blocks import Blocks, read_rows

        assert self.out is not None
        blocks = Blocks(self.out, manifest, seen.spec.classes)
        with progress_bar() as report:
            fill(blocks, report, None if self.shard is None else seen.add)
        if self.shard is not None:
            made = counted(len(blocks.of(part)), "block")
            note(
                f"{made} of {blocks.count} in {blocks.folder}; when all shards are done, run the same with --merge in "
                "place of --shard"
            )
            return seen
        blocks.merge(self.frames)
        return seen.add(read_rows([self.out]))

    def _part(self) -> Shard:
        from medsharp.inference.blocks import Shard

        if self.shard is None:
            return Shard()
        self._out("--shard")
        return Shard.read(self.shard)

    def _out(self, option: str) -> Path:
        if self.out is None:
            raise InputError(f"{option} needs --out, the table that all shards are of")
        return self.out

    def _open(self, value_range: ValueRange | None, *, check: bool = False) -> Manifest:
        """Open the manifest.

        Args:
            value_range: Declares what is black and white.
            check: The files that have a SHA-256 in it; elsewhere they are checked where they are read.
        """
        from medsharp.data.manifest import check_files, read_manifest
        from medsharp.data.sources import open_dataset

        first, *others = self.paths
        if others:
            raise InputError(f"give either one data set or images, not both ({first} and {others[0]})")
        manifest = read_manifest(first, stored=True) if self.source is None else open_dataset(first, source=self.source)
        manifest = manifest.with_range(value_range)
        if check and not manifest.store:
            check_files(manifest)
        for sentence in manifest.notes:
            note(sentence)
        return manifest


def _added(seen: Seen, table: DataFrame) -> Seen:
    return seen.add({str(key): value for key, value in row.items()} for row in table.to_dict("records"))


def _of_images(
    bundle: Path,
    images: list[Path],
    frames: Frames,
    loaded: dict[str, Any],
    out: Path | None,
    heatmaps: Path | None,
    box: str | None,
) -> Seen:
    from medsharp.files import assert_other_file
    from medsharp.inference import Predictor
    from medsharp.inference.prediction import DISPLAY_SIDE

    files, lesion = _expand(images), None if box is None else _lesion(box)
    if out is not None:
        assert_other_file(out, files)
    predictor = Predictor.load(bundle, **loaded)
    if box is not None and predictor.preprocessing.crop != "lesion":
        raise InputError(f"{bundle} does not crop to the lesion; leave --box out")
    side = None if heatmaps is None else DISPLAY_SIDE
    seen = Seen(predictor.spec, predictor.runs_on)
    with _bar_of(files) as report, _table_of(out, predictor) as write:
        predictions = predictor.stream(_reported(files, report), frames=frames, lesion=lesion, picture_side=side)
        for number, prediction in enumerate(predictions, start=1):
            write(prediction)
            seen.add([_row(prediction)])
            if heatmaps is not None:
                _write_heatmap(prediction, number, heatmaps)
    return seen


def _bar_of(files: list[Path]) -> AbstractContextManager[Progress]:
    """Show a bar, but for one image, which is done before a bar is drawn."""
    return progress_bar() if len(files) > 1 else nullcontext(lambda done, total, what: None)


def _reported(files: list[Path], report: Progress) -> Iterator[Path]:
    """Give files to who reads them, and report how many were taken."""
    for number, file in enumerate(files):
        report(number, len(files), "predicting")
        yield file


@contextmanager
def _table_of(out: Path | None, predictor: Predictor) -> Iterator[Callable[[Prediction], None]]:
    """Give what writes predictions to a table, some hundred at once; without a file it does nothing."""
    if out is None:
        yield lambda prediction: None
        return
    # Loads pandas, which takes as long as the prediction of an image and is not needed to print one.
    from medsharp.files import atomic_path
    from medsharp.inference.table import BLOCK, frozen_columns, predictions_table

    waiting: list[Prediction] = []
    with atomic_path(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:

        def flush() -> None:
            table = predictions_table(waiting, predictor.spec.classes).assign(**frozen_columns(predictor.spec))
            table.to_csv(stream, index=False, lineterminator="\n", header=stream.tell() == 0)
            waiting.clear()

        def write(prediction: Prediction) -> None:
            waiting.append(prediction)
            if len(waiting) == BLOCK:
                flush()

        yield write
        if waiting:
            flush()


def _row(prediction: Prediction) -> dict[str, Any]:
    """Name what is printed of a prediction as the table of a manifest does."""
    from medsharp.bundle.prediction_sets import PREDICTION_SET, written_set

    return {
        "image": prediction.name,
        **{f"p_{name}": share for name, share in prediction.probabilities.items()},
        "threshold_side": prediction.side or "",
        "threshold_margin": prediction.margin,
        PREDICTION_SET: written_set(prediction.prediction_set),
        "status": prediction.status,
        "reasons": "; ".join(prediction.reasons),
        "flags": "; ".join(prediction.flags),
        "error": prediction.error or "",
    }


def _write_heatmap(prediction: Prediction, number: int, folder: Path) -> None:
    from PIL import Image

    from medsharp.files import atomic_path
    from medsharp.inference import overlay
    from medsharp.inference.prediction import DISPLAY_SIDE

    relevance = prediction.heatmap(DISPLAY_SIDE)  # none of what failed or was refused
    if relevance is None or prediction.picture is None:
        return
    stem = Path(prediction.source).stem
    if prediction.frame is not None:
        stem += f"-frame-{prediction.frame}"
    with atomic_path(folder / f"{number:05d}-{stem}.png", private=True) as temporary:
        Image.fromarray(overlay(prediction.picture, relevance)).save(temporary, format="PNG")


def _expand(paths: Sequence[Path]) -> list[Path]:
    """Replace each folder by the images in it, known by their content; say what is left out, masks among it."""
    from medsharp.files import assert_utf8, url_of

    files: list[Path] = []
    for path in paths:
        url = url_of(path)
        if url is not None and not path.exists():
            raise InputError(
                f"{url}: images at a URL are predicted by a manifest there (CSV, Excel or Parquet); give it"
            )
        if not path.is_dir():
            files.append(path)
            continue
        from medsharp.data.sources import list_images

        assert_utf8(path)
        listing = list_images(path)
        for sentence in listing.notes():
            note(f"{path}: {sentence}")
        if listing.masks:
            note(f"{path}: {len(listing.masks)} files are masks by their names, and not predicted")
        if not listing.images:
            raise InputError(f"{path} holds no images: no pictures and no DICOM files with an image")
        files += listing.images
    return files
