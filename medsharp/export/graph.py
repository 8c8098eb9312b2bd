"""PyTorch to ONNX: one graph from uint8 images to logits, features and, where exact, class activation maps."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
import onnx.utils
import torch
from torch import Tensor, nn

from medsharp.errors import InputError
from medsharp.export.half_weights import Weights, store_half_weights
from medsharp.export.members import Ensemble

OPSET = 20


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
    unrounded: Path | None = None,
) -> list[Path]:
    """Write a network in eval mode as ONNX: `image` uint8 [batch, 1, S, S] in, the named outputs out.

    Args:
        network: On the CPU, in eval mode.
        path: The file.
        metadata: Stored in the model's properties.
        weights: How they are stored.
        members_to: A folder for a graph of each member by itself, with the same weights as stored: its logits over its
            views, which say how it does on images that only the others learned from.
        unrounded: A file for the same graph with weights as they are.

    Returns:
        The members' graphs, where they were asked for.

    Raises:
        InputError: The exporter cannot translate the network.
    """
    names = output_names(network)
    alone = [f"logits_of_member_{number}" for number in range(len(network.members))] if members_to is not None else []
    model = _translated(_Outputs(network, names, bool(alone)).eval(), network, (*names, *alone))
    _forget_sources(model)
    onnx.helper.set_model_props(model, metadata)
    if unrounded is not None:
        plain = onnx.ModelProto()
        plain.CopyFrom(model)
        _keep_outputs(plain, names)
        onnx.save(plain, unrounded)
    if weights == "fp16":
        store_half_weights(model)
    paths = []
    if members_to is not None:
        extractor = onnx.utils.Extractor(model)
        for number, output in enumerate(alone):
            paths.append(members_to / f"{number}.onnx")
            onnx.save(extractor.extract_model(["image"], [output]), paths[-1])
    _keep_outputs(model, names)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return paths


def _keep_outputs(model: onnx.ModelProto, names: Sequence[str]) -> None:
    kept = [output for output in model.graph.output if output.name in names]
    del model.graph.output[:]
    model.graph.output.extend(kept)


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
