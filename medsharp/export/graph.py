"""PyTorch to ONNX: one graph from uint8 images to logits, features and, where exact, class activation maps."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from medsharp.errors import InputError
from medsharp.inference.session import Session
from medsharp.networks import Classifier

OPSET = 20
TOLERANCE = 1e-4
"""Largest difference of a logit between PyTorch and ONNX Runtime, both in float32, of logits up to about 10."""

_RELATIVE = 1e-5
"""The same as a share of the largest logit: float32 has seven digits, and sums are ordered otherwise on each CPU."""


class _Outputs(nn.Module):
    """Gives what `Classifier.forward_all` gives, in a fixed order."""

    def __init__(self, network: Classifier, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self.names = names

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        found = self.network.forward_all(image)
        return tuple(found[name] for name in self.names)


def output_names(network: Classifier) -> tuple[str, ...]:
    """Return what the graph of a network returns."""
    return ("logits", "features", "cam") if network.exact_cam else ("logits", "features")


def write_onnx(network: Classifier, path: Path, metadata: dict[str, str]) -> None:
    """Write a network in eval mode as ONNX: `image` uint8 [batch, 1, S, S] in, the named outputs out.

    Args:
        network: On the CPU, in eval mode.
        path: The file.
        metadata: Stored in the model's properties.

    Raises:
        InputError: The exporter cannot translate the network.
    """
    names = output_names(network)
    size = network.image_size
    example = torch.randint(0, 256, (2, 1, size, size), dtype=torch.uint8)
    # The exporter tells its progress on standard output and warns of its own internals.
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), _plain_attention(network):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _Outputs(network, names).eval(),
                (example,),
                str(path),
                input_names=["image"],
                output_names=list(names),
                dynamic_shapes=({0: "batch"},),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    # The exporter's errors share no class; each is a network it cannot translate.
    except Exception as error:
        raise InputError(f"this network cannot be exported to ONNX: {_cause(error)}") from error
    finally:
        logger.setLevel(level)
    model = onnx.load(path)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("", 0) < 18:
        raise InputError(f"the exporter wrote opset {opsets.get('')}, not {OPSET}; update onnxscript")
    _forget_sources(model)
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, path)


@contextlib.contextmanager
def _plain_attention(network: nn.Module) -> Iterator[None]:
    """Let timm's attention multiply matrices itself: fused kernels of five dimensions have no translation."""
    fused = [layer for layer in network.modules() if getattr(layer, "fused_attn", False) is True]
    for layer in fused:
        layer.fused_attn = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer in fused:
            layer.fused_attn = True  # type: ignore[assignment]


def _cause(error: BaseException) -> str:
    """Return the first line of what went wrong at the bottom; above it the exporter tells how to report errors."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _forget_sources(model: onnx.ModelProto) -> None:
    """Drop what the exporter noted of where each node comes from: paths of this machine, and a user's name in them."""
    graph = model.graph
    parts = [graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for function in model.functions:
        parts += [function, *function.node]
    for part in parts:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


@torch.inference_mode()
def check_parity(network: Classifier, session: Session, images: np.ndarray) -> dict[str, Any]:
    """Compare ONNX Runtime with PyTorch on real inputs, in batches and one by one.

    Args:
        network: In eval mode.
        session: The exported network.
        images: uint8 [N, S, S].

    Returns:
        The record that is written to `parity.json`.

    Raises:
        InputError: A logit differs by more than the tolerance, or the class activation map does not explain the logit.
    """
    expected = {key: value.numpy() for key, value in network.forward_all(torch.from_numpy(images[:, None])).items()}
    batched = session.run(images)
    single = {key: np.concatenate([session.run(image[None])[key] for image in images[:8]]) for key in session.outputs}
    differences = {key: float(np.abs(batched[key] - expected[key]).max()) for key in session.outputs}
    differences["logits, one by one"] = float(np.abs(single["logits"] - expected["logits"][:8]).max())
    if "cam" in session.outputs:
        bias = network.backbone.get_classifier().bias  # type: ignore[operator]
        explained = batched["cam"].mean(axis=(2, 3)) + (0.0 if bias is None else bias.numpy())
        differences["logits from cam"] = float(np.abs(explained - batched["logits"]).max())
    tolerance = max(TOLERANCE, _RELATIVE * float(np.abs(expected["logits"]).max()))
    for key, value in differences.items():
        if key.startswith("logits") and not value <= tolerance:
            raise InputError(f"ONNX Runtime and PyTorch differ by {value:.2g} in {key}, more than {tolerance:.2g}")
    return {
        "images": len(images),
        "tolerance": tolerance,
        "largest_difference": differences,
        "opset": OPSET,
        "runtime": session.device,
    }
