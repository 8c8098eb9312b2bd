"""The shapes of the Open Inference Protocol, for the API's description."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class ServerMetadata(BaseModel):
    """What the server is."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """What a tensor is; -1 stands for any number."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: dict[str, Any] = Field(description="What the input is, and what its answer is and is not")


class InputTensor(BaseModel):
    """A tensor of a request; its values as `data`, or as bytes behind the JSON."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class WantedOutput(BaseModel):
    """An output that is wanted; `binary_data` among its parameters says how."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequestBody(BaseModel):
    """A request."""

    id: str | None = None
    parameters: dict[str, Any] = Field({}, description="`timeout` in microseconds; `binary_data_output`")
    inputs: list[InputTensor]
    outputs: list[WantedOutput] | None = None


class AnsweredTensor(BaseModel):
    """A tensor of an answer."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class InferAnswer(BaseModel):
    """An answer."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[AnsweredTensor]
