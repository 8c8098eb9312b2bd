"""Weights stored with 16 bits in an ONNX file, computed with as 32 bits."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
from onnx import numpy_helper

Weights = Literal["fp32", "fp16"]
"""How weights are stored; the graph computes in float32 either way."""

_LEAST_VALUES = 1024
"""Smaller tensors, such as biases and what batch norm holds, stay as they are: they weigh nothing."""


def store_half_weights(model: onnx.ModelProto) -> None:
    """Store large float32 weights as float16, with a Cast to float32 behind each, which the runtime folds on loading.

    Rounding moves a weight by at most one part in 2048. Tensors with a value beyond the largest of float16, 65504, stay
    as they are.

    Args:
        model: Changed in place.
    """
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < _LEAST_VALUES:
            continue
        values = numpy_helper.to_array(tensor)
        if not np.abs(values).max() <= np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.fp16"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.fp16"], [name], to=onnx.TensorProto.FLOAT))
        # A type noted for the name as an initializer is that of the Cast's output now: float32, as before.
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
