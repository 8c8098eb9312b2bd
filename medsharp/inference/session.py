"""ONNX Runtime sessions on the device that was asked for, never on another."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import numpy as np

from medsharp.errors import InputError

DEVICES = ("auto", "cpu", "cuda")


class Session:
    """An ONNX network: uint8 images in, named float32 arrays out.

    Attributes:
        device: `cpu` or `cuda`, where it really runs.
        outputs: Names of what it returns.
    """

    def __init__(self, path: str | Path, *, device: str = "auto", threads: int | None = None) -> None:
        if device not in DEVICES:
            raise InputError(f"device '{device}' is not one of {', '.join(DEVICES)}")
        wanted = "cuda" if device == "cuda" or (device == "auto" and has_cuda()) else "cpu"
        if wanted == "cuda":
            session = _open(path, "cuda", threads)
            if session.get_providers()[0] == "CUDAExecutionProvider":
                self._session, self.device = session, "cuda"
            elif device == "cuda":
                raise InputError(
                    "device cuda: ONNX Runtime cannot use CUDA here (no device, or CUDA 13 or cuDNN 9 missing, "
                    "or onnxruntime installed over onnxruntime-gpu); use cpu or auto"
                )
            else:
                self._session, self.device = _open(path, "cpu", threads), "cpu"
        else:
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
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Fatal messages only: what matters is checked and said in our own words.
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    providers = ["CPUExecutionProvider"]
    if device == "cuda":
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise InputError("device cuda: the installed onnxruntime has no CUDA; install onnxruntime-gpu, or use cpu")
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
        providers.insert(0, "CUDAExecutionProvider")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    # ONNX Runtime raises classes of its own, which derive from Exception alone.
    except Exception as error:
        raise InputError(f"{path} cannot be loaded by ONNX Runtime: {str(error).splitlines()[0][:200]}") from error
