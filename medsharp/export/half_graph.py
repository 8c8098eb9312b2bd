"""A float32 graph as one that computes in float16 between its first and its last product.

ONNX Runtime's own converter (`onnxruntime.transformers.float16`) gives two nodes one name where two nodes that stay in
float32 share a constant, and rounds what passes from one such node to the next, so that shares below 6e-8 and sums over
more than 65504 pixels are lost where float32 was kept for them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

_LARGEST = float(np.finfo(np.float16).max)
_FLOAT_INPUTS = {"Resize": (1, 2), "Upsample": (1,)}
"""Inputs that are float32 whatever the type of the others."""


def to_half(model: onnx.ModelProto, outer: Iterable[str]) -> onnx.ModelProto:
    """Return the graph with every node but the outer ones in float16; its inputs and outputs keep their types.

    Values beyond the largest of float16, 65504, become it.

    Args:
        model: Without functions and subgraphs, as torch's exporter writes it.
        outer: Names of nodes that stay in float32.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    graph, kept = half.graph, set(outer)
    floats = _float_values(model)
    inner = [node for node in graph.node if node.name not in kept]
    halves = {name for node in inner for name in node.output} & floats
    # What the graph returns keeps its name: the node's own result, in float16, gets another.
    returned = {output.name: f"{output.name}_in_float16" for output in graph.output if output.name in halves}
    _rename(graph.node, returned)
    floats, halves = floats | set(returned.values()), {returned.get(name, name) for name in halves}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    made: set[str] = set()

    def converted(name: str, to: int) -> str:
        """Return the name of a value in the other type, which is made where this is the first to ask for it."""
        new = f"{name}_as_{TensorProto.DataType.Name(to).lower()}"
        if new not in made:
            made.add(new)
            if name in constants:
                graph.initializer.append(_rounded(constants[name], new))
            else:
                nodes.append(_cast(name, new, to))
        return new

    for node in graph.node:
        own = node.name not in kept
        for place, name in enumerate(node.input):
            wants_half = own and place not in _FLOAT_INPUTS.get(node.op_type, ())
            if name in floats and wants_half != (name in halves):
                node.input[place] = converted(name, TensorProto.FLOAT16 if wants_half else TensorProto.FLOAT)
        if own:
            _round_attributes(node)
        nodes.append(node)
    nodes += [_cast(own, name, TensorProto.FLOAT) for name, own in returned.items()]
    _replace(graph, nodes)
    return half


def _cast(name: str, to_name: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [to_name], name=f"cast_{to_name}", to=to)


def _rename(nodes: Iterable[onnx.NodeProto], names: dict[str, str]) -> None:
    for node in nodes:
        for values in (node.input, node.output):
            for place, name in enumerate(values):
                values[place] = names.get(name, name)


def _float_values(model: onnx.ModelProto) -> set[str]:
    """Return the names of all float32 values of a graph."""
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    typed = [*graph.input, *graph.value_info, *graph.output]
    names = {value.name for value in typed if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return names | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _rounded(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    values = np.clip(numpy_helper.to_array(tensor), -_LARGEST, _LARGEST)
    return numpy_helper.from_array(values.astype(np.float16), name)


def _round_attributes(node: onnx.NodeProto) -> None:
    """Let a node that names the type of its result give float16: a cast, or a constant that it holds."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(_rounded(attribute.t, attribute.t.name))


def _replace(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Lay other nodes into a graph; constants that none of them uses, and types as they were before, are dropped."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    used = {name for node in copies for name in node.input}
    constants = [onnx.TensorProto.FromString(one.SerializeToString()) for one in graph.initializer if one.name in used]
    del graph.initializer[:]
    graph.initializer.extend(constants)
    del graph.value_info[:]
