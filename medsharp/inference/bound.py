"""Runs with buffers that stay where they are: one set for each size of batch, as CUDA graphs need them."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from medsharp.inference.providers import MAX_BATCH


@dataclass(frozen=True)
class _Buffers:
    """What one size of batch is run with.

    Attributes:
        staging: uint8 [b, 1, S, S] in main memory.
        image: The input on the device.
        outputs: By name, on the device.
        binding: Of both to the session.
        options: Of the run, with the number of its CUDA graph.
    """

    staging: np.ndarray
    image: Any
    outputs: dict[str, Any]
    binding: Any
    options: Any


class BoundRuns:
    """Runs a session with bound inputs and outputs; a batch is filled up to a power of two.

    Without this, ONNX Runtime allocates and copies for each run; with graphs, a run is one launch in place of one for
    each operator. A graph is captured when a size is first run.

    Args:
        session: Of ONNX Runtime; all sizes of its outputs but the batch are fixed.
        memory: `cuda`, or `cpu`, where it brings nothing and is for tests.
        graphs: Whether the session captures CUDA graphs.
    """

    def __init__(self, session: Any, memory: str, *, graphs: bool) -> None:
        self._session = session
        self._memory = memory
        self._graphs = graphs
        self._buffers: dict[int, _Buffers] = {}
        self._lock = Lock()  # the buffers of a size serve one run at a time

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Return the outputs of uint8 images [B, 1, S, S], of any B, in the session's order."""
        parts = [self._run_part(images[start : start + MAX_BATCH]) for start in range(0, len(images), MAX_BATCH)]
        return [np.concatenate(values) if len(parts) > 1 else values[0] for values in zip(*parts, strict=True)]

    def _run_part(self, images: np.ndarray) -> list[np.ndarray]:
        count = len(images)
        with self._lock:
            size = bucket_of(count)
            if size not in self._buffers:
                self._buffers[size] = self._bind(size)
            buffers = self._buffers[size]
            buffers.staging[:count] = images
            buffers.staging[count:] = 0
            buffers.image.update_inplace(buffers.staging)
            self._session.run_with_iobinding(buffers.binding, buffers.options)
            return [value.numpy()[:count].copy() for value in buffers.outputs.values()]

    def _bind(self, size: int) -> _Buffers:
        from onnxruntime import OrtValue, RunOptions

        (given,) = self._session.get_inputs()
        staging = np.zeros((size, *given.shape[1:]), dtype=np.uint8)
        image = OrtValue.ortvalue_from_numpy(staging, self._memory, 0)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(given.name, image)
        outputs = {}
        for output in self._session.get_outputs():
            shape = [size, *output.shape[1:]]
            outputs[output.name] = OrtValue.ortvalue_from_shape_and_type(shape, np.float32, self._memory, 0)
            binding.bind_ortvalue_output(output.name, outputs[output.name])
        options = RunOptions()
        if self._graphs:
            options.add_run_config_entry("gpu_graph_id", str(size))
        return _Buffers(staging, image, outputs, binding, options)


def bucket_of(count: int) -> int:
    """Return the power of two, at most 64, that a batch of at most 64 is filled up to."""
    return min(MAX_BATCH, 1 << (count - 1).bit_length())
