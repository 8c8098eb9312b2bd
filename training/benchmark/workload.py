"""What a pass works on: a network, a batch, and closures that do the pass, or only what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from medsharp.networks import Classifier, create_network

Closure = Callable[..., Tensor]

CACHE_BYTES = 64 * 2**20
"""A pass of a network leaves nothing of the weights in the processor's caches; nor does writing this much."""


class Workload:
    """A network with random weights and one batch of noise; one forward and backward on it is the unit of time.

    Args:
        network: As `medsharp.networks.create_network` spells it.
        batch_size: Images.
        image_size: Their side in pixels.
        device: Where to compute.
        precision: fp32, or bf16 for autocast.
        channels_last: Lay out images and weights so.

    Raises:
        InputError: The network is unknown, or does not take this image size.
    """

    def __init__(
        self, network: str, batch_size: int, image_size: int, device: torch.device, precision: str, channels_last: bool
    ) -> None:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = create_network(network, num_classes=2, image_size=image_size)
            self.images = torch.rand(batch_size, 1, image_size, image_size).mul_(255)
            self.labels = torch.randint(0, 2, (batch_size,))
        self.network: Classifier = made.to(device).to(memory_format=layout).train()
        self.images = self.images.to(device).to(memory_format=layout)
        self.labels = self.labels.to(device)
        self.device = device
        self.bf16 = precision == "bf16"
        self.params = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self._all = [*self.network.parameters(), *self.network.buffers()]
        self._start = [tensor.detach().clone() for tensor in self._all]
        self.run()
        self._gradients = [p.grad.detach().clone() for p in self.params if p.grad is not None]

    @property
    def weight_bytes(self) -> int:
        """Memory of the trained parameters."""
        return sum(p.numel() * p.element_size() for p in self.params)

    def run(self, rows: Any = slice(None), per_sample: bool = False) -> Tensor:
        """Clear the gradients, run forward and backward on some rows of the batch.

        Returns:
            The mean loss, or with `per_sample` the loss of each row.
        """
        self.network.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.network(self.images[rows])
        losses = functional.cross_entropy(logits.float(), self.labels[rows], reduction="none")
        mean = losses.mean()
        mean.backward()
        return losses if per_sample else mean

    def closure(self, per_sample: bool) -> Closure:
        """Return the closure of real passes."""
        return lambda rows=slice(None): self.run(rows, per_sample)

    def restart(self) -> None:
        """Bring weights and running statistics back to where they began."""
        with torch.no_grad():
            for tensor, start in zip(self._all, self._start, strict=True):
                tensor.copy_(start)

    def fresh_gradients(self) -> list[Tensor]:
        """Return a copy of the gradients of a real pass, laid out as backward lays them out."""
        return [gradient.clone() for gradient in self._gradients]


class EmptyPasses:
    """A closure whose passes cost nothing that is counted: gradients of a real pass, prepared in advance, appear.

    Between two passes of a step a network reads and writes far more than a cache holds. So does this closure on a CPU,
    or weights would still be in the cache when an optimizer comes back to them. `wall` and `cpu` say how many seconds
    of a step were spent in here, to be subtracted.
    """

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._ready: list[list[Tensor]] = []
        self._scratch = torch.zeros(CACHE_BYTES // 4) if workload.device.type == "cpu" else None
        self._losses = torch.rand(len(workload.labels), generator=torch.Generator().manual_seed(0)).to(workload.device)
        self.wall = 0.0
        self.cpu = 0.0

    def prepare(self, passes: int) -> None:
        """Make ready for a step of at most so many passes, and leave gradients behind as the step before did."""
        self._workload.restart()
        self._ready = [self._workload.fresh_gradients() for _ in range(passes)]
        self._appear()
        self._losses = self._losses.roll(1)
        self.wall = self.cpu = 0.0

    def closure(self, per_sample: bool) -> Closure:
        """Return the closure of empty passes."""

        def empty_pass(rows: Any = slice(None)) -> Tensor:
            wall, cpu = time.perf_counter(), time.process_time()
            self._appear()
            losses = self._losses[rows]
            # A step sees other losses in each of its passes.
            self._losses = self._losses.roll(1)
            if self._scratch is not None:
                self._scratch.add_(1)
            loss = losses if per_sample else losses.mean()
            self.cpu += time.process_time() - cpu
            self.wall += time.perf_counter() - wall
            return loss

        return empty_pass

    def _appear(self) -> None:
        self._workload.network.zero_grad()
        # Prepared in advance for timing; copied here where it is memory that is measured.
        gradients = self._ready.pop() if self._ready else self._workload.fresh_gradients()
        for parameter, gradient in zip(self._workload.params, gradients, strict=True):
            if parameter.requires_grad:
                parameter.grad = gradient
