"""m-sharpness on one device: the samples of each micro-batch, and the mean gradient over all of them."""

from __future__ import annotations

import itertools

from medsharp.optim.gradients import Gradients


def dealt(batch_size: int, micro_batch: int) -> list[slice]:
    """Return the rows of each micro-batch, whose sizes differ by one at most.

    None has more than `micro_batch` samples, and none has only one, which batch norm could not work with; of the two,
    the second counts where both cannot be had (three samples by two are one micro-batch of three).
    """
    count = -(-batch_size // micro_batch)
    if micro_batch > 1:
        count = max(1, min(count, batch_size // 2))
    ends = [batch_size * number // count for number in range(count + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(ends)]


class MeanGradients:
    """Gradients added up over micro-batches, each with its share of the samples; one or several of each parameter."""

    def __init__(self) -> None:
        self.sums: list[Gradients] = []

    def add(self, parts: list[Gradients], share: float) -> None:
        """Add the gradients of a micro-batch, whose memory may be overwritten."""
        self.sums = self.sums or [{} for _ in parts]
        for total, part in zip(self.sums, parts, strict=True):
            for parameter, gradient in part.items():
                if parameter in total:
                    total[parameter].add_(gradient, alpha=share)
                else:
                    total[parameter] = gradient.mul_(share)
