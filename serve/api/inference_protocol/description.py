"""What `/openapi.json` says of the routes under `/v2`: parameters, bodies, answers and refusals, with examples."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path as InPath

from serve.api.inference_protocol.models import VERSION
from serve.api.inference_protocol.shapes import InferRequestBody
from serve.api.model import LONG_NAME, LONGEST_NAME
from serve.api.refusals import BODY, DOOR, ProtocolRefusal, Reason, Responses, refusals
from serve.security.gate import NOTICE
from serve.uploads.compressed import ENCODINGS

LENGTH = "Inference-Header-Content-Length"
UNKNOWN_ENCODING = "the body is compressed in a way that is not known here; send it as gzip, as deflate or as it is"
_NO_MODEL = Reason("There is no such model or version", "there is no model 'bus-lite' here; there is bus-lite0")
ASKED = refusals({**DOOR, 404: _NO_MODEL, 422: LONG_NAME}, ProtocolRefusal)
"""Of what is asked about a model."""

REFUSALS = refusals(
    {
        **BODY,
        400: Reason("The request is not as the protocol has it", "the shape of image must be [n, 1, 224, 224]"),
        404: _NO_MODEL,
        415: Reason("The body is compressed otherwise than by gzip or deflate", UNKNOWN_ENCODING),
        422: LONG_NAME,
        500: Reason("The network failed at the images", BODY[500].sentence),
    },
    ProtocolRefusal,
)
_BINARY = "(JSON, and the bytes of binary tensors behind it)"
_ABOUT = {"digest": "0" * 64, "notice": NOTICE}
ANSWER: dict[str, Any] = {
    "description": "The outputs; binary ones behind the JSON, whose length is in `Inference-Header-Content-Length`",
    "headers": {
        LENGTH: {
            "description": "Bytes of the JSON, where binary tensors are behind it",
            "schema": {"type": "string", "pattern": "^[0-9]+$"},
            "example": "512",
        }
    },
    "content": {
        "application/json": {
            "example": {
                "model_name": "bus-lite0-checked",
                "model_version": VERSION,
                "outputs": [
                    {"name": "probability", "datatype": "FP32", "shape": [1], "data": [0.07]},
                    {"name": "status", "datatype": "BYTES", "shape": [1], "data": ["answered"]},
                ],
                "parameters": _ABOUT,
            }
        },
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}, "example": _BINARY},
    },
}
METADATA = {
    "name": "bus-lite0",
    "versions": [VERSION],
    "platform": "onnxruntime_onnx",
    "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, 1, 224, 224]}],
    "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 2]}],
    "parameters": {**_ABOUT, "classes": "benign,malignant", "positive": "malignant", "temperature": 1.2},
}
SERVER = {"name": "medsharp", "version": "1.0.0", "extensions": ["binary_tensor_data"]}
STOPPING: Responses = {503: {"description": "The server is stopping"}}
_FILES = {
    "inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": ["iVBORw0KGgo="]}],
    "outputs": [{"name": "probability"}, {"name": "status"}],
}
_TENSORS = {
    "inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 2, 2], "data": [17, 34, 51, 68]}],
    "parameters": {"timeout": 2_000_000},
}
INFER_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": f"#/components/schemas/{InferRequestBody.__name__}"},
            "examples": {
                "files, of NAME-checked": {"value": _FILES},
                "preprocessed images, of NAME (here of 2 x 2 pixels)": {"value": _TENSORS},
            },
        },
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}, "example": _BINARY},
    },
}
HEADER = {
    "name": LENGTH,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[0-9]{1,9}$"},
    "description": "Bytes of the JSON, where binary tensors are behind it",
    "example": "512",
}
ENCODING = {
    "name": "Content-Encoding",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "enum": ["identity", *ENCODINGS]},
    "description": "How the body is compressed; the length of its JSON is that of before",
    "example": "gzip",
}

Name = Annotated[
    str,
    InPath(
        description="Name of a bundle, or with `-checked` for files and answers",
        max_length=LONGEST_NAME,
        openapi_examples={"tensors": {"value": "bus-lite0"}, "files": {"value": "bus-lite0-checked"}},
    ),
]
VERSION_IN_PATH = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "maxLength": 20},
    "description": f"Always {VERSION}",
    "example": VERSION,
}
