"""The network of a bundle in PyTorch with untrained weights: what its speed is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch._dynamo.exc import TorchDynamoException

from medsharp.bundle import MODEL, BundleSpec, Precision, TrainingRecord
from medsharp.cores import usable_cores
from medsharp.errors import InputError
from medsharp.export.export import export_network
from medsharp.export.members import Ensemble
from medsharp.export.precisions import write_int8
from medsharp.networks import Pooling, create_network
from medsharp.preprocess import PreprocessSpec

INT8 = "int8.onnx"


class Eager:
    """Runs uint8 images [B, S, S] through a network as PyTorch does by default, or compiled.

    Attributes:
        network: What is run: all members over all views.

    Args:
        spec: Of the bundle: network, members and views.
        device: `cpu` or `cuda`.
        compiled: Through `torch.compile`, at the first images of each shape.

    Raises:
        InputError: timm knows no such network; or, when it is called, PyTorch cannot compile here.
    """

    def __init__(self, spec: BundleSpec, *, device: str = "cpu", compiled: bool = False) -> None:
        combination = spec.combination
        channels = spec.training.config.get("network", {}).get("channels", 1)
        sizes = (combination.sizes if combination else ()) or (spec.preprocess.size,)
        members = [
            create_network(name, num_classes=len(spec.classes), image_size=sizes[0], pooling=pooling, channels=channels)
            for name, pooling in _designs(spec)
        ]
        if combination is None:
            self.network = Ensemble(members).eval()
        else:
            average, flip = combination.average, combination.flip
            self.network = Ensemble(members, average=average, flip=flip, sizes=sizes).eval()
        self.network.to(device)
        self._device = device
        forward = self.network.forward_all
        self._forward = torch.compile(forward, dynamic=False) if compiled else forward
        torch.set_num_threads(usable_cores())

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the network's outputs of uint8 images [B, S, S], in the host's memory."""
        try:
            found = self._forward(torch.from_numpy(images[:, None]).to(self._device))
        except TorchDynamoException as error:  # no compiler for C++ here, or none of Triton's
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"PyTorch cannot compile {self.network.__class__.__name__} here: {reason}") from error
        return {name: values.cpu().numpy() for name, values in found.items()}


def _designs(spec: BundleSpec) -> list[tuple[str, Pooling]]:
    """Return name and pooling of each member of a bundle."""
    training = spec.training
    common = training.config.get("network", {})
    own = {"name": common.get("name", training.network), "pooling": common.get("pooling", "average")}
    # One network has no members in its record, and bundles of several had none when they were first written.
    count = spec.combination.members if spec.combination else 1
    differences = [member.differences for member in training.members] or [{}] * count
    settings = [own | {key: each.get(f"network.{key}", value) for key, value in own.items()} for each in differences]
    return [(str(each["name"]), each["pooling"]) for each in settings]


def untrained_bundle(name: str, image_size: int, out: Path, precisions: Sequence[Precision] = ("fp32",)) -> Path:
    """Export a network with random weights, whose speed is that of a trained one.

    Args:
        name: Of the network.
        image_size: Side of its input in pixels.
        out: The bundle's folder; beside it `int8.onnx` is written, the same in 8-bit integers. It passes no gate, as
            random weights have nothing to lose.
        precisions: Of the bundle's graphs, where they pass their gates.

    Raises:
        InputError: timm knows no such network, or it cannot be exported.
    """
    images = np.random.default_rng(0).integers(0, 256, (24, image_size, image_size), dtype=np.uint8)
    torch.manual_seed(0)
    export_network(
        create_network(name, num_classes=2, image_size=image_size).eval(),
        out,
        classes=("benign", "malignant"),
        positive="malignant",
        preprocess_spec=PreprocessSpec(size=image_size),
        validation_images=images,
        validation_labels=np.arange(len(images)) % 2,
        training=TrainingRecord(
            dataset="noise", images={"val": len(images)}, network=name, optimizer={"name": "none"}, config={}
        ),
        precisions=precisions,
    )
    write_int8(out / MODEL, out.parent / INT8, images)
    return out
