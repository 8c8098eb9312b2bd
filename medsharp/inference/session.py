"""ONNX Runtime sessions on the device that was asked for, never on another."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from medsharp.bundle import MODELS, BundleSpec, Precision
from medsharp.cores import usable_cores
from medsharp.errors import InputError
from medsharp.inference.bound import BoundRuns
from medsharp.inference.providers import CPU, CUDA, DEVICES, NAMES, has_cuda, preload_cuda, why_not

MOST_THREADS = 16
"""Threads of one run on a CPU; beyond, those of a convolution of 200 pixels wait for each other. More cores serve more
processes: `medsharp predict --shard`."""


class Session:
    """An ONNX network: uint8 images in, named float32 arrays out.

    Attributes:
        device: Where it really runs: one of `DEVICES`.
        outputs: Names of what it returns.
        precision: Of the file.
        why: Why this device: the end of a sentence.
    """

    def __init__(
        self, path: str | Path, *, device: str = "auto", threads: int | None = None, precision: Precision = "fp32"
    ) -> None:
        """Open a network.

        Args:
            path: The ONNX file.
            device: `auto` (CUDA where it works, else the CPU), or one of `DEVICES`.
            threads: Of a run on the CPU; the cores that this process may use, at most 16, by default.
            precision: Of the file, which some providers must know.

        Raises:
            InputError: The device is unknown, absent or does not work here, or the file is damaged.
        """
        if device not in NAMES:
            raise InputError(f"device '{device}' is not one of {', '.join(NAMES)}")
        self.precision = precision
        self._opened = _Opened(Path(path), threads or min(usable_cores(), MOST_THREADS), precision)
        if device != "auto":
            self._session = self._opened.on(device)
            self.device, self.why = device, "as asked for"
        else:
            self.device, self._session, self.why = self._opened.on_the_best()
        self.why += self._opened.remark
        self.outputs = tuple(output.name for output in self._session.get_outputs())
        self._bound = None
        if self.device in ("cuda", "tensorrt") and _has_fixed_shapes(self._session):
            self._bound = BoundRuns(self._session, "cuda", graphs=self._opened.graphs)

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Sizes of what it returns, by name; -1 for the batch's and for others that are not fixed."""
        return {
            output.name: tuple(size if isinstance(size, int) else -1 for size in output.shape)
            for output in self._session.get_outputs()
        }

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run uint8 images [B, S, S] through the network."""
        image = np.ascontiguousarray(images[:, None])
        values = self._session.run(None, {"image": image}) if self._bound is None else self._bound.run(image)
        return dict(zip(self.outputs, values, strict=True))


class _Opened:
    """Opens a network on one device or another.

    Attributes:
        graphs: Whether CUDA graphs are captured.
        remark: Why they are not, on CUDA: the end of a sentence.
    """

    def __init__(self, path: Path, threads: int, precision: Precision) -> None:
        self._path = path
        self._threads = threads
        self._precision = precision
        self.graphs = False
        self.remark = ""

    def on(self, name: str) -> Any:
        """Open it on a device.

        Raises:
            InputError: It is absent, or ONNX Runtime went on without it.
        """
        device = DEVICES[name]
        obstacle = device.obstacle()
        if obstacle is not None:
            raise InputError(f"device {name}: {obstacle}; use cpu or auto")
        onnxruntime = _runtime()
        if device.provider not in onnxruntime.get_available_providers():
            raise InputError(f"device {name}: ONNX Runtime cannot use it here ({why_not(name)}); use cpu or auto")
        if name == "cpu":
            return self._open([CPU])
        preload_cuda()
        if name == "tensorrt" and self._precision == "fp32":
            os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # TensorRT has no option of its own for it
        options = device.options(self._path, self._side, self._precision)
        further = [(provider, {"use_tf32": "0"}) for provider in device.falls_back_on]
        session = self._with_graphs(options) if name == "cuda" else None
        session = session or self._open([(device.provider, options), *further, CPU])
        if session.get_providers()[0] != device.provider:
            raise InputError(f"device {name}: ONNX Runtime cannot use it here ({why_not(name)}); use cpu or auto")
        return session

    def on_the_best(self) -> tuple[str, Any, str]:
        """Open it on CUDA where that works, else on the CPU; return the device, the session and why."""
        if not has_cuda():
            return "cpu", self.on("cpu"), "no NVIDIA GPU answers here"
        try:
            return "cuda", self.on("cuda"), "an NVIDIA GPU answers"
        except InputError as error:
            return "cpu", self.on("cpu"), str(error)

    def _with_graphs(self, options: dict[str, str]) -> Any:
        """Open it with CUDA graphs, or return None where an operator runs on the CPU, which no graph can hold."""
        try:
            session = self._open([(CUDA, {**options, "enable_cuda_graph": "1"})])
        except InputError as error:
            self.remark = f", without CUDA graphs: {error}"
            return None
        self.graphs = session.get_providers()[0] == CUDA and _has_fixed_shapes(session)
        return session if self.graphs else None

    def _side(self) -> int:
        (given,) = self._open([CPU]).get_inputs()
        return int(given.shape[-1])

    def _open(self, providers: list[Any]) -> Any:
        onnxruntime = _runtime()
        options = onnxruntime.SessionOptions()
        # Fatal messages only: what matters is checked and said in our own words.
        options.log_severity_level = 4
        # Left to itself, ONNX Runtime takes all of the machine's cores and pins its threads to them, in a container too
        # that may use two.
        options.intra_op_num_threads = self._threads
        # Threads that spin between runs take the cores from those that decode the next images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.use_deterministic_compute = True
        # ONNX Runtime warns of falling back; the caller looks at the providers itself.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return onnxruntime.InferenceSession(str(self._path), options, providers=providers)
            # ONNX Runtime raises classes of its own, which derive from Exception alone.
            except Exception as error:
                reason = " ".join(str(error).split())[:200]
                raise InputError(f"{self._path} cannot be loaded by ONNX Runtime: {reason}") from error


def _runtime() -> Any:
    # As it comes, ONNX Runtime reports its use to its makers and keeps an identifier of the machine in a file. It looks
    # here when it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def _has_fixed_shapes(session: Any) -> bool:
    """Whether every size but the batch's is a number."""
    given = (*session.get_inputs(), *session.get_outputs())
    return all(isinstance(size, int) for one in given for size in one.shape[1:])


def choose_precision(folder: Path, spec: BundleSpec, wanted: str) -> Precision:
    """Return the precision of the network that is opened: `auto` is that in which the operating point was frozen.

    Args:
        folder: The bundle's, to name.
        spec: Its description.
        wanted: `auto`, or one of `MODELS`.

    Raises:
        InputError: The bundle has no network of it.
    """
    if wanted == "auto":
        return "fp32"
    there: list[Precision] = [name for name, file in MODELS.items() if file in spec.files]
    found = next((name for name in there if name == wanted), None)
    if found is None:
        known = f"{folder} has {', '.join(there)}" if wanted in MODELS else f"give auto or {', '.join(MODELS)}"
        raise InputError(f"precision {wanted}: {known}")
    return found
