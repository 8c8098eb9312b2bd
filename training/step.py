"""A step of the optimizer on this process's share of a batch: parts, weights, precision and noise."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from medsharp.data.sharing import Division, Part
from medsharp.optim import ClosureOptimizer
from medsharp.optim.micro_batches import dealt
from training.batch_norm import PartStatistics

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Step:
    """Takes steps whose gradient is that of the mean loss over a whole batch, however it is divided.

    A part's losses are added up and divided by the images of the batch, so that shares of different sizes weigh what
    they should. Dropout and stochastic depth draw anew for each part, from one number that all processes draw alike
    and the part's own: the same noise, whichever process has it. Running statistics of batch norm are, after each step,
    the mean of what each part by itself makes of them.

    Args:
        objective: Gives the loss of each image; perhaps with `DistributedDataParallel` or `fully_shard`.
        optimizer: Of its parameters.
        precision: Of forward and backward passes: fp32, bf16 or fp16.
        division: Of a batch.
        process: Which share is this process's.
        scaler: For fp16.
    """

    def __init__(
        self,
        objective: nn.Module,
        optimizer: ClosureOptimizer,
        precision: str,
        division: Division,
        process: int = 0,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.objective = objective
        self.optimizer = optimizer
        self.precision = precision
        self.division = division
        self.process = process
        self.scaler = scaler
        self._statistics = PartStatistics(objective) if division.accumulation > 1 else None

    def take(self, batch: dict[str, Tensor], shares: Sequence[Sequence[Part]]) -> Tensor:
        """Take a step; return this process's share of the loss before it, of which the mean over processes is the loss.

        A step whose loss or gradient is not finite leaves weights, statistics and optimizer state as they were.

        Args:
            batch: The rows of this process's parts, one part after another.
            shares: The parts of each process.
        """
        parts = shares[self.process]
        images = sum(part.counted for share in shares for part in share)
        size = len(batch["label"])
        scale = self.division.processes * size / images
        weights = _weights(parts, batch["label"].device)
        pieces = _slices([len(part.rows) for part in parts])
        if self._statistics is not None:
            self._statistics.begin_batch()

        def closure(rows: slice | Tensor | None = None) -> Tensor:
            self.optimizer.zero_grad(set_to_none=True)
            chosen = self._chosen(pieces, rows)
            count = size if rows is None else len(batch["label"][rows])
            total: Tensor | None = None
            self._begin_pass(chosen)
            with self._noise() as draw_for:
                for place, (number, piece) in enumerate(chosen):
                    draw_for(number)
                    with self._part(), self._synchronised(place + 1 == len(chosen)):
                        with self._autocast(batch["label"].device):
                            losses = self.objective(_rows_of(batch, piece))  # [b]
                            if weights is not None:
                                losses = losses * (weights if piece is None else weights[piece])
                            loss = losses.mean() if len(losses) == count else losses.sum() / count
                            if scale != 1:
                                loss = loss * scale
                        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
                    total = loss.detach() if total is None else total + loss.detach()
            assert total is not None
            return losses.detach() * scale if self.optimizer.needs_sample_losses else total

        loss = self.optimizer.step(closure, batch_size=size, micro_batches=self._micro_batches(pieces, shares))
        if self.scaler is not None:
            self.scaler.update()
        return loss

    def _chosen(self, pieces: list[slice], rows: slice | Tensor | None) -> list[tuple[int, slice | Tensor | None]]:
        """Return the rows that a pass evaluates, each with the number of its part in the batch; None for all."""
        first = self.process * self.division.accumulation
        if rows is not None and self.division.climbs <= 1:
            return [(first, rows)]
        chosen = [
            (first + number, piece)
            for number, piece in enumerate(pieces)
            if rows is None or (isinstance(rows, slice) and rows.start <= piece.start and piece.stop <= rows.stop)
        ]
        return [(first, None)] if len(pieces) == 1 else list(chosen)

    def _micro_batches(self, pieces: list[slice], shares: Sequence[Sequence[Part]]) -> list[slice] | None:
        """Return the rows for each of which the method climbs by itself; None where it does so for all of them.

        Every process has as many, or they would wait for each other.
        """
        if self.division.climbs > 1:
            together = self.division.accumulation // self.division.climbs
            groups = [pieces[start : start + together] for start in range(0, len(pieces), together)]
            return [slice(group[0].start, group[-1].stop) for group in groups]
        if self.optimizer.micro_batch is None or len(shares) == 1:
            return None
        sizes = [sum(len(part.rows) for part in share) for share in shares]
        count = min(len(dealt(max(sizes), self.optimizer.micro_batch)), max(1, min(sizes) // 2))
        if len(set(sizes)) == 1:
            return dealt(sizes[0], self.optimizer.micro_batch)
        own = sizes[self.process]
        ends = [own * number // count for number in range(count + 1)]
        return [slice(start, stop) for start, stop in itertools.pairwise(ends)]

    def _begin_pass(self, chosen: list[tuple[int, slice | Tensor | None]]) -> None:
        if self._statistics is not None:
            self._statistics.begin_pass(chosen[0][0] - self.process * self.division.accumulation)

    @contextmanager
    def _part(self) -> Iterator[None]:
        """Have each part begin with the running statistics from before the batch."""
        if self._statistics is None:
            yield
            return
        self._statistics.begin_part()
        yield
        self._statistics.end_part()

    @contextmanager
    def _noise(self) -> Iterator[Callable[[int], None]]:
        """Give what says of which part the noise is that is drawn next."""
        if self.division.parts == 1:
            yield lambda part: None
            return
        # What brings the state of the generator back, to have the same noise once more, has this number once more.
        number = int(torch.randint(2**62, ()))
        state = torch.get_rng_state()
        try:
            yield lambda part: _seed(number, part)
        finally:
            torch.set_rng_state(state)

    def _synchronised(self, last: bool) -> AbstractContextManager[None]:
        """Return what a part is evaluated in: gradients are averaged over processes with those of the last one."""
        if last or not isinstance(self.objective, DistributedDataParallel):
            return nullcontext()
        return self.objective.no_sync()

    def _autocast(self, device: torch.device) -> AbstractContextManager[None]:
        half = _HALF.get(self.precision)
        return nullcontext() if half is None else torch.autocast(device.type, half)


def _seed(*numbers: int) -> None:
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


def _slices(sizes: list[int]) -> list[slice]:
    """Return the rows of parts that lie one after another."""
    ends = [0, *itertools.accumulate(sizes)]
    return [slice(start, stop) for start, stop in itertools.pairwise(ends)]


def _rows_of(batch: dict[str, Tensor], rows: slice | Tensor | None) -> dict[str, Tensor]:
    return batch if rows is None else {key: value[rows] for key, value in batch.items()}


def _weights(parts: Sequence[Part], device: torch.device) -> Tensor | None:
    """Return 1 for rows that count and 0 for those that fill a part up; None where all count."""
    if all(part.counted == len(part.rows) for part in parts):
        return None
    counted = [float(place < part.counted) for part in parts for place in range(len(part.rows))]
    return torch.tensor(counted, device=device)
