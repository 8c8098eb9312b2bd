"""m-sharpness on one device: the samples of each micro-batch, and the mean gradient over all of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from medsharp.optim.batch_norm import RunningStatistics
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


def chunks(
    batch_size: int | None,
    micro_batch: int | None,
    statistics: RunningStatistics,
    given: Sequence[slice] | None = None,
) -> list[tuple[slice | None, float]]:
    """Return the samples to be explored by themselves, each with its share of the batch; None for all of them.

    Args:
        batch_size: Number of samples.
        micro_batch: At most so many at a time.
        statistics: Of the model, for which one sample may be too few.
        given: The micro-batches, where they are not to be dealt.

    Raises:
        ValueError: There are micro-batches of an unknown number of samples, or of one where batch norm needs two.
    """
    if given is not None:
        total = sum(rows.stop - rows.start for rows in given)
        return [(rows, (rows.stop - rows.start) / total) for rows in given]
    if micro_batch is None:
        return [(None, 1.0)]
    if batch_size is None or batch_size < 1:
        raise ValueError("with micro_batch, call step(closure, batch_size=...) and let the closure take the rows")
    layer = statistics.batch_norm_in_training() if micro_batch == 1 else None
    if layer is not None:
        raise ValueError(
            f"micro_batch=1 leaves batch norm (layer '{layer}') one sample at a time, which has no statistics; "
            "set micro_batch to 2 or more, or put batch-norm layers into evaluation mode"
        )
    return [(rows, (rows.stop - rows.start) / batch_size) for rows in dealt(batch_size, micro_batch)]


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
