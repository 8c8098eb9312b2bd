"""The classifier: a timm network that scales and normalises its input itself."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from medsharp.errors import InputError
from medsharp.networks.head import head_names
from medsharp.weights_origin import WeightsOrigin

Normalization = Literal["dataset", "image", "weights"]
"""Grey values less a mean, over a standard deviation: of all training images, of each image by itself, or of the images
that the initial weights were trained on."""

Features = Tensor | list[Tensor]
"""What a network gives before its head: a map, tokens, or a list of tokens where it has several branches."""

Pooling = Literal["average", "lesion"]
"""How a feature map becomes one vector: all places count the same, or those of the lesion more."""

LESION_FLOOR = 0.05
"""Weight in lesion pooling of a place that is surely no lesion, beside 1.05 of one that surely is: a lesion on a tenth
of the image then has seven tenths of the weight, and without any the pooling is the average."""

BY_IMAGE = (0.0, 0.0)
"""Mean and deviation in the weights of a network that normalises each image by itself, and reads neither. No images
have a deviation of 0: a file of weights tells by it how it wants its pixels."""

_BACKBONE = "backbone."
_LEAST_STD = 0.02


class Classifier(nn.Module):
    """A timm network that scales and normalises its input itself.

    Attributes:
        backbone: The timm network.
        image_size: Side S of the input in pixels.
        num_classes: Number of logits C.
        map_channels: Channels D of the feature map [B, D, h, w]; None where the network gives tokens or [B, h, w, D].
        exact_cam: Whether the class activation map explains the logit exactly: its mean plus the bias is the logit.
        lesion: With lesion pooling: the 1 x 1 convolution that tells lesion from surroundings, else None.
        origin: Where the initial weights come from and what was done to them; None for random ones.
        weights_by_image: Whether the file that its weights were loaded from says `BY_IMAGE`.
        channels: Input channels of the backbone: 1, or 3 for one that was made for colours. It is then given the grey
            image as three equal colours, each normalised by its own mean and standard deviation.

    Args:
        backbone: As above.
        image_size: As above.
        normalization: Whether grey values are normalised by all training images or by each image itself.
        pooling: `average` leaves the network as timm has it. `lesion` multiplies each place of the feature map, before
            it is averaged, with `w / mean(w)`, `w = sigmoid(a) + LESION_FLOOR`, where `a` is the lesion logit that
            `lesion` gives there. Where to look is learned from masks alone: no gradient of the logits passes through w.

        channels: As above.

    Raises:
        InputError: Lesion pooling is asked of a network that does not average a feature map [B, D, h, w] and classify
            the average linearly.
        ValueError: The network gives something else than finite logits [B, C] of images of that size. What it raises
            of its own accord on images that are too small passes through.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        image_size: int,
        normalization: Normalization = "dataset",
        pooling: Pooling = "average",
        channels: int = 1,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.image_size = image_size
        self.normalization = normalization
        self.origin: WeightsOrigin | None = None
        self.weights_by_image = False
        self.channels = channels
        shape = () if channels == 1 else (channels, 1, 1)
        self.register_buffer("mean", torch.full(shape, 0.25))
        self.register_buffer("std", torch.full(shape, 0.2))
        self.lesion: nn.Conv2d | None = None
        self.num_classes, self.map_channels, self.exact_cam = self._probe()
        if pooling == "lesion":
            if self.map_channels is None or not self.exact_cam:
                raise InputError(
                    "network.pooling = lesion: this network does not average a feature map [B, D, h, w] and classify "
                    "the average linearly, as a ResNet or an EfficientNet does; choose another network.name, or average"
                )
            self.lesion = nn.Conv2d(self.map_channels, 1, kernel_size=1)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done while loading weights, for a person."""
        return () if self.origin is None else self.origin.notes

    def set_normalization(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        """Set the mean and standard deviation to normalise by, on the scale 0 to 1; `image` does not use them.

        Args:
            mean: Of all channels, or of each.
            std: Likewise.
        """
        for buffer, value in ((self.mean, mean), (self.std, std)):
            given = torch.as_tensor(value, dtype=buffer.dtype)
            buffer.copy_(given[:, None, None] if given.ndim else given)

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters, as `named_parameters` gives them, that its authors leave undecayed.

        Position tables and class tokens are added to what they act on: decay would pull them towards no position and no
        class. timm's networks state theirs by name or shell pattern.
        """
        stated: Iterable[str] = getattr(self.backbone, "no_weight_decay", tuple)()
        return {
            f"backbone.{name}"
            for name, _ in self.backbone.named_parameters()
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in stated)
        }

    def is_head(self, name: str) -> bool:
        """Whether a parameter or buffer, as `state_dict` names it, is of the head: of what tells classes apart.

        It is what timm makes anew for another number of classes, one layer or, in distilled networks, several, and the
        convolution of lesion pooling.
        """
        if not name.startswith(_BACKBONE):
            return name.startswith("lesion.")
        return any(name.startswith(f"{_BACKBONE}{head}.") for head in head_names(self.backbone))

    def forward_features(self, image: Tensor) -> Features:
        """Return the last feature map [B, D, h, w] (some networks: [B, h, w, D]), or the tokens [B, T, D].

        Networks of several branches, such as CrossViT, give a list of tokens.

        Args:
            image: uint8, or float on the scale 0 to 255, [B, 1, S, S].
        """
        # With three means, what broadcasts is the grey image, to three colours.
        scaled = image.to(self.mean.dtype) / 255.0
        mean, std = _image_statistics(scaled) if self.normalization == "image" else (self.mean, self.std)
        return self.backbone.forward_features((scaled - mean) / std)  # type: ignore[operator]

    def forward_head(self, features: Features) -> Tensor:
        """Return logits [B, C] of what `forward_features` gave."""
        return self.backbone.forward_head(self._attended(features))  # type: ignore[operator]

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [B, C] of images [B, 1, S, S], uint8 or float on the scale 0 to 255."""
        return self.forward_head(self.forward_features(image))

    def forward_all(self, image: Tensor) -> dict[str, Tensor]:
        """Return `logits` [B, C], `features` [B, D] and, where it is exact, `cam` [B, C, h, w].

        The map is the classifier's weight applied at each place of the feature map before pooling (Zhou et al., CVPR
        2016, eq. 2), with lesion pooling times the place's weight: its mean plus the bias is the logit in either case.
        """
        features = self._attended(self.forward_features(image))
        pooled = self.backbone.forward_head(features, pre_logits=True)  # type: ignore[operator]
        outputs = {"logits": self.backbone.forward_head(features), "features": pooled}  # type: ignore[operator]
        if self.exact_cam and isinstance(features, Tensor):
            outputs["cam"] = self._cam(features)
        return outputs

    def _attended(self, features: Features) -> Features:
        """Return the feature map whose average is what the pooling gives: with lesion pooling `F w / mean(w)`."""
        if self.lesion is None or not isinstance(features, Tensor):
            return features
        weights = self.lesion(features).detach().sigmoid() + LESION_FLOOR  # [B, 1, h, w]
        return features * (weights / weights.mean(dim=(2, 3), keepdim=True))

    def _cam(self, maps: Tensor) -> Tensor:
        head = self.backbone.get_classifier()  # type: ignore[operator]
        if maps.shape[1] != head.in_features:
            maps = maps.permute(0, 3, 1, 2)
        return torch.einsum("bdhw,cd->bchw", maps, head.weight)

    @torch.no_grad()
    def _probe(self) -> tuple[int, int | None, bool]:
        """Look at one image's outputs: the number of logits, `map_channels` and `exact_cam`.

        On the device `meta`, where there are shapes only, no map is taken for exact.
        """
        training = self.training
        self.eval()
        generator = torch.Generator().manual_seed(0)
        image = torch.rand(1, 1, self.image_size, self.image_size, generator=generator, device="cpu") * 255
        image = image.to(self.mean.device)
        try:
            features = self.forward_features(image)
            logits = self.forward_head(features)
            if not isinstance(logits, Tensor) or logits.ndim != 2:
                raise ValueError("it gives no class scores")
            # Of an image too small, pooling over no place at all is not a number.
            if not image.is_meta and not logits.isfinite().all():
                raise ValueError("its class scores are not numbers")
            classes = logits.shape[1]
            if not isinstance(features, Tensor) or features.ndim != 4:
                return classes, None, False
            square = features.shape[2] == features.shape[3]
            channels = features.shape[1] if square else None
            head = self.backbone.get_classifier()  # type: ignore[operator]
            if (
                image.is_meta
                or not isinstance(head, nn.Linear)
                or head.in_features not in (features.shape[1], features.shape[3])
            ):
                return classes, channels, False
            explained = self._cam(features).mean(dim=(2, 3))
            if head.bias is not None:
                explained = explained + head.bias
            return classes, channels, torch.allclose(explained, logits, atol=1e-4, rtol=1e-4)
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
