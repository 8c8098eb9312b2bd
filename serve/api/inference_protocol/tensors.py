"""Tensors of the Open Inference Protocol: from a request's JSON and the bytes behind it, and back."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from medsharp.errors import InputError
from serve.uploads.uploads import shown

MOST_JSON = 8 * 2**20
"""Bytes of JSON: numbers as text take several times the room of binary ones, and reading them keeps others waiting."""

MOST_VALUES = 500_000
"""Values in it, for the same reason: Python reads all of them in one go, and files as Base64 are a value each."""

_PIECE = 2**12
"""Values that are read or written in one go, after which other threads have their turn."""

_HEADER = re.compile("[0-9]{1,9}")

_LENGTH = 4
"""Bytes of the little-endian number before each element of a BYTES tensor."""


class ProtocolError(InputError):
    """A request that is not as the protocol has it; says so in one sentence."""


@dataclass(frozen=True)
class InferRequest:
    """What a request asks.

    Attributes:
        id: That its answer repeats, or None.
        inputs: By name, as the request describes them, with their bytes under `raw` where they came behind the JSON.
        outputs: By name, whether each is wanted in binary form; None wants all.
        binary: Whether all are wanted in binary form, where none is named.
        timeout: Seconds that it may take, or None.
        size: Bytes of its body.
    """

    id: str | None
    inputs: dict[str, dict[str, Any]]
    outputs: dict[str, bool] | None
    binary: bool
    timeout: float | None
    size: int


@dataclass(frozen=True)
class OutputTensor:
    """A tensor of an answer.

    Attributes:
        name: Of the output.
        values: float32 [B, ...], or a list of bytes.
        binary: Whether its values go behind the JSON.
    """

    name: str
    values: np.ndarray | list[bytes]
    binary: bool

    @property
    def size(self) -> int:
        """Bytes of its values."""
        return sum(map(len, self.values)) if isinstance(self.values, list) else self.values.nbytes


def read_request(body: bytes, header: str | None) -> InferRequest:
    """Read the body of a request.

    Args:
        body: JSON, and the bytes of binary tensors behind it.
        header: The header `Inference-Header-Content-Length`: bytes of the JSON; without it the body is JSON alone.

    Raises:
        ProtocolError: It is not as the protocol has it.
    """
    if header is not None and not (_HEADER.fullmatch(header) and 0 < int(header) <= len(body)):
        raise ProtocolError("Inference-Header-Content-Length is not the length of JSON at the start of the body")
    length = len(body) if header is None else int(header)
    if length > MOST_JSON:
        raise ProtocolError(f"the request has more than {MOST_JSON >> 20} MiB of JSON; send tensors as binary data")
    text = body[:length]
    if text.count(b",") >= MOST_VALUES:
        raise ProtocolError(f"the request has more than {MOST_VALUES} values in JSON; send tensors as binary data")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("the request is not JSON") from error
    if not isinstance(values, dict):
        raise ProtocolError("the request is not a JSON object")
    inputs = _read_inputs(values.get("inputs"), body[length:])
    parameters = _object(values.get("parameters", {}), "parameters")
    identity = values.get("id")
    if not isinstance(identity, str | None):
        raise ProtocolError("id must be a string")
    outputs = _read_outputs(values.get("outputs"))
    return InferRequest(
        identity,
        inputs,
        outputs,
        parameters.get("binary_data_output") is True,
        _timeout(parameters.get("timeout")),
        len(body),
    )


def _read_inputs(given: Any, behind: bytes) -> dict[str, dict[str, Any]]:
    if not isinstance(given, list) or not given:
        raise ProtocolError("inputs must be a list with the model's input")
    inputs: dict[str, dict[str, Any]] = {}
    offset = 0
    for one in given:
        tensor = dict(_object(one, "an input"))
        name = tensor.get("name")
        if not isinstance(name, str) or name in inputs:
            raise ProtocolError("each input needs a name of its own")
        parameters = _object(tensor.get("parameters", {}), f"the parameters of input {shown(name)}")
        if any(key.startswith("shared_memory") for key in parameters):
            raise ProtocolError("shared memory is not served; send the tensor in the request")
        size = parameters.get("binary_data_size")
        tensor.pop("raw", None)
        if size is not None:
            if not _is_count(size) or offset + size > len(behind):
                raise ProtocolError(f"binary_data_size of input {shown(name)} is more than there is behind the JSON")
            tensor["raw"] = behind[offset : offset + size]
            offset += size
        inputs[name] = tensor
    if offset != len(behind):
        raise ProtocolError("there are more bytes behind the JSON than its inputs name")
    return inputs


def _read_outputs(given: Any) -> dict[str, bool] | None:
    if given is None:
        return None
    if not isinstance(given, list) or not given:
        raise ProtocolError("outputs must be a list of wanted outputs; leave it out for all")
    outputs: dict[str, bool] = {}
    for one in given:
        name = _object(one, "an output").get("name")
        if not isinstance(name, str):
            raise ProtocolError("each output needs its name")
        parameters = _object(one.get("parameters", {}), f"the parameters of output {shown(name)}")
        if parameters.get("classification") or any(key.startswith("shared_memory") for key in parameters):
            raise ProtocolError("outputs are given as they are: neither by classification nor in shared memory")
        outputs[name] = parameters.get("binary_data") is True
    return outputs


def _timeout(microseconds: Any) -> float | None:
    if microseconds is None:
        return None
    if not _is_count(microseconds):
        raise ProtocolError("timeout must be a whole number of microseconds")
    return microseconds / 1e6 or None  # 0 is Triton's way of saying none


def read_images(tensor: dict[str, Any], side: int, most: int) -> np.ndarray:
    """Read preprocessed images: uint8 [B, 1, S, S], returned as [B, S, S].

    Args:
        tensor: As the request describes it.
        side: S.
        most: B at most.

    Raises:
        ProtocolError: It has another type or shape, or holds other values.
    """
    count = _count(tensor, "UINT8", [1, side, side], most)
    if "raw" in tensor:
        if len(tensor["raw"]) != count * side * side:
            raise ProtocolError(f"image has {len(tensor['raw'])} bytes, and its shape {count * side * side}")
        return np.frombuffer(tensor["raw"], dtype=np.uint8).reshape(count, side, side)
    data = tensor.get("data")
    is_flat = isinstance(data, list) and bool(data) and not isinstance(data[0], list)
    shape = [count * side * side] if is_flat else [count, 1, side, side]
    pixels = bytearray()
    for row in _rows(data, shape):
        pixels += _pixels(row)
    return np.frombuffer(pixels, dtype=np.uint8).reshape(count, side, side)


def _rows(data: Any, shape: list[int]) -> Iterator[list[Any]]:
    """Give the innermost lists of data in order, long ones in pieces.

    No list is looked into that has another length than `shape` says.

    Raises:
        ProtocolError: One has.
    """
    if not isinstance(data, list) or len(data) != shape[0]:
        raise ProtocolError("the data of image are not numbers of its shape")
    if len(shape) == 1:
        for start in range(0, len(data), _PIECE):
            yield data[start : start + _PIECE]
        return
    for part in data:
        yield from _rows(part, shape[1:])


def _pixels(row: list[Any]) -> bytes:
    """Read whole numbers from 0 to 255, which true and false are not.

    NumPy would make room for as many characters as the longest string of a list has, for each of its elements.
    """
    if set(map(type, row)) != {int}:
        raise ProtocolError("the data of image are not whole numbers")
    try:
        return bytes(row)
    except ValueError as error:
        raise ProtocolError("the data of image are not between 0 and 255") from error


def read_files(tensor: dict[str, Any], most: int) -> list[bytes]:
    """Read encoded files: BYTES [B], in JSON as Base64.

    Args:
        tensor: As the request describes it.
        most: B at most.

    Raises:
        ProtocolError: It has another type or shape, or is damaged.
    """
    count = _count(tensor, "BYTES", [], most)
    if "raw" in tensor:
        return _split(tensor["raw"], count)
    data = tensor.get("data")
    if not isinstance(data, list) or not all(isinstance(one, str) for one in data):
        raise ProtocolError("the data of image_bytes are not strings of Base64")
    if len(data) != count:
        raise ProtocolError(f"image_bytes has {len(data)} files, and its shape {count}")
    try:
        return [base64.b64decode(one, validate=True) for one in data]
    except ValueError as error:
        raise ProtocolError("the data of image_bytes are not Base64; or send the tensor as binary data") from error


def _split(raw: bytes, count: int) -> list[bytes]:
    """Split a BYTES tensor into its elements, and stop where it has more than its shape says."""
    files: list[bytes] = []
    at = 0
    while at < len(raw):
        if len(files) == count:
            raise ProtocolError(f"image_bytes has more files than its shape, which has {count}")
        size = int.from_bytes(raw[at : at + _LENGTH], "little")
        at += _LENGTH
        if at + size > len(raw):
            raise ProtocolError("image_bytes is cut off: each file is its length, in 4 bytes, and its bytes")
        files.append(raw[at : at + size])
        at += size
    if len(files) != count:
        raise ProtocolError(f"image_bytes has {len(files)} files, and its shape {count}")
    return files


def _count(tensor: dict[str, Any], datatype: str, rest: list[int], most: int) -> int:
    """Return the first size of a tensor whose type and other sizes must be those given."""
    name, shape = tensor["name"], tensor.get("shape")
    wanted = ", ".join(map(str, ["n", *rest]))
    if tensor.get("datatype") != datatype:
        raise ProtocolError(f"the datatype of {name} must be {datatype}")
    if not isinstance(shape, list) or not all(map(_is_count, shape)) or not shape or shape[1:] != rest:
        raise ProtocolError(f"the shape of {name} must be [{wanted}]")
    if not 1 <= shape[0] <= most:
        raise ProtocolError(f"{name} has {shape[0]} images; send 1 to {most} in one request")
    return int(shape[0])


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ProtocolError(f"{what} must be a JSON object")
    return value


def write_answer(
    model: str, version: str, identity: str | None, outputs: list[OutputTensor], parameters: dict[str, Any]
) -> tuple[bytes, int | None]:
    """Write an answer.

    Args:
        model: Its name.
        version: Of it.
        identity: The request's.
        outputs: In the order asked for.
        parameters: Said beside.

    Returns:
        The body, and the bytes of its JSON where binary tensors are behind it.
    """
    described: list[str] = []
    behind: list[bytes] = []
    for output in outputs:
        values = output.values
        about = {
            "name": output.name,
            "datatype": "BYTES" if isinstance(values, list) else "FP32",
            "shape": [len(values)] if isinstance(values, list) else list(values.shape),
        }
        if output.binary:
            raw = _raw(values)
            described.append(json.dumps({**about, "parameters": {"binary_data_size": len(raw)}}))
            behind.append(raw)
        else:
            described.append(f'{json.dumps(about)[:-1]}, "data": [{_written(values)}]}}')
    answer = {"model_name": model, "model_version": version, "parameters": parameters}
    if identity is not None:
        answer["id"] = identity
    text = f'{json.dumps(answer, allow_nan=False)[:-1]}, "outputs": [{", ".join(described)}]}}'.encode()
    return b"".join([text, *behind]), len(text) if behind else None


def _raw(values: np.ndarray | list[bytes]) -> bytes:
    if isinstance(values, list):
        return b"".join(len(one).to_bytes(_LENGTH, "little") + one for one in values)
    return np.ascontiguousarray(values, dtype="<f4").tobytes()


def _written(values: np.ndarray | list[bytes]) -> str:
    """Write values as JSON, without the brackets around them."""
    given = values if isinstance(values, list) else values.ravel()
    pieces = (given[start : start + _PIECE] for start in range(0, len(given), _PIECE))
    return ", ".join(json.dumps(_plain(piece), allow_nan=False)[1:-1] for piece in pieces)


def _plain(values: np.ndarray | list[bytes]) -> list[Any]:
    if isinstance(values, list):
        return [one.decode() for one in values]
    # JSON has no word for what is no number.
    return [value if math.isfinite(value) else None for value in values.tolist()]
