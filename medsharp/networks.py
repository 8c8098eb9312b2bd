"""Networks by name: timm's, and a few narrow variants for small data, wrapped to take uint8 images."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn

from medsharp.errors import InputError, nearest

# Narrow ResNets: widths of the four stages. Small data does not fill a full-width network, and the files stay small.
_VARIANTS: dict[str, dict[str, Any]] = {
    "resnet10_w16": {"model": "resnet18", "layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128)},
    "resnet10_w32": {"model": "resnet18", "layers": (1, 1, 1, 1), "channels": (32, 64, 128, 256)},
    "resnet18_w16": {"model": "resnet18", "channels": (16, 32, 64, 128)},
    "resnet18_w32": {"model": "resnet18", "channels": (32, 64, 128, 256)},
}


Normalization = Literal["dataset", "image"]
"""Grey values less their mean, over their standard deviation: of all training images, or of each image by itself."""

_LEAST_STD = 0.02


class Classifier(nn.Module):
    """A timm network that scales and normalises its input itself.

    Attributes:
        backbone: The timm network, with one input channel.
        exact_cam: Whether the class activation map explains the logit exactly: its mean plus the bias is the logit.
        notes: What was done while loading weights, for a person.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, image_size: int, normalization: Normalization = "dataset") -> None:
        super().__init__()
        self.backbone = backbone
        self.image_size = image_size
        self.normalization = normalization
        self.notes: list[str] = []
        self.register_buffer("mean", torch.tensor(0.25))
        self.register_buffer("std", torch.tensor(0.2))
        self.exact_cam = False
        self.exact_cam = self._explains_exactly()

    def set_normalization(self, mean: float, std: float) -> None:
        """Set mean and standard deviation of the training pixels, on the scale 0 to 1; `image` does not use them."""
        self.mean.fill_(mean)
        self.std.fill_(std)

    def forward_features(self, image: Tensor) -> Tensor:
        """Return the last feature map ([B, D, h, w], or [B, h, w, D]) or the tokens [B, T, D].

        Args:
            image: uint8, or float on the scale 0 to 255, [B, 1, S, S].
        """
        scaled = image.to(self.mean.dtype) / 255.0
        mean, std = _image_statistics(scaled) if self.normalization == "image" else (self.mean, self.std)
        return self.backbone.forward_features((scaled - mean) / std)  # type: ignore[operator]

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits [B, C] of what `forward_features` gave."""
        return self.backbone.forward_head(features)  # type: ignore[operator]

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [B, C] of images [B, 1, S, S], uint8 or float on the scale 0 to 255."""
        return self.forward_head(self.forward_features(image))

    def forward_all(self, image: Tensor) -> dict[str, Tensor]:
        """Return `logits` [B, C], `features` [B, D] and, where it is exact, `cam` [B, C, h, w].

        The map is the classifier's weight applied at each place of the feature map before pooling (Zhou et al., CVPR
        2016, eq. 2).
        """
        maps = self.forward_features(image)
        features = self.backbone.forward_head(maps, pre_logits=True)  # type: ignore[operator]
        found = {"logits": self.forward_head(maps), "features": features}
        if self.exact_cam:
            found["cam"] = self._cam(maps)
        return found

    def _cam(self, maps: Tensor) -> Tensor:
        head = self.backbone.get_classifier()  # type: ignore[operator]
        if maps.shape[1] != head.in_features:
            maps = maps.permute(0, 3, 1, 2)
        return torch.einsum("bdhw,cd->bchw", maps, head.weight)

    @torch.no_grad()
    def _explains_exactly(self) -> bool:
        training = self.training
        self.eval()
        generator = torch.Generator().manual_seed(0)
        image = torch.rand(1, 1, self.image_size, self.image_size, generator=generator) * 255
        try:
            maps = self.forward_features(image)
            head = self.backbone.get_classifier()  # type: ignore[operator]
            if maps.ndim != 4 or not isinstance(head, nn.Linear):
                return False
            if head.in_features not in (maps.shape[1], maps.shape[3]):
                return False
            logits = self._cam(maps).mean(dim=(2, 3)) + head.bias
            return torch.allclose(logits, self.forward_head(maps), atol=1e-4, rtol=1e-4)
        finally:
            self.train(training)


