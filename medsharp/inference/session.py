"""ONNX Runtime sessions on the device that was asked for, never on another."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
import warnings
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np

from medsharp.errors import InputError

DEVICES = ("auto", "cpu", "cuda")
_CUDA = "CUDAExecutionProvider"


class Session:
    """An ONNX network: uint8 images in, named float32 arrays out.

    Attributes:
        device: `cpu` or `cuda`, where it really runs.
        outputs: Names of what it returns.
    """

    def __init__(self, path: str | Path, *, device: str = "auto", threads: int | None = None) -> None:
        if device not in DEVICES:
            raise InputError(f"device '{device}' is not one of {', '.join(DEVICES)}")
        self.device = "cuda" if device != "cpu" and has_cuda() else "cpu"
        if device == "cuda" and self.device == "cpu":
            raise InputError("device cuda: no NVIDIA driver or device answers here; use cpu or auto")
        self._session = _open(path, self.device, threads)
        if self.device == "cuda" and self._session.get_providers()[0] != _CUDA:
            if device == "cuda":
                raise InputError(f"device cuda: ONNX Runtime cannot use CUDA here ({_why_not_cuda()}); use cpu or auto")
            self._session, self.device = _open(path, "cpu", threads), "cpu"
        self.outputs = tuple(output.name for output in self._session.get_outputs())

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run uint8 images [B, S, S] through the network."""
        values = self._session.run(None, {"image": np.ascontiguousarray(images[:, None])})
        return dict(zip(self.outputs, values, strict=True))


def has_cuda() -> bool:
    """Whether the NVIDIA driver answers and has a device."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def _open(path: str | Path, device: str, threads: int | None) -> Any:
    # As it comes, ONNX Runtime reports its use to its makers and keeps an identifier of the machine in a file. It looks
    # here when it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Fatal messages only: what matters is checked and said in our own words.
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    providers: list[Any] = ["CPUExecutionProvider"]
    if device == "cuda" and _CUDA in onnxruntime.get_available_providers():
        onnxruntime.set_default_logger_severity(4)
        # It prints each library that it does not find.
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()
        # TF32 rounds convolutions to 10 bits: scores would shift against the threshold that was frozen in float32.
        providers.insert(0, (_CUDA, {"use_tf32": "0"}))
    # ONNX Runtime warns of falling back; the caller looks at the providers itself.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=providers)
        # ONNX Runtime raises classes of its own, which derive from Exception alone.
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path} cannot be loaded by ONNX Runtime: {reason}") from error


def _why_not_cuda() -> str:
    installed = {name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)}
    if installed == {"onnxruntime", "onnxruntime-gpu"}:
        return "onnxruntime and onnxruntime-gpu are both installed and hide each other: uninstall both, install one"
    if "onnxruntime-gpu" not in installed:
        return "the installed onnxruntime has no CUDA: install onnxruntime-gpu instead"
    return "CUDA 13 or cuDNN 9 libraries are missing: install 'onnxruntime-gpu[cuda,cudnn]'"


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
