"""Actors: each loads a bundle once, and asks its network of batch after batch."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray

from medsharp.bundle import SPEC, BundleSpec
from medsharp.errors import InputError
from medsharp.images import ImageLimits, ValueRange
from medsharp.inference import Predictor


@dataclass(frozen=True)
class Loading:
    """How a bundle is loaded by an actor.

    Attributes:
        files: A reference to the bundle's files, by name, which so reach machines that do not have them.
        device: As for `Predictor.load`.
        precision: Of the network.
        threads: Of a run on the CPU.
        limits: As for `Predictor.load`.
        inpaint: As for `Predictor.load`.
        value_range: As for `Predictor.load`.
        answer_anyway: As for `Predictor.load`.
        runtime: The version of ONNX Runtime, where the command runs.
    """

    files: Any
    device: str
    precision: str
    threads: int
    limits: ImageLimits
    inpaint: bool | None
    value_range: ValueRange | None
    answer_anyway: bool
    runtime: str

    def predictor(self) -> Predictor:
        """Load the bundle.

        Raises:
            InputError: The device cannot be used here, or this machine's ONNX Runtime is of another version.
        """
        import onnxruntime

        if onnxruntime.__version__ != self.runtime:
            raise InputError(
                f"a machine of the cluster has ONNX Runtime {onnxruntime.__version__}, and this one {self.runtime}; "
                "install one, as answers may differ in their last digits"
            )
        with TemporaryDirectory(prefix="medsharp-") as folder:
            for name, content in ray.get(self.files).items():
                (Path(folder) / name).write_bytes(content)
            predictor = Predictor.load(
                folder,
                device=self.device,
                precision=self.precision,
                threads=self.threads,
                limits=self.limits,
                inpaint=self.inpaint,
                value_range=self.value_range,
                answer_anyway=self.answer_anyway,
            )
            _ = predictor.prediction_sets  # read when first asked for, and the folder goes
        return predictor


def bundle_files(folder: Path, spec: BundleSpec) -> dict[str, bytes]:
    """Return the files of a bundle by name."""
    return {name: (folder / name).read_bytes() for name in (SPEC, *spec.files)}


class Answering:
    """An actor that predicts what tasks have read.

    Args:
        loading: How it gets its bundle.
    """

    def __init__(self, loading: Loading) -> None:
        self._loading = loading

    @cached_property
    def _predictor(self) -> Predictor:
        return self._loading.predictor()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Predict a batch of readings; a bundle that cannot be loaded becomes `error`."""
        if row["error"]:
            return row
        try:
            found = self._predictor.predict_readings(pickle.loads(row["content"]))
        except InputError as error:
            return row | {"content": pickle.dumps(None), "error": str(error)}
        # Maps are made of what the network returned, which stays here.
        plain = [replace(one, picture=None, _explain=None) for one in found]
        return row | {"content": pickle.dumps(plain)}
