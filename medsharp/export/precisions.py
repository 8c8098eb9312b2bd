"""The float32 graph as one that computes in 16-bit floating point, or in 8-bit integers.

Whatever comes before the first and after the last product (convolution or matrix product) stays in float32 in both:
the normalisation of grey values and the mean of several answers cost nothing, and hold numbers that few bits do not,
such as sums over all pixels and the logarithm of small shares.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from medsharp.export.half_graph import to_half

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum")
_OF_ATTENTION = ("Conv", "Gemm", "MatMul")
"""What is computed in integers in a transformer: its activations have outliers that 8 bits do not span, so that norms,
GELU and residual sums in integers lose what it has learned."""

SPARED = (0.0, 0.125, 0.25, 0.5)
"""Shares of the products, the first ones, that stay in float32, tried in this order: rounding in the first layers is
carried through all others, and they are few of the weights."""

_TOGETHER = 8


def write_half(model: Path, path: Path) -> None:
    """Write a graph that computes in float16; `image`, `logits`, `features` and `cam` keep their types.

    Where an execution provider has no kernel in float16, as on most CPUs, ONNX Runtime computes the node in float32 and
    rounds what comes out.

    Args:
        model: The float32 graph.
        path: The file to write.
    """
    graph = onnx.load(model)
    half = to_half(graph, outer_nodes(graph))
    onnx.checker.check_model(half)
    _save(half, graph, "fp16", path)


def write_int8(model: Path, path: Path, images: np.ndarray, *, spared: float = 0.0) -> None:
    """Write a graph that computes in 8-bit integers: static quantisation with QDQ nodes, weights by channel.

    Activations are uint8, of the smallest and largest value seen on the calibration images. Weights are int8 of 7 bits:
    the instructions of CPUs without VNNI add two products in 16 bits, which overflow with 8, so that the answer would
    depend on the CPU. In a transformer, only `Conv`, `Gemm` and `MatMul` with weights are quantised.

    Args:
        model: The float32 graph.
        path: The file to write.
        images: Training images to calibrate with, uint8 [N, S, S].
        spared: Share of the products, the first ones, that stay in float32.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        """Gives the images in small batches, and then None."""

        def __init__(self) -> None:
            starts = range(0, len(images), _TOGETHER)
            self.batches = iter([images[start : start + _TOGETHER, None] for start in starts])

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"image": batch}

    with _quiet(), tempfile.TemporaryDirectory() as aside:
        prepared = Path(aside) / "prepared.onnx"
        quant_pre_process(model, prepared)
        graph = onnx.load(prepared)
        options: dict[str, Any] = {"op_types_to_quantize": list(_OF_ATTENTION)} if attends(graph) else {}
        # Of products of two activations in integers, ONNX Runtime 1.31 fuses the softmax between them with its rounding
        # and answers all images alike.
        excluded = [*outer_nodes(graph), *_first_products(graph, spared), *_products_of_activations(graph)]
        quantize_static(
            prepared,
            path,
            Images(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=excluded,
            **options,
        )
    _save(onnx.load(path), onnx.load(model), "int8", path)


def _save(model: onnx.ModelProto, original: onnx.ModelProto, precision: str, path: Path) -> None:
    """Write a graph with the properties of the one that it was made of, but for its precision."""
    said = {entry.key: entry.value for entry in original.metadata_props}
    onnx.helper.set_model_props(model, said | {"precision": precision})
    onnx.save(model, path)


def attends(model: onnx.ModelProto) -> bool:
    """Whether a graph is of a transformer: it has layer norms, or multiplies two matrices that it computed."""
    has_norms = any(node.op_type == "LayerNormalization" for node in model.graph.node)
    return has_norms or bool(_products_of_activations(model))


def _products_of_activations(model: onnx.ModelProto) -> list[str]:
    """Return the names of the products of two matrices that are both computed, as attention's are."""
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    return [node.name for node in products if not any(name in constants for name in node.input)]


def outer_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes before the first and after the last product on their way."""
    nodes = model.graph.node
    below = _reach(nodes)
    above = _reach(nodes, backwards=True)
    return [node.name for node, a, b in zip(nodes, below, above, strict=True) if not (a and b)]


def _reach(nodes: Sequence[onnx.NodeProto], *, backwards: bool = False) -> list[bool]:
    """Return whether each node is a product or comes after one; `backwards`: or before one."""
    carried: set[str] = set()
    reached = []
    for node in reversed(nodes) if backwards else nodes:
        come, go = (node.output, node.input) if backwards else (node.input, node.output)
        here = node.op_type in _PRODUCTS or any(name in carried for name in come)
        if here:
            carried.update(go)
        reached.append(here)
    return reached[::-1] if backwards else reached


def _first_products(model: onnx.ModelProto, share: float) -> list[str]:
    products = [node.name for node in model.graph.node if node.op_type in _PRODUCTS]
    return products[: round(share * len(products))]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep ONNX Runtime's tools from advising on standard error."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
