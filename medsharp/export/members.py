"""Several networks, and an image and its mirror image, as one network: the mean of their answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from medsharp.bundle import Average
from medsharp.networks import Classifier

_LEAST_SHARE = 1e-30
"""Shares are kept above this where their logarithm is taken; 1e-38 is the least that float32 has in full."""


class Ensemble(nn.Module):
    """The mean of what several networks say of an image, and where asked of its mirror image too.

    With `average: probabilities`, the logits are `log(mean over members and views of softmax(z))`, so that their
    softmax is the mean; with `logits`, they are the mean of z. One network that sees one view gives its own logits.

    Each member normalises the image itself. The mirror image is that of the whole input, its black bars included.

    Attributes:
        members: The networks.
        average: What is averaged.
        flip: Whether each member also sees the mirror image.
        image_size: Side S of the input in pixels.
        answers: How many answers the mean is of: members times views.
        has_cam: Whether there is a class activation map: each member's is exact, and all have the same size.
        exact_cam: Whether the map, which is the mean of the members' (mirrored ones mirrored back), explains the logits
            exactly. It does not where probabilities are averaged: it then explains the mean of the members' logits.
    """

    def __init__(
        self, members: Sequence[Classifier], *, average: Average = "probabilities", flip: bool = False
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.average = average
        self.flip = flip
        self.image_size = members[0].image_size
        self.answers = len(members) * (2 if flip else 1)
        maps, lengths = self._probe()
        self.has_cam = len(maps) == 1 and None not in maps
        self.exact_cam = self.has_cam and (average == "logits" or self.answers == 1)
        # Members of one design have features of one meaning or at least of one number; a mean of them keeps the input
        # check as small as that of one network. Those of several designs are laid side by side.
        self._mean_features = len(lengths) == 1

    @torch.no_grad()
    def _probe(self) -> tuple[set[torch.Size | None], set[int]]:
        """Return the shapes of the members' maps (None where one has none) and the lengths of their features."""
        image = torch.zeros(1, 1, self.image_size, self.image_size, dtype=torch.uint8)
        found = [member.forward_all(image) for member in self._networks()]
        maps = {one["cam"].shape if "cam" in one else None for one in found}
        return maps, {one["features"].shape[1] for one in found}

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [B, C] of images [B, 1, S, S], uint8 or float on the scale 0 to 255."""
        return self.forward_all(image)["logits"]

    def forward_all(self, image: Tensor) -> dict[str, Tensor]:
        """Return `logits` [B, C], `features` [B, D] and, where there is one, `cam` [B, C, h, w]."""
        return self.combine(self.forward_members(image))

    def combine(self, answers: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return what `forward_all` does of what `forward_members` gave."""
        features = [answer["features"] for answer in answers]
        outputs = {
            "logits": self._mean_answer(torch.stack([answer["logits"] for answer in answers])),
            "features": _mean(features) if self._mean_features else torch.cat(features, dim=1),
        }
        if self.has_cam:
            outputs["cam"] = _mean([answer["cam"] for answer in answers])
        return outputs

    def forward_members(self, image: Tensor) -> list[dict[str, Tensor]]:
        """Return `logits`, `features` and perhaps `cam` of each member, over its views."""
        views = torch.cat([image, image.flip(-1)]) if self.flip else image  # [B, ...] or [2 B, ...]
        return [self._over_views(member.forward_all(views)) for member in self._networks()]

    def mean_logits(self, image: Tensor) -> Tensor:
        """Return the mean of the logits over members and views [B, C], which the class activation map explains."""
        views = [image, image.flip(-1)] if self.flip else [image]
        return _mean([member(view) for member in self.members for view in views])

    def mean_bias(self) -> Tensor:
        """Return the mean of the biases of the members' last layers [C], or zeros; for networks with a map."""
        heads = [member.backbone.get_classifier() for member in self._networks()]  # type: ignore[operator]
        biases = [torch.zeros(head.out_features) if head.bias is None else head.bias.detach() for head in heads]
        return _mean(biases)

    def _networks(self) -> Iterator[Classifier]:
        return cast("Iterator[Classifier]", iter(self.members))  # a ModuleList is of modules of no kind

    def _over_views(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self.flip:
            return outputs
        pairs = {name: value.unflatten(0, (2, -1)) for name, value in outputs.items()}  # [2, B, ...]
        merged = {"logits": self._mean_answer(pairs["logits"]), "features": pairs["features"].mean(dim=0)}
        if "cam" in pairs:
            merged["cam"] = (pairs["cam"][0] + pairs["cam"][1].flip(-1)) / 2
        return merged

    def _mean_answer(self, logits: Tensor) -> Tensor:
        """Return the mean answer [B, C] of logits [answers, B, C]."""
        if len(logits) == 1:
            return logits[0]
        if self.average == "logits":
            return logits.mean(dim=0)
        return logits.softmax(dim=-1).mean(dim=0).clamp_min(_LEAST_SHARE).log()


def _mean(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(list(values)).mean(dim=0)
