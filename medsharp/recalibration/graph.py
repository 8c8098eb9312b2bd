"""The intercept, laid into the ONNX graph: whoever runs `model.onnx` gets it, and nobody can forget it.

Written with protobuf, on which ONNX Runtime stands, because the package `onnx` belongs to training. Of ONNX's schema
only the fields that are touched are declared (onnx.proto3, IR version 3 and later); protobuf keeps all others as they
are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from medsharp.errors import InputError

LOGITS = "logits"
_FLOAT = 1
"""`TensorProto.FLOAT`."""

_FIELDS: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "Model": (("graph", 7, "Graph", False),),
    "Graph": (("node", 1, "Node", True), ("initializer", 5, "Tensor", True), ("output", 12, "ValueInfo", True)),
    "Node": (
        ("input", 1, "string", True),
        ("output", 2, "string", True),
        ("name", 3, "string", False),
        ("op_type", 4, "string", False),
    ),
    "Tensor": (
        ("dims", 1, "int64", True),
        ("data_type", 2, "int32", False),
        ("name", 8, "string", False),
        ("raw_data", 9, "bytes", False),
    ),
    "ValueInfo": (("name", 1, "string", False),),
}
"""Message to fields: name, number, type, repeated."""


def shift_logits(model: bytes, shift: Sequence[float]) -> bytes:
    """Add constants to the logits that a graph returns; all else that it returns stays as it is.

    Args:
        model: `model.onnx`, float32 logits [batch, C] under the name `logits`.
        shift: Of each class [C].

    Raises:
        InputError: It is no ONNX model, or it returns no logits.
    """
    message = _model_class()()
    try:
        message.ParseFromString(model)
    except DecodeError as error:
        raise InputError("model.onnx is not an ONNX model") from error
    graph = message.graph
    if LOGITS not in {output.name for output in graph.output}:
        raise InputError(f"model.onnx returns no {LOGITS}")
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {tensor.name for tensor in graph.initializer}
    before, constant = (_free(name, taken) for name in ("logits_before_update", "logits_update"))
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == LOGITS:
                    names[place] = before
    values = np.asarray(shift, dtype="<f4")  # raw_data is little-endian
    graph.initializer.add(dims=[1, len(values)], data_type=_FLOAT, name=constant, raw_data=values.tobytes())
    # Last, as nodes stand in the order in which they are computed.
    graph.node.add(input=[before, constant], output=[LOGITS], name=constant, op_type="Add")
    return bytes(message.SerializeToString())


def _free(name: str, taken: set[str]) -> str:
    """Return the name, numbered where an earlier update took it."""
    number = 1
    while (found := f"{name}_{number}") in taken:
        number += 1
    return found


@cache
def _model_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="medsharp/onnx.proto", package="medsharp.onnx", syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    plain = {"string": kinds.TYPE_STRING, "bytes": kinds.TYPE_BYTES}
    plain |= {"int64": kinds.TYPE_INT64, "int32": kinds.TYPE_INT32}
    for message, fields in _FIELDS.items():
        described = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            field = described.field.add(name=name, number=number, label=label)
            if kind in plain:
                field.type = plain[kind]
            else:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".medsharp.onnx.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("medsharp.onnx.Model"))
