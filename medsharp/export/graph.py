"""PyTorch to ONNX: one graph from uint8 images to logits, features and, where exact, class activation maps."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.utils
import torch
from torch import Tensor, nn

from medsharp.errors import InputError
from medsharp.export.half_weights import Weights, store_half_weights
from medsharp.export.members import Ensemble
from medsharp.inference.predictor import softmax
from medsharp.inference.session import Session

OPSET = 20
TOLERANCE = 1e-4
"""Largest difference of a logit between PyTorch and ONNX Runtime, both in float32, of logits up to about 10."""

PROBABILITY_TOLERANCE = 5e-3
"""Largest difference of a probability where weights are stored in 16 bits; typical networks stay below 1.5e-3."""

_RELATIVE = 1e-5
"""The same as a share of the largest logit: float32 has seven digits, and sums are ordered otherwise on each CPU."""


class _Outputs(nn.Module):
    """Gives what `Ensemble.forward_all` gives, in a fixed order, and then the logits of each member where asked."""

    def __init__(self, network: Ensemble, names: tuple[str, ...], members: bool) -> None:
        super().__init__()
        self.network = network
        self.names = names
        self.of_members = members

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        answers = self.network.forward_members(image)
        found = self.network.combine(answers)
        members = [answer["logits"] for answer in answers] if self.of_members else []
        return (*(found[name] for name in self.names), *members)


def output_names(network: Ensemble) -> tuple[str, ...]:
    """Return what the graph of a network returns."""
    return ("logits", "features", "cam") if network.has_cam else ("logits", "features")


def write_onnx(
    network: Ensemble,
    path: Path,
    metadata: dict[str, str],
    *,
    weights: Weights = "fp32",
    members_to: Path | None = None,
) -> list[Path]:
    """Write a network in eval mode as ONNX: `image` uint8 [batch, 1, S, S] in, the named outputs out.

    Args:
        network: On the CPU, in eval mode.
        path: The file.
        metadata: Stored in the model's properties.
        weights: How they are stored.
        members_to: A folder for a graph of each member by itself, with the same weights as stored: its logits over its
            views, which say how it does on images that only the others learned from.

    Returns:
        The members' graphs, where they were asked for.

    Raises:
        InputError: The exporter cannot translate the network.
    """
    names = output_names(network)
    alone = [f"logits_of_member_{number}" for number in range(len(network.members))] if members_to is not None else []
    model = _translated(_Outputs(network, names, bool(alone)).eval(), network, (*names, *alone))
    _forget_sources(model)
    if weights == "fp16":
        store_half_weights(model)
    paths = []
    if members_to is not None:
        extractor = onnx.utils.Extractor(model)
        for number, output in enumerate(alone):
            paths.append(members_to / f"{number}.onnx")
            onnx.save(extractor.extract_model(["image"], [output]), paths[-1])
        kept = list(model.graph.output)[: len(names)]
        del model.graph.output[:]
        model.graph.output.extend(kept)
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return paths


def _translated(outputs: nn.Module, network: Ensemble, names: Sequence[str]) -> onnx.ModelProto:
    size = network.image_size
    example = torch.randint(0, 256, (2, 1, size, size), dtype=torch.uint8)
    # The exporter tells its progress on standard output and warns of its own internals.
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), _plain_attention(network):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                outputs,
                (example,),
                input_names=["image"],
                output_names=list(names),
                dynamic_shapes=({0: "batch"},),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    # The exporter's errors share no class; each is a network it cannot translate.
    except Exception as error:
        raise InputError(f"this network cannot be exported to ONNX: {_cause(error)}") from error
    finally:
        logger.setLevel(level)
    assert program is not None  # it is, of dynamo's exporter
    model: onnx.ModelProto = program.model_proto
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("", 0) < 18:
        raise InputError(f"the exporter wrote opset {opsets.get('')}, not {OPSET}; update onnxscript")
    return model


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
def check_parity(
    network: Ensemble,
    session: Session,
    images: np.ndarray,
    *,
    weights: Weights = "fp32",
    members: Sequence[Session] = (),
) -> dict[str, Any]:
    """Compare ONNX Runtime with PyTorch in float32 on real inputs, in batches and one by one.

    Of weights that are stored as they are, logits are compared; of weights that were rounded to 16 bits, probabilities.

    Args:
        network: In eval mode.
        session: The exported network.
        images: uint8 [N, S, S].
        weights: How they are stored.
        members: The graph of each member by itself, where there are several.

    Returns:
        The record that is written to `parity.json`.

    Raises:
        InputError: A logit or probability differs by more than the tolerance, or the class activation map does not
            explain the logits.
    """
    image = torch.from_numpy(images[:, None])
    answers = network.forward_members(image)
    expected = {key: value.numpy() for key, value in network.combine(answers).items()}
    batched = session.run(images)
    single = np.concatenate([session.run(image[None])["logits"] for image in images[:8]])

    pairs = {"logits": (batched["logits"], expected["logits"])}
    if "cam" in session.outputs:
        explained = batched["cam"].mean(axis=(2, 3)) + network.mean_bias().numpy()
        # The map of an ensemble explains the mean of the members' logits, be its answer another mean.
        pairs["logits from cam"] = (explained, network.mean_logits(image).numpy())
    for number, (member, answer) in enumerate(zip(members, answers, strict=bool(members))):
        pairs[f"logits of member {number}"] = (member.run(images)[member.outputs[0]], answer["logits"].numpy())
    pairs["logits, one by one"] = (single, batched["logits"][:8])

    differences = {key: _largest(batched[key], expected[key]) for key in session.outputs}
    differences |= {key: _largest(*pair) for key, pair in pairs.items()}
    tolerances = {key: max(TOLERANCE, _RELATIVE * float(np.abs(pair[1]).max())) for key, pair in pairs.items()}
    tolerance = tolerances["logits"]
    if weights == "fp16":
        rounded = {f"probabilities{key.removeprefix('logits')}": _shares_apart(*pair) for key, pair in pairs.items()}
        differences |= rounded
        tolerance = PROBABILITY_TOLERANCE
        tolerances = dict.fromkeys(rounded, tolerance) | {"logits, one by one": tolerances["logits, one by one"]}
    for key, most in tolerances.items():
        if not differences[key] <= most:
            raise InputError(
                f"ONNX Runtime and PyTorch differ by {differences[key]:.2g} in {key}, more than {most:.2g}"
            )
    return {
        "images": len(images),
        "tolerance": tolerance,
        "largest_difference": differences,
        "opset": OPSET,
        "runtime": session.device,
        **({"weights": weights} if weights != "fp32" else {}),
    }


def _largest(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max())


def _shares_apart(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference of a probability between two sets of logits [N, C]."""
    return _largest(softmax(found.astype(np.float64)), softmax(expected.astype(np.float64)))
