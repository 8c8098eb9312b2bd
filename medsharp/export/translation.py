"""Whether a network can be exported, found out before it is trained for hours."""

from __future__ import annotations

import hashlib
import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from medsharp.errors import InputError
from medsharp.export.gates import BATCHES
from medsharp.export.graph import OPSET, write_onnx
from medsharp.export.members import Ensemble
from medsharp.files import cache_folder, write_text
from medsharp.inference.session import Session
from medsharp.networks import Classifier

_LARGEST_DIFFERENCE = 1e-3
"""Of a logit, as a share of the largest: what is another network is much farther off, and float32 much nearer. The
exact gate is on the trained network."""

_MADE_OF = ("torch", "timm", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime")


def check_translation(network: Classifier, name: str) -> None:
    """Check that a network can be written as ONNX and gives the same answers there in batches of 1, 2 and 5.

    What was found to work is noted in the cache, by name, size, settings and versions, and not tried again: it takes
    seconds, and of large transformers a minute.

    Args:
        network: On the CPU, with any weights; its mode, and the global generator, are left as they are.
        name: The network's.

    Raises:
        InputError: It cannot; the sentence names the network and says why.
    """
    known = cache_folder() / "exported-networks" / f"{_key(network, name)}.txt"
    if known.is_file():
        return
    training = network.training
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as aside:
        try:
            _try(network, Path(aside) / "model.onnx")
        except InputError as error:
            size = network.image_size
            raise InputError(
                f"network {name} at {size} x {size} pixels could not be served once it is trained: {error}; choose "
                "another network.name or data.image_size"
            ) from error
        finally:
            network.train(training)
    known.parent.mkdir(parents=True, exist_ok=True)
    write_text(known, f"{name} {network.image_size}\n")


@torch.no_grad()
def _try(network: Classifier, path: Path) -> None:
    ensemble = Ensemble([network.eval()]).eval()
    write_onnx(ensemble, path, {})
    session = Session(path, device="cpu")
    side = network.image_size
    images = np.random.default_rng(0).integers(0, 256, (max(BATCHES), side, side), dtype=np.uint8)
    expected = network(torch.from_numpy(images[:, None])).numpy()
    for size in BATCHES:
        apart = float(np.abs(session.run(images[:size])["logits"] - expected[:size]).max())
        if not apart <= _LARGEST_DIFFERENCE * float(np.abs(expected).max()):
            raise InputError(f"ONNX Runtime and PyTorch differ by {apart:.2g} in the logits of {size} images")


def _key(network: Classifier, name: str) -> str:
    installed = {package: _version(package) for package in _MADE_OF}
    pooling = "average" if network.lesion is None else "lesion"
    said = [name, network.image_size, network.num_classes, network.normalization, pooling, OPSET, installed]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def _version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:
        return ""
