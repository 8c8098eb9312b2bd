"""The loss of a network over fixed samples as a function of its weights: value, gradient, product with the Hessian."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector

from medsharp.sharpness.cost import Cost

Losses = Callable[[nn.Module, Any], Tensor]
"""Takes a network and a batch, returns the loss of each sample, [B]."""


class Problem:
    """The mean loss over all samples of some batches, `L(w) = 1/N sum_i l_i(w)`, in evaluation mode.

    Vectors `[n]` hold the learnable weights of the network in the order of `named_parameters()`. Every figure is a mean
    over samples, added up in float64: however the samples are divided into batches, it is the same.

    The network that is given is copied, and left as it is. In evaluation mode batch norm uses its running statistics
    and nothing is dropped, so that the loss of a sample depends on that sample and the weights alone.

    Args:
        network: Whose weights; frozen parameters are constants.
        batches: Tensors, or tuples or dictionaries of them; what is of a floating type is converted to `dtype`.
        losses: The loss of each sample of a batch.
        dtype: In which to compute.
        device: Where to compute.
        keep_graph: Keep what `products` differentiates from one product to the next, in place of computing it again: a
            product then costs about two thirds, and memory holds the graph of all batches.

    Attributes:
        network: The copy.
        cost: What was computed so far.

    Raises:
        ValueError: There is no batch, or nothing that learns.
    """

    def __init__(
        self,
        network: nn.Module,
        batches: Sequence[Any],
        losses: Losses,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        keep_graph: bool = False,
    ) -> None:
        if not batches:
            raise ValueError("a loss over no batch is not defined")
        self.network = _copy_of(network).to(device=device, dtype=dtype).eval()
        self.parameters = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise ValueError("the network has no parameter that learns")
        self.batches = [_placed(batch, dtype, torch.device(device)) for batch in batches]
        self.dtype = dtype
        self.device = torch.device(device)
        self.cost = Cost(self._count_unit)
        self.losses = losses
        self._keep_graph = keep_graph
        self._graphs: list[tuple[tuple[Tensor, ...], int]] = []

    @property
    def size(self) -> int:
        """Number of weights n."""
        return sum(p.numel() for p in self._weights)

    def weights(self) -> Tensor:
        """Return a copy of the weights, [n]."""
        return parameters_to_vector(self._weights).detach().clone()

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """Return the parts of a vector [n] by the name of the parameter, in its shape, as views."""
        parts = vector.split([p.numel() for p in self._weights])
        return {name: part.view_as(p) for (name, p), part in zip(self.parameters.items(), parts, strict=True)}

    def loss(self, displacement: Tensor | None = None, rows: slice | None = None) -> float:
        """Return `L(w + e)`.

        Args:
            displacement: e, [n]; 0 without it.
            rows: Of these samples alone, numbered through all batches.
        """
        with self._at(displacement), torch.no_grad(), self.cost.counting("losses", self._share(rows)):
            return _mean([self.losses(self.network, batch) for batch in self._chosen(rows)])

    def gradient(self, displacement: Tensor | None = None, rows: slice | None = None) -> tuple[float, Tensor]:
        """Return `L(w + e)` and its gradient there, [n]; arguments as of `loss`."""
        parts: list[Tensor] = []
        total = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        with self._at(displacement), self.cost.counting("gradients", self._share(rows)):
            for batch in self._chosen(rows):
                losses = self.losses(self.network, batch)
                total += _flat(torch.autograd.grad(losses.sum(), self._weights, materialize_grads=True))
                parts.append(losses.detach())
        return _mean(parts), total / sum(len(part) for part in parts)

    def product(self, vector: Tensor) -> Tensor:
        """Return the product of the Hessian of `L` at `w` with a vector [n].

        Differentiated twice, so exact where the loss is twice differentiable (B. Pearlmutter, "Fast Exact
        Multiplication by the Hessian", Neural Computation 1994); a ReLU counts as linear on either side of 0.
        """
        directions = tuple(self.split(vector.to(dtype=self.dtype, device=self.device)).values())
        total, samples = torch.zeros(self.size, dtype=self.dtype, device=self.device), 0
        with self.cost.counting("products"):
            for gradients, count in self._gradients_with_graphs():
                pairs = [(g, v) for g, v in zip(gradients, directions, strict=True) if g.requires_grad]
                if pairs:  # a loss that is linear in the weights has no graph left
                    second = torch.autograd.grad(
                        [g for g, _ in pairs],
                        self._weights,
                        [v for _, v in pairs],
                        retain_graph=self._keep_graph,
                        materialize_grads=True,
                    )
                    total += _flat(second)
                samples += count
        return total / samples

    @property
    def samples(self) -> int:
        """Number of samples N."""
        return sum(map(_length, self.batches))

    @property
    def _weights(self) -> tuple[nn.Parameter, ...]:
        return tuple(self.parameters.values())

    def _gradients_with_graphs(self) -> Iterator[tuple[tuple[Tensor, ...], int]]:
        """Give the gradient of each batch's summed loss, which can be differentiated again, and the batch's size."""
        if self._graphs:
            yield from self._graphs
            return
        graphs = []
        for batch in self.batches:
            # The fused kernels of attention cannot be differentiated twice.
            with sdpa_kernel(SDPBackend.MATH):
                losses = self.losses(self.network, batch)
                gradients = torch.autograd.grad(losses.sum(), self._weights, create_graph=True, materialize_grads=True)
            if self._keep_graph:
                graphs.append((gradients, len(losses)))
            yield gradients, len(losses)
        self._graphs = graphs

    @contextmanager
    def _at(self, displacement: Tensor | None) -> Iterator[None]:
        """Move the weights, and bring them back by copying: `w + e - e` is not `w`."""
        if displacement is None:
            yield
            return
        self._graphs.clear()  # they stand for the weights where they are
        kept = [p.detach().clone() for p in self._weights]
        try:
            with torch.no_grad():
                for p, part in zip(self._weights, self.split(displacement).values(), strict=True):
                    p.add_(part)
            yield
        finally:
            with torch.no_grad():
                for p, before in zip(self._weights, kept, strict=True):
                    p.copy_(before)

    def _chosen(self, rows: slice | None) -> Iterator[Any]:
        start, stop, _ = (rows or slice(None)).indices(self.samples)
        first = 0
        for batch in self.batches:
            length = _length(batch)
            low, high = max(start - first, 0), min(stop - first, length)
            if low < high:
                yield batch if high - low == length else _rows(batch, slice(low, high))
            first += length

    def _share(self, rows: slice | None) -> float:
        start, stop, _ = (rows or slice(None)).indices(self.samples)
        return (stop - start) / self.samples

    def _count_unit(self) -> None:
        self.gradient()


_CACHE = "attention_bias_cache"


def _copy_of(network: nn.Module) -> nn.Module:
    """Return a copy that keeps nothing from one pass for the next.

    In evaluation mode, timm's LeViT, TinyViT, EfficientFormer and EfficientViT keep `attention_biases[:, idxs]` of the
    first pass, with its graph or, after a pass without one, as a constant. A second gradient would go through a graph
    that is gone, and the loss at other weights would have the biases of the first.
    """
    keeping = [module for module in network.modules() if hasattr(module, _CACHE)]
    # What is kept with a graph cannot be copied, and must not be.
    copied = copy.deepcopy(network, {id(cache): {} for module in keeping if (cache := getattr(module, _CACHE))})
    for module in copied.modules():
        if hasattr(module, _CACHE):
            module.register_forward_hook(_forget, always_call=True)
    return copied


def _forget(module: nn.Module, *_: Any) -> None:
    getattr(module, _CACHE).clear()


def _placed(batch: Any, dtype: torch.dtype, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device=device, dtype=dtype if batch.is_floating_point() else None)
    if isinstance(batch, dict):
        return {key: _placed(value, dtype, device) for key, value in batch.items()}
    return tuple(_placed(value, dtype, device) for value in batch)


def _rows(batch: Any, rows: slice) -> Any:
    if isinstance(batch, Tensor):
        return batch[rows]
    if isinstance(batch, dict):
        return {key: value[rows] for key, value in batch.items()}
    return tuple(value[rows] for value in batch)


def _length(batch: Any) -> int:
    if isinstance(batch, Tensor):
        return len(batch)
    return len(next(iter(batch.values()))) if isinstance(batch, dict) else len(batch[0])


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _mean(parts: list[Tensor]) -> float:
    """Return the mean over all samples, added up in float64."""
    return float(sum(float(part.double().sum()) for part in parts) / sum(len(part) for part in parts))
