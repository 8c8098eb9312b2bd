"""A bundle on a cluster: tasks read, actors answer, and the rows are those of one process, bit for bit."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import ray

from medsharp.bundle import digest_of, read_bundle
from medsharp.cluster.answering import Loading, bundle_files
from medsharp.cluster.reading import Piece
from medsharp.cluster.session import Cluster, gpus_text
from medsharp.cluster.stream import Way
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.images import ImageLimits, ValueRange
from medsharp.inference.blocks import MadeBy, Tables
from medsharp.inference.prediction import Prediction
from medsharp.inference.predictor import BATCH
from medsharp.inference.preparing import Preparation
from medsharp.inference.reading import Frames
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
        value_range: ValueRange | None = None,
        answer_anyway: bool = False,
        gpus_each: float | None = None,
    ) -> None:
        import onnxruntime

        folder = Path(folder)
        self.spec = read_bundle(folder)
        self.preparation = Preparation.of(self.spec, limits=limits, inpaint=inpaint, value_range=value_range)
        self._cluster = cluster
        self._loading = Loading(
            ray.put(bundle_files(folder, self.spec)),
            device,
            choose_precision(folder, self.spec, precision),
            1,
            limits,
            inpaint,
            value_range,
            answer_anyway,
            onnxruntime.__version__,
        )
        self._gpus = 0.0 if device == "cpu" else 1.0 if gpus_each is None else gpus_each
        if cluster.gpus < self._gpus:
            if device != "auto":
                raise InputError(
                    f"device {device}: {cluster.text}, and an actor needs {gpus_text(self._gpus)}; use --device cpu"
                )
            self._gpus = 0.0
        self._loading = replace(self._loading, device=self._device(device))
        self.runs_on = f"runs on {cluster.text}, on {self._loading.device} in {self._loading.precision}"

    def _device(self, wanted: str) -> str:
        """Return where actors run: asked of one of them, as the machine of the command need not be like theirs."""
        if wanted != "auto" or not self._gpus:
            return "cpu" if wanted == "auto" else wanted
        found = ray.remote(num_cpus=1, num_gpus=self._gpus)(_device_of).remote(self._loading)
        device, self._gpus = (answer := ray.get(found)), self._gpus if answer != "cpu" else 0.0
        return str(device)

    def made_by(self, frames: Frames) -> MadeBy:
        """Return what decides which numbers a block holds."""
        loading, place = self._loading, self.preparation.preprocessing
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
        other = ClusterModel.__new__(ClusterModel)
        other.__dict__ = self.__dict__ | {"_loading": replace(self._loading, answer_anyway=True)}
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
            for row in self._rows(images, numbers, size, frames):
                if row["error"]:
                    raise InputError(row["error"])
                number = row["block"]
                one = begun.setdefault(number, _Block(images.block(number), size))
                one.take(row)
                if one.is_whole:
                    del begun[number]
                    yield number, one.laid_out(self, images.want_shares)
                progress(sum(block.done for block in begun.values()), 0, "predicting")

        return made

    def _rows(
        self, images: IncludedImages, numbers: Sequence[int], size: int, frames: Frames
    ) -> Iterator[dict[str, Any]]:
        """Give what actors answer, in the order in which they do."""
        pieces = [
            Piece(number, place, part_of(block, start, start + size)).packed()
            for number in numbers
            for block in (_anywhere(images.block(number)),)
            for place, start in enumerate(range(0, len(block.table), size))
        ]
        cluster, gpus = self._cluster, self._gpus
        way = Way(
            self._loading,
            self.preparation,
            frames,
            images.want_shares,
            actors=max(1, int(cluster.gpus / gpus) if gpus else cluster.cpus - 1),
            gpus=gpus,
            cpus=0 if gpus or cluster.cpus < 2 else 1,  # a core must be left to read
        )
        return way.batches(pieces)


def _anywhere(manifest: Manifest) -> Manifest:
    """Return a manifest that means the same in another working folder; what is told to people is not sent along."""
    parts = tuple(replace(part, root=part.root.absolute()) for part in manifest.parts)
    return replace(manifest, root=manifest.root.absolute(), parts=parts, notes=())


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
