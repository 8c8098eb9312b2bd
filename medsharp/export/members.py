"""Several networks, and several views of an image, as one network: the mean of their answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from medsharp.bundle import Average, Combination
from medsharp.errors import InputError
from medsharp.networks import Classifier

_LEAST_SHARE = 1e-30
"""Shares are kept above this where their logarithm is taken; 1e-38 is the least that float32 has in full."""


class Ensemble(nn.Module):
    """The mean of what several networks say of an image, and where asked of its mirror image and of smaller copies too.

    With `average: probabilities`, the logits are `log(mean over members and views of softmax(z))`, so that their
    softmax is the mean; with `logits`, they are the mean of z. One network that sees one view gives its own logits.

    Each member normalises the image itself. The mirror image is that of the whole input, its black bars included.

    Attributes:
        members: The networks.
        average: What is averaged.
        flip: Whether each member also sees the mirror image.
        sizes: Sides in pixels at which each member sees the input, the largest first.
        image_size: Side S of the input in pixels: the largest of them.
        answers: How many answers the mean is of: members times views.
        has_cam: Whether there is a class activation map: each member's is exact, and all have the same size.
        exact_cam: Whether the map, which is the mean of the members' (mirrored ones mirrored back, those of smaller
            copies enlarged), explains the logits exactly. It does not where probabilities are averaged: it then
            explains the mean of the members' logits.

    Args:
        members: As above.
        average: As above.
        flip: As above.
        sizes: As above, in any order; the members' own by default.

    Raises:
        InputError: A member does not take images of one of the sizes.
    """

    def __init__(
        self,
        members: Sequence[Classifier],
        *,
        average: Average = "probabilities",
        flip: bool = False,
        sizes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.average = average
        self.flip = flip
        self.sizes = tuple(sorted({*sizes} or {members[0].image_size}, reverse=True))
        self.image_size = self.sizes[0]
        for size in self.sizes[1:]:
            self.register_buffer(_to(size), shrinking(self.image_size, size), persistent=False)
        self.answers = self.combination.answers
        maps, lengths = self._probe()
        self.has_cam = len(maps[self.image_size]) == 1 and not any(None in own for own in maps.values())
        self.exact_cam = self.has_cam and (average == "logits" or self.answers == 1)
        # Members of one design have features of one meaning or at least of one number; a mean of them keeps the input
        # check as small as that of one network. Those of several designs are laid side by side.
        self._mean_features = len(lengths) == 1

    @torch.no_grad()
    def _probe(self) -> tuple[dict[int, set[torch.Size | None]], set[int]]:
        """Return the shapes of the members' maps at each size (None: it has none) and the lengths of their features."""
        maps: dict[int, set[torch.Size | None]] = {}
        lengths = set()
        for size in self.sizes:
            image = torch.zeros(1, 1, size, size, dtype=torch.uint8)
            for member in self._networks():
                try:
                    found = member.forward_all(image)
                # What networks raise on images of a size that they are not made for shares no class.
                except Exception as error:
                    raise InputError(
                        f"a network does not take images of {size} x {size} pixels: "
                        f"{(str(error).strip() or type(error).__name__).splitlines()[0]}"
                    ) from error
                maps.setdefault(size, set()).add(found["cam"].shape if "cam" in found else None)
                lengths.add(found["features"].shape[1])
        return maps, lengths

    @property
    def combination(self) -> Combination:
        """The same in words of a bundle."""
        sizes = self.sizes if len(self.sizes) > 1 else ()
        return Combination(members=len(self.members), average=self.average, flip=self.flip, sizes=sizes)

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
            "logits": self._mean_answer([answer["logits"] for answer in answers]),
            "features": _mean(features) if self._mean_features else torch.cat(features, dim=1),
        }
        if self.has_cam:
            outputs["cam"] = _mean([answer["cam"] for answer in answers])
        return outputs

    def forward_members(self, image: Tensor) -> list[dict[str, Tensor]]:
        """Return `logits`, `features` and perhaps `cam` of each member, over its views."""
        copies = [self._copy(image, size) for size in self.sizes]
        if self.flip:
            copies = [torch.cat([copy, copy.flip(-1)]) for copy in copies]  # [2 B, ...]
        return [self._over_views([member.forward_all(copy) for copy in copies]) for member in self._networks()]

    def mean_logits(self, image: Tensor) -> Tensor:
        """Return the mean of the logits over members and views [B, C], which the class activation map explains."""
        copies = [self._copy(image, size) for size in self.sizes]
        views = [view for copy in copies for view in ([copy, copy.flip(-1)] if self.flip else [copy])]
        return _mean([member(view) for member in self.members for view in views])

    def mean_bias(self) -> Tensor:
        """Return the mean of the biases of the members' last layers [C], or zeros; for networks with a map."""
        heads = [member.backbone.get_classifier() for member in self._networks()]  # type: ignore[operator]
        biases = [torch.zeros(head.out_features) if head.bias is None else head.bias.detach() for head in heads]
        return _mean(biases)

    def _networks(self) -> Iterator[Classifier]:
        return cast("Iterator[Classifier]", iter(self.members))  # a ModuleList is of modules of no kind

    def _copy(self, image: Tensor, size: int) -> Tensor:
        """Return images [B, 1, S, S] at another size: float [B, 1, size, size], or as they are where it is theirs."""
        if size == self.image_size:
            return image
        matrix = self.get_buffer(_to(size))
        return matrix @ image.to(matrix.dtype) @ matrix.T

    def _over_views(self, outputs: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the mean answer of one member, of what it gave of each size."""
        if self.flip:
            pairs = [
                {name: value.unflatten(0, (2, -1)).unbind() for name, value in output.items()} for output in outputs
            ]
        else:
            pairs = [{name: (value,) for name, value in output.items()} for output in outputs]
        merged = {
            "logits": self._mean_answer([logits for pair in pairs for logits in pair["logits"]]),
            "features": _mean([features for pair in pairs for features in pair["features"]]),
        }
        if self.has_cam:
            # The map of the mirror image is the second, and is mirrored back.
            maps = [_mean([own, *(other.flip(-1) for other in others)]) for own, *others in (p["cam"] for p in pairs)]
            merged["cam"] = _mean([maps[0], *(_enlarged(small, maps[0].shape[-2:]) for small in maps[1:])])
        return merged

    def _mean_answer(self, answers: Sequence[Tensor]) -> Tensor:
        """Return the mean answer [B, C] of several logits [B, C]."""
        if len(answers) == 1:
            return answers[0]
        logits = torch.stack(list(answers))
        if self.average == "logits":
            return logits.mean(dim=0)
        return logits.softmax(dim=-1).mean(dim=0).clamp_min(_LEAST_SHARE).log()


def shrinking(size: int, smaller: int) -> Tensor:
    """Return the matrix R [smaller, size] for which `R @ image @ R.T` is an image shrunk bilinearly, with antialiasing.

    Execution providers differ in how they resize; in a product of matrices they do not.
    """
    rows = torch.eye(size)[None, None]  # each column is a unit vector, shrunk along the rows
    return interpolate(rows, size=(smaller, size), mode="bilinear", antialias=True)[0, 0]


def _enlarged(maps: Tensor, shape: Sequence[int]) -> Tensor:
    """Return maps [B, C, h, w] on a grid of another shape, each new place the mean of what it covers.

    Their mean stays what it was, so that they explain the logits as before; of bilinear interpolation it does not.
    """
    rows, columns = (_covering(old, new).to(maps.dtype) for old, new in zip(maps.shape[-2:], shape, strict=True))
    return rows @ maps @ columns.T


def _covering(old: int, new: int) -> Tensor:
    """Return the share [new, old] of each of `new` equal parts of a length that lies in each of `old` equal parts."""
    starts, edges = torch.arange(new)[:, None] / new, torch.arange(old)[None] / old
    overlap = torch.minimum(starts + 1 / new, edges + 1 / old) - torch.maximum(starts, edges)
    return overlap.clamp_min(0) * new


def _to(size: int) -> str:
    return f"to_{size}"


def _mean(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(list(values)).mean(dim=0)