def _image_statistics(scaled: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation [B, 1, 1, 1] of each image's pixels that are not black.

    Black is what surrounds the scan and what the letterbox adds; how much of it there is says nothing of the tissue.
    """
    seen = (scaled > 0).to(scaled.dtype)
    count = seen.sum(dim=(1, 2, 3), keepdim=True).clamp_min(1)
    mean = (scaled * seen).sum(dim=(1, 2, 3), keepdim=True) / count
    variance = ((scaled - mean).square() * seen).sum(dim=(1, 2, 3), keepdim=True) / count
    return mean, variance.sqrt().clamp_min(_LEAST_STD)


def list_networks(pattern: str = "*") -> list[str]:
    """Return the names that match a shell pattern: the narrow variants, then timm's."""
    return [*fnmatch.filter(_VARIANTS, pattern), *timm.list_models(pattern)]


def create_network(
    name: str,
    *,
    num_classes: int,
    image_size: int,
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    normalization: Normalization = "dataset",
) -> Classifier:
    """Make a network for grey images.

    Args:
        name: A timm name, or one of the narrow variants such as `resnet18_w32`.
        num_classes: Number of logits.
        image_size: Side of the input in pixels.
        pretrained: Load timm's published weights; they are downloaded on first use.
        checkpoint: Local weights: `.safetensors`, or `.pt` read with `weights_only=True`. A head of another shape is
            left as initialised, which `notes` says.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Stochastic depth.
        normalization: `dataset` takes mean and standard deviation from all training images, `image` from each image by
            itself, which takes away what a scanner's gain and dynamic range do to all of its pixels.

    Raises:
        InputError: The name is unknown, the network cannot take that image size, or the weights do not fit.
    """
    if name not in _VARIANTS and not timm.is_model(name):
        raise InputError(f"unknown network '{name}'{nearest(name, list_networks())}")
    variant = dict(_VARIANTS.get(name, {"model": name}))
    model = variant.pop("model")
    if pretrained and name in _VARIANTS:
        raise InputError(f"network {name} has no published weights; set pretrained: false, or give a checkpoint")
    options = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate, **variant}
    backbone = _create(model, name, {"in_chans": 1, "num_classes": num_classes, **options}, pretrained, image_size)
    try:
        network = Classifier(backbone, image_size, normalization)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise InputError(f"network {name} does not take {image_size} x {image_size} images: {_line(error)}") from error
    if checkpoint is not None:
        load_weights(network, checkpoint)
    return network


def load_weights(network: Classifier, path: str | Path) -> None:
    """Load local weights into a network; a classifier head of another shape keeps its initial weights.

    Raises:
        InputError: The file is missing or damaged, or its weights are those of another network.
    """
    path = Path(path)
    weights = _read_weights(path)
    own = network.state_dict()
    loaded = {}
    for key, value in weights.items():
        key = key.removeprefix("module.")
        loaded[key if key in own else f"backbone.{key}"] = value
    head = [key for key in own if key.split(".")[1:2] and key.split(".")[1] in {"fc", "head", "classifier"}]
    for key in head:
        if key in loaded and loaded[key].shape != own[key].shape:
            network.notes.append(f"{key} of {path.name} has another shape and was left as initialised")
            loaded[key] = own[key]
    for key in ("mean", "std"):
        loaded.setdefault(key, own[key])
    missing = sorted(set(own) - set(loaded))
    wrong = sorted(key for key in loaded if key not in own or loaded[key].shape != own[key].shape)
    if missing or wrong:
        shown = ", ".join((missing or wrong)[:3])
        kind = "lacks" if missing else "has other shapes or names for"
        raise InputError(f"{path} does not fit this network: it {kind} {shown} ({len(missing or wrong)} in all)")
    network.load_state_dict(loaded)


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    # Both readers raise errors of many classes on damaged files.
    except Exception as error:
        raise InputError(f"checkpoint {path} cannot be read: {_line(error)}") from error
    for key in ("state_dict", "model"):
        if isinstance(weights, dict) and isinstance(weights.get(key), dict):
            weights = weights[key]
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f"checkpoint {path} holds no state dict of tensors")
    return weights


def _create(model: str, name: str, options: dict[str, Any], pretrained: bool, image_size: int) -> nn.Module:
    attempts = [options | {"img_size": image_size}, options]
    error: Exception | None = None
    for attempt in attempts:
        try:
            return timm.create_model(model, pretrained=pretrained, **attempt)
        except TypeError as unknown:
            # Convolutional networks take any size, and no such keyword; a few know no stochastic depth.
            error = unknown
        except (AssertionError, ValueError) as refused:
            raise InputError(f"network {name} cannot be made for {image_size} pixels: {_line(refused)}") from refused
        except (OSError, RuntimeError) as failed:
            if not pretrained:
                raise
            raise InputError(
                f"the published weights of {name} could not be loaded ({_line(failed)}); set pretrained: false or give "
                "a local checkpoint"
            ) from failed
    raise InputError(f"network {name} does not take these settings: {error}")


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
