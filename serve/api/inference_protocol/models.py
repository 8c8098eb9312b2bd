"""What the protocol calls a model: each bundle twice, for preprocessed tensors and for files that are checked."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from fastapi import Request

from medsharp.inference import Prediction
from serve.api.answers import answer
from serve.api.assessing import assess, record, unless_gone
from serve.api.context import Context
from serve.api.inference_protocol.shapes import ModelMetadata, TensorMetadata
from serve.api.inference_protocol.tensors import InferRequest, ProtocolError, read_files, read_images
from serve.models import Served
from serve.security.gate import NOTICE
from serve.uploads.uploads import shown

CHECKED = "-checked"
"""Ends the name under which a bundle takes files, and gives answers that the input checks have seen."""

VERSION = "1"
MOST_ROWS = 256
"""Preprocessed images in one request."""

_MOST_NAMES = 3
"""Inputs that a sentence names."""

Outputs = Mapping[str, np.ndarray | list[bytes]]


class ProtocolModel(ABC):
    """A model of the protocol.

    Args:
        name: Of it.
        served: The bundle and its engine.
    """

    def __init__(self, name: str, served: Served) -> None:
        self.name = name
        self._served = served
        self._spec = served.predictor.spec

    @abstractmethod
    def metadata(self) -> ModelMetadata:
        """Say what it takes and gives."""

    @abstractmethod
    async def infer(self, context: Context, request: Request, asked: InferRequest) -> Outputs:
        """Answer a request.

        Raises:
            ProtocolError: It does not bring what the model takes.
            BusyError: As `Engine.assess` does.
            DeadlineError: As `Engine.assess` does.
            AuditError: The audit log cannot be written.
        """

    def parameters(self) -> dict[str, Any]:
        """Say what stands beside each answer."""
        return {"digest": self._served.predictor.digest, "notice": NOTICE}

    def _input(self, asked: InferRequest, name: str) -> dict[str, Any]:
        if list(asked.inputs) != [name]:
            given = ", ".join(map(shown, list(asked.inputs)[:_MOST_NAMES]))
            raise ProtocolError(f"{self.name} takes one input, {name}; it was given {len(asked.inputs)}: {given}")
        return asked.inputs[name]


class TensorModel(ProtocolModel):
    """A bundle's network as it is: preprocessed images in, logits and features out. No input check sees the images."""

    def metadata(self) -> ModelMetadata:
        """Say what it takes and gives."""
        session, side = self._served.predictor.session, self._served.predictor.preprocessing.size
        return ModelMetadata(
            name=self.name,
            versions=[VERSION],
            platform="onnxruntime_onnx",
            inputs=[TensorMetadata(name="image", datatype="UINT8", shape=[-1, 1, side, side])],
            outputs=[
                TensorMetadata(name=name, datatype="FP32", shape=list(shape))
                for name, shape in session.output_shapes.items()
            ],
            parameters={
                **self.parameters(),
                "classes": ",".join(self._spec.classes),
                "positive": self._spec.positive,
                "temperature": self._spec.temperature,
                "threshold": self._spec.operating_point.threshold,
                "checked_as": self.name + CHECKED,
            },
        )

    def parameters(self) -> dict[str, Any]:
        """Say what stands beside each answer."""
        return {
            **super().parameters(),
            "checks": "none: a check needs the image, and was given a tensor",
        }

    async def infer(self, context: Context, request: Request, asked: InferRequest) -> Outputs:
        """Run the images through the network."""
        start = time.perf_counter()
        tensor = self._input(asked, "image")
        side = self._served.predictor.preprocessing.size
        images = await context.shared.lanes.aside(asked.size, lambda: read_images(tensor, side, MOST_ROWS))
        outputs = await unless_gone(request, self._served.engine.infer(images, deadline=asked.timeout))
        # No answer in words was given, so none is logged: only that these images were put to this model.
        predictions = [Prediction(f"tensor {number}") for number in range(1, len(images) + 1)]
        await record(context, request, self._served, [image.tobytes() for image in images], predictions, start)
        return outputs


class CheckedModel(ProtocolModel):
    """A bundle with its preprocessing and its input checks: encoded files in, calibrated answers out."""

    def metadata(self) -> ModelMetadata:
        """Say what it takes and gives."""
        return ModelMetadata(
            name=self.name,
            versions=[VERSION],
            platform="medsharp",
            inputs=[TensorMetadata(name="image_bytes", datatype="BYTES", shape=[-1])],
            outputs=[
                TensorMetadata(name="probability", datatype="FP32", shape=[-1]),
                TensorMetadata(name="status", datatype="BYTES", shape=[-1]),
                TensorMetadata(name="answer", datatype="BYTES", shape=[-1]),
            ],
            parameters={
                **self.parameters(),
                "image_bytes": "encoded files (PNG, JPEG, TIFF, BMP, WebP, GIF, DICOM); in JSON as Base64",
                "probability": f"of {self._spec.positive}, calibrated; no number (NaN, in JSON null) without an answer",
                "status": "answered, cautioned, refused or failed",
                "answer": "all of it, as an entry of /v1/predict",
                "threshold": self._spec.operating_point.threshold,
            },
        )

    async def infer(self, context: Context, request: Request, asked: InferRequest) -> Outputs:
        """Have the files assessed."""
        tensor, most = self._input(asked, "image_bytes"), context.limits.max_files
        files = await context.shared.lanes.aside(asked.size, lambda: read_files(tensor, most))
        names = [f"image {number}" for number in range(1, len(files) + 1)]
        assessments = await assess(context, request, self._served, files, names, deadline=asked.timeout)
        threshold = self._spec.operating_point.threshold
        values = [one.prediction.positive_probability for one in assessments]
        return {
            "probability": np.array(values, dtype=np.float32),
            "status": [one.prediction.status.encode() for one in assessments],
            "answer": [answer(one, threshold).model_dump_json().encode() for one in assessments],
        }


def find_protocol_model(context: Context, name: str) -> ProtocolModel | None:
    """Return the model of a name, or None: there is none."""
    if name in context.models:
        return TensorModel(name, context.models[name])
    plain = name.removesuffix(CHECKED)
    if plain != name and plain in context.models:
        return CheckedModel(name, context.models[plain])
    return None
