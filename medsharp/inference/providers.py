"""Which of ONNX Runtime's execution providers a device is, whether it can be used here, and with which options."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from medsharp.bundle import Precision
from medsharp.errors import InputError
from medsharp.files import cache_folder, sha256_file

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

MAX_BATCH = 64
"""The largest batch of a GPU's buffers and of TensorRT's profile; larger ones are run in parts."""

_COMPUTE_CAPABILITY = (75, 76)  # of CUdevice_attribute: major, minor
_NVINFER = "libnvinfer.so.10"


@dataclass(frozen=True)
class Device:
    """A device as users name it.

    Attributes:
        provider: ONNX Runtime's name of what runs there.
        package: What brings it.
        obstacle: Says why it cannot work here before it is tried; None where it may.
        options: The provider's, for a model file, what tells the side of its input, and its precision.
        falls_back_on: Providers that take the operators that it lacks, before the CPU.
    """

    provider: str
    package: str
    obstacle: Callable[[], str | None] = field(default=lambda: None)
    options: Callable[[Path, Callable[[], int], Precision], dict[str, str]] = field(
        default=lambda path, side, precision: {}
    )
    falls_back_on: tuple[str, ...] = ()


def has_cuda() -> bool:
    """Whether the NVIDIA driver answers and has a device."""
    driver = _driver()
    if driver is None:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def gpu_name() -> str:
    """Return the name and compute capability of the first NVIDIA GPU, such as `NVIDIA H200 sm90`.

    Raises:
        InputError: There is none.
    """
    driver, device, name = _driver(), ctypes.c_int(), ctypes.create_string_buffer(128)
    if driver is None or not has_cuda() or driver.cuDeviceGet(ctypes.byref(device), 0) != 0:
        raise InputError("no NVIDIA driver or device answers here")
    driver.cuDeviceGetName(name, len(name), device)
    parts = []
    for attribute in _COMPUTE_CAPABILITY:
        part = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(part), attribute, device)
        parts.append(str(part.value))
    return f"{name.value.decode(errors='replace')} sm{''.join(parts)}"


def _driver() -> Any:
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def _no_gpu() -> str | None:
    return None if has_cuda() else "no NVIDIA driver or device answers here"


def _no_tensorrt() -> str | None:
    if not has_cuda():
        return _no_gpu()
    return None if _nvinfer() is not None else f"{_NVINFER} is not found: install 'tensorrt-cu13<11'"


def _nvinfer() -> Any:
    """Load TensorRT, from its Python package where it is one, so that ONNX Runtime finds it loaded."""
    package = importlib.util.find_spec("tensorrt_libs")
    folders = list(package.submodule_search_locations or ()) if package is not None else []
    for path in (*(str(Path(folder) / _NVINFER) for folder in folders), _NVINFER):
        with contextlib.suppress(OSError):
            return ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    return None


def _cuda_options(path: Path, side: Callable[[], int], precision: Precision) -> dict[str, str]:
    # TF32 rounds convolutions to 10 bits: scores would shift against the threshold that was frozen in float32.
    return {"use_tf32": "0"}


def _tensorrt_options(path: Path, side: Callable[[], int], precision: Precision) -> dict[str, str]:
    folder = engine_folder(path, gpu_name(), str(_nvinfer().getInferLibVersion()))
    folder.mkdir(parents=True, exist_ok=True)
    shapes, size = {"min": 1, "opt": 32, "max": MAX_BATCH}, side()
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        "trt_fp16_enable": str(int(precision == "fp16")),
        "trt_int8_enable": str(int(precision == "int8")),
        **{f"trt_profile_{kind}_shapes": f"image:{batch}x1x{size}x{size}" for kind, batch in shapes.items()},
    }


def engine_folder(model: Path, gpu: str, tensorrt: str) -> Path:
    """Return where TensorRT's engines of a model are kept: they hold for one GPU, one version and one network.

    Args:
        model: The ONNX file, whose content counts.
        gpu: Its name and compute capability.
        tensorrt: Its version.
    """
    import onnxruntime

    key = "-".join((gpu, f"trt{tensorrt}", f"ort{onnxruntime.__version__}", sha256_file(model)[:16]))
    return cache_folder() / "tensorrt" / "".join(char if char.isalnum() or char in "-." else "_" for char in key)


def _openvino_options(path: Path, side: Callable[[], int], precision: Precision) -> dict[str, str]:
    return {"device_type": "CPU", "precision": "FP16" if precision == "fp16" else "FP32"}


def _coreml_options(path: Path, side: Callable[[], int], precision: Precision) -> dict[str, str]:
    # The neural engine computes in float16, whatever the file says.
    units = "ALL" if precision == "fp16" else "CPUAndGPU"
    return {"ModelFormat": "MLProgram", "MLComputeUnits": units, "AllowLowPrecisionAccumulationOnGPU": "0"}


DEVICES = {
    "cpu": Device(CPU, "onnxruntime"),
    "cuda": Device(CUDA, "onnxruntime-gpu", _no_gpu, _cuda_options),
    "tensorrt": Device("TensorrtExecutionProvider", "onnxruntime-gpu", _no_tensorrt, _tensorrt_options, (CUDA,)),
    "openvino": Device("OpenVINOExecutionProvider", "onnxruntime-openvino", options=_openvino_options),
    "coreml": Device("CoreMLExecutionProvider", "onnxruntime", options=_coreml_options),
}
NAMES = ("auto", *DEVICES)


def preload_cuda() -> None:
    """Load CUDA's and cuDNN's libraries from their Python packages, without a word."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    # It prints each library that it does not find.
    with contextlib.redirect_stdout(io.StringIO()):
        onnxruntime.preload_dlls()


def why_not(name: str) -> str:
    """Say why ONNX Runtime went on without the device that was asked for."""
    device = DEVICES[name]
    if is_installed("onnxruntime") and is_installed("onnxruntime-gpu"):
        return "onnxruntime and onnxruntime-gpu are both installed and hide each other: uninstall both, install one"
    if name in ("cuda", "tensorrt") and is_installed(device.package):
        return "CUDA 13 or cuDNN 9 libraries are missing: install 'onnxruntime-gpu[cuda,cudnn]'"
    return f"the installed onnxruntime has no {device.provider}: install {device.package} instead"


def is_installed(name: str) -> bool:
    """Whether a distribution of this name is installed."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
