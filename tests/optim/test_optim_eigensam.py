"""Eigen-SAM's eigenvector: of attention too, however the closure goes backward, or a sentence."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from small import batch, create, perceptron
from torch import Tensor, nn

from medsharp.optim import ESAM


def vision_transformer() -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, in_chans=1, num_classes=2, depth=2, embed_dim=24, num_heads=3
    )
    return model


def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 1, 32, 32, generator=generator), torch.randint(2, (6,), generator=generator)


BACKWARDS: dict[str, Any] = {
    "method": lambda loss: loss.backward(),
    "function": torch.autograd.backward,
    "function of a list": lambda loss: torch.autograd.backward([loss / 2, loss / 2]),
    "weighted": lambda loss: torch.autograd.backward(loss / 2, torch.tensor(2.0, dtype=loss.dtype)),
    "weights": lambda loss: torch.autograd.backward([loss / 3], grad_tensors=[torch.tensor(3.0, dtype=loss.dtype)]),
}


def closure_of(model: nn.Module, optimizer: Any, x: Tensor, y: Tensor, how: str = "method") -> Any:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        BACKWARDS[how](loss)
        return loss

    return closure


def test_the_eigenvector_is_estimated_through_attention() -> None:
    model = vision_transformer().double()
    x, y = images()
    optimizer = create("eigensam", model, base="sgd", lr=0.01, freq=1)
    for _ in range(12):
        optimizer.step(closure_of(model, optimizer, x.double(), y))
    assert optimizer.skipped == 0
    # The power iterations have come to a vector that the Hessian only scales.
    vector = optimizer.state_dict()["memory"]["eigenvector"]
    params = [p for group in optimizer.param_groups for p in group["params"]]
    v = [vector[number] for number in range(len(params))]
    model.eval()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        gradients = torch.autograd.grad(F.cross_entropy(model(x.double()), y), params, create_graph=True)
        product = torch.autograd.grad(gradients, params, v)
    one, other = (torch.cat([part.flatten() for part in parts]) for parts in (product, v))
    assert abs(float(F.cosine_similarity(one, other, dim=0))) > 0.9


def test_attention_is_fused_again_in_the_passes_of_the_step() -> None:
    enabled: list[bool] = []
    model = perceptron()
    optimizer = create("eigensam", model, base="sgd", lr=0.1, freq=1)
    x, y = batch()

    def closure() -> Tensor:
        enabled.append(torch.backends.cuda.flash_sdp_enabled())
        loss: Tensor = closure_of(model, optimizer, x, y)()
        return loss

    optimizer.step(closure)
    assert enabled == [True, False, True]


@pytest.mark.parametrize("how", list(BACKWARDS)[1:])
@pytest.mark.parametrize("name", ["eigensam", "esam"])
def test_every_way_to_go_backward_is_the_same_step(name: str, how: str) -> None:
    ends = []
    for way in ("method", how):
        model = perceptron()
        optimizer = create(name, model, base="sgd", lr=0.1, rho=0.5, **({"freq": 2} if name == "eigensam" else {}))
        for step in range(4):
            optimizer.step(closure_of(model, optimizer, *batch(step), how=way))
        ends.append(torch.cat([parameter.detach().view(-1) for parameter in model.parameters()]))
    torch.testing.assert_close(*ends, rtol=0, atol=1e-12)


def test_a_closure_that_goes_no_way_to_see_is_told() -> None:
    model = perceptron()
    optimizer = create("eigensam", model, base="sgd", lr=0.1)
    x, y = batch()

    def closure() -> Tensor:
        loss = F.cross_entropy(model(x), y)
        for parameter, gradient in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters()))):
            parameter.grad = gradient
        return loss

    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"see the closure's backward.*not torch\.autograd\.grad"):
        optimizer.step(closure)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("how", BACKWARDS)
def test_esam_goes_not_backward_where_only_losses_are_wanted(how: str) -> None:
    model = perceptron()
    optimizer = ESAM(model.parameters(), lr=0.1, rho=0.5, gamma=0.5)
    x, y = batch()
    backwards: list[int] = []
    model[0].weight.register_hook(lambda gradient: backwards.append(1))

    def closure(rows: Any = slice(None)) -> Tensor:
        optimizer.zero_grad()
        losses = F.cross_entropy(model(x[rows]), y[rows], reduction="none")
        BACKWARDS[how](losses.mean())
        return losses

    optimizer.step(closure)
    assert len(backwards) == 2
