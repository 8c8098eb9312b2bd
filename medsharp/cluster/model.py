"""A bundle on a cluster: tasks read, actors answer, and the rows are those of one process, bit for bit."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import ray

from medsharp import __version__
from medsharp.bundle import digest_of, read_bundle
from medsharp.cluster.answering import Loading, bundle_files
from medsharp.cluster.reading import Piece, look_at_piece, read_piece
from medsharp.cluster.session import Cluster
from medsharp.cluster.stream import Actors, Predicting, Row, results
from medsharp.data.duplicates import Look, tie_looks
from medsharp.data.manifest import Manifest, name_of
from medsharp.errors import InputError
from medsharp.images import ImageLimits
from medsharp.inference.blocks import MadeBy, Tables
from medsharp.inference.prediction import Prediction
from medsharp.inference.predictor import BATCH
from medsharp.inference.preparing import Preparation
from medsharp.inference.reading import Frames
from medsharp.inference.ready import ReadyImages
from medsharp.inference.session import choose_precision
from medsharp.inference.table import IncludedImages, laid_out, part_of
from medsharp.progress import Progress

_MOST_PIECES = 8192
"""Tasks that a block of images is at most divided into, all blocks together; each costs Ray some milliseconds."""


class ClusterModel:
    """A bundle that the actors of a cluster load.

    Args:
        folder: The bundle's, on this machine.
        cluster: Where it runs.
        device: `cpu`, `cuda` or another of `Predictor.load`; `auto` is `cuda` where the cluster has GPUs that ONNX
            Runtime can use.
        precision: As for `Predictor.load`.
        limits: As for `Predictor.load`.
        inpaint: As for `Predictor.load`.
        value_range: As for `Predictor.load`.
        answer_anyway: As for `Predictor.load`.
        gpus_each: GPUs of an actor, which may be a part of one; one by default, and none on the CPU.

    Attributes:
        spec: What `bundle.yaml` says.
        preparation: What becomes of an image before the network is asked.
        loading: How actors get it.
        gpus: Of an actor.
        runs_on: What was chosen and why, in one line.

    Raises:
        InputError: The bundle is damaged, or the cluster lacks what the device needs.
    """

    def __init__(
        self,
        folder: str | Path,
        cluster: Cluster,
        *,
        device: str = "auto",
        precision: str = "auto",
        limits: ImageLimits = ImageLimits(),
        inpaint: bool | None = None,
        value_range: tuple[float, float] | None = None,
        answer_anyway: bool = False,
        gpus_each: float | None = None,
    ) -> None:
        import onnxruntime

        folder = Path(folder)
        self.spec = read_bundle(folder)
        self.preparation = Preparation.of(self.spec, limits=limits, inpaint=inpaint, value_range=value_range)
        self._cluster = cluster
        self.loading = Loading(
            files=ray.put(bundle_files(folder, self.spec)),
            device=device,
            precision=choose_precision(folder, self.spec, precision),
            threads=1,
            limits=limits,
            inpaint=inpaint,
            value_range=self.preparation.value_range,
            answer_anyway=answer_anyway,
            runtime=onnxruntime.__version__,
        )
        self.gpus = 0.0 if device == "cpu" else 1.0 if gpus_each is None else gpus_each
        if self.gpus and (device != "auto" or cluster.room(0, self.gpus)):
            cluster.check_room("an actor", 0, self.gpus, remedy="use --device cpu")
        else:
            self.gpus = 0.0
        self.loading = replace(self.loading, device=self._device(device))
        self.runs_on = f"runs on {cluster.text}, on {self.loading.device} in {self.loading.precision}"

    def _device(self, wanted: str) -> str:
        """Return where actors run: asked of one of them, as the machine of the command need not be like theirs."""
        if wanted != "auto" or not self.gpus:
            return "cpu" if wanted == "auto" else wanted
        found = ray.remote(num_cpus=1, num_gpus=self.gpus)(_device_of).remote(self.loading)
        device, self.gpus = (answer := ray.get(found)), self.gpus if answer != "cpu" else 0.0
        return str(device)

    def made_by(self, frames: Frames) -> MadeBy:
        """Return what decides which numbers a block holds."""
        loading, place = self.loading, self.preparation.preprocessing
        return MadeBy(
            digest_of(self.spec),
            frames,
            loading.limits,
            place.inpaint,
            loading.answer_anyway,
            loading.precision,
            loading.device,
        )

    def answering_anyway(self) -> ClusterModel:
        """Return a model of the same bundle that gives refused images their number."""
        other = copy(self)
        other.loading = replace(self.loading, answer_anyway=True)
        return other

    def predict_manifest(
        self, manifest: Manifest, *, frames: Frames = "sharpest", progress: Progress | None = None
    ) -> pd.DataFrame:
        """Predict the images of a manifest, as `medsharp.inference.predict_manifest` does.

        Raises:
            InputError: The manifest excludes every image, or the cluster cannot read or answer.
        """
        images = IncludedImages(manifest)
        done = 0

        def within(here: int, _: int, what: str) -> None:
            if progress is not None:
                progress(done + here, len(images), what)

        found: dict[int, pd.DataFrame] = {}
        for number, table in self.tables(images, frames)(range(images.count), within):
            found[number] = table
            done += len(images.block(number).table)
            within(0, 0, "predicting")
        return pd.concat([found[number] for number in range(images.count)], ignore_index=True)

    def tables(self, images: IncludedImages, frames: Frames) -> Tables:
        """Return what makes the tables of blocks, as `medsharp.inference.blocks.Blocks.fill` takes it."""

        def made(numbers: Sequence[int], progress: Progress) -> Iterator[tuple[int, pd.DataFrame]]:
            begun: dict[int, _Block] = {}
            size = _piece_size(len(numbers), images.size, frames)
            settings = {"frames": frames, "shares": images.want_shares}
            for row in self._rows(images, numbers, size, read_piece, settings):
                number = row["block"]
                one = begun.setdefault(number, _Block(images.block(number), size))
                one.take(row)
                if one.is_whole:
                    del begun[number]
                    yield number, one.laid_out(self, images.want_shares)
                progress(sum(block.done for block in begun.values()), 0, "predicting")

        return made

    def tie(self, manifest: Manifest, *, ready: ReadyImages, progress: Progress | None = None) -> Manifest:
        """Read images once: audit them, as `medsharp.data.duplicates.tie_duplicates` does, and predict them.

        Args:
            manifest: Rows that are excluded already stay as they are.
            ready: Is given the predictions, also those of images that turn out to be copies.
            progress: Called with images done, images in all and what is being done.

        Raises:
            InputError: No image can be read, one is not that of which the manifest has the `sha256`, or the cluster
                cannot read or answer.
        """
        if manifest.included.empty:
            return tie_looks(manifest, [])
        images, looks, done = IncludedImages(manifest), dict[tuple[int, int, int], list[Look]](), 0
        rows = {name_of(row): row for row in images.manifest.table.to_dict("records")}
        size = _piece_size(images.count, images.size, "sharpest")
        for row in self._rows(images, range(images.count), size, look_at_piece, {}):
            looks[row["block"], row["place"], row["batch"]] = pickle.loads(row["looks"])
            for prediction in pickle.loads(row["content"]):
                ready.take(manifest, rows[prediction.source], prediction)
            done += row["images"]
            if progress is not None:
                progress(done, len(images), "reading, hashing and predicting")
        return tie_looks(manifest, [look for key in sorted(looks) for look in looks[key]])

    def _rows(
        self,
        images: IncludedImages,
        numbers: Sequence[int],
        size: int,
        reads: Callable[..., Iterator[Row]],
        settings: dict[str, Any],
    ) -> Iterator[Row]:
        """Give what actors answer, in the order in which they do.

        Raises:
            InputError: They cannot, or what is read is not of this version.
        """
        pieces = [
            Piece(number, place, part_of(block, start, start + size)).packed()
            for number in numbers
            for block in (images.block(number).anywhere(),)
            for place, start in enumerate(range(0, len(block.table), size))
        ]
        settings = settings | {"preparation": self.preparation, "version": __version__}
        for row in results(Predicting(reads, settings, self.loading, self.actors(reading=True)), pieces):
            if row["error"]:
                raise InputError(row["error"])
            yield row

    def actors(self, *, reading: bool) -> Actors:
        """Return how many actors there may be, and what each takes.

        Args:
            reading: Whether tasks read for them, which need cores; otherwise all cores are theirs.
        """
        cpus, gpus = self._cluster.cpus, self.gpus
        if gpus:
            most = self._cluster.room(0, gpus)
            return Actors(most, gpus, 0 if reading else max(1, cpus // most))
        # A core must be left to read.
        return Actors(max(1, cpus - 1), 0.0, 0 if cpus < 2 else 1) if reading else Actors(max(1, cpus), 0.0, 1)


def _device_of(loading: Loading) -> str:
    return loading.predictor().session.device


def _piece_size(blocks: int, block: int, frames: Frames) -> int:
    """Return how many images a task reads: a whole number of batches, so that these are made of the same images.

    A clip gives as many readings as it has frames: its batches, and so those after it, are known when it is read.

    Args:
        blocks: How many there are.
        block: Images of one.
        frames: As for `predict_manifest`.
    """
    size = BATCH
    while size < block and (frames == "all" or blocks * block // size > _MOST_PIECES):
        size *= 2
    return min(size, block)


@dataclass
class _Block:
    """A block whose batches come in whatever order.

    Attributes:
        manifest: Of its images.
        size: Of a piece.
        done: Images that are predicted.
    """

    manifest: Manifest
    size: int
    done: int = 0
    _batches: dict[tuple[int, int], list[Prediction]] = field(default_factory=dict)
    _counts: dict[int, int] = field(default_factory=dict)
    _shares: dict[int, list[float | None]] = field(default_factory=dict)

    def take(self, row: dict[str, Any]) -> None:
        """Take a batch; one that comes twice counts once."""
        place = row["place"]
        self._batches[place, row["batch"]] = pickle.loads(row["content"])
        if row["batches"] and place not in self._counts:
            self._counts[place] = row["batches"]
            self._shares[place] = pickle.loads(row["shares"])
            self.done += row["images"]

    @property
    def is_whole(self) -> bool:
        """Whether every batch is there."""
        pieces = -(-len(self.manifest.table) // self.size)
        return len(self._counts) == pieces and len(self._batches) == sum(self._counts.values())

    def laid_out(self, model: ClusterModel, shares: bool) -> pd.DataFrame:
        """Return its table."""
        predictions = [one for key in sorted(self._batches) for one in self._batches[key]]
        covered = [share for place in sorted(self._shares) for share in self._shares[place]] if shares else None
        return laid_out(self.manifest.table, predictions, model.spec, covered)
