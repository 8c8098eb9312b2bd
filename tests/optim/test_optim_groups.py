"""The parameter groups that `create_optimizer` makes of a model: what is decayed, what is frozen, what a base means."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from small import FAST, METHODS, batch, create, perceptron
from torch import Tensor, nn

from medsharp.optim import create_optimizer, list_optimizers, optimizer_info


def names_by_decay(model: nn.Module, **options: Any) -> dict[float, set[str]]:
    optimizer = create_optimizer("sam", model, weight_decay=0.3, decay_norm_and_bias=False, **options)
    return {group["weight_decay"]: set(group["param_names"]) for group in optimizer.param_groups}


class Wrapped(nn.Module):
    """A network inside of another module, as in training."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


@pytest.mark.parametrize("network", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "beit_base_patch16_224"])
def test_decay_spares_what_the_network_names(network: str) -> None:
    model = timm.create_model(network, num_classes=2)
    named = set(model.no_weight_decay())
    assert named
    decayed = names_by_decay(model)[0.3]
    spared = names_by_decay(model)[0.0]
    assert decayed | spared == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        assert (name in spared) == (parameter.ndim < 2 or name in named), name
    inside = names_by_decay(nn.Sequential(Wrapped(model)))
    assert inside[0.0] == {f"0.backbone.{name}" for name in spared}
    assert inside[0.3] == {f"0.backbone.{name}" for name in decayed}


def test_names_may_be_patterns_and_a_wrapper_may_name_them_itself() -> None:
    class Named(Wrapped):
        def no_weight_decay(self) -> set[str]:
            return {"backbone.*.token"}

    inner = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Module()})
    inner["b"].token = nn.Parameter(torch.zeros(1, 1, 4))
    assert names_by_decay(Named(inner)) == {0.3: {"backbone.a.weight"}, 0.0: {"backbone.b.token"}}
    everything = create_optimizer("adamw", Named(inner), weight_decay=0.3).param_groups
    assert [len(group["params"]) for group in everything] == [2]


@pytest.mark.parametrize("name", list_optimizers())
def test_what_is_frozen_stays_and_learns_when_it_is_unfrozen(name: str) -> None:
    model = perceptron()
    model[0].requires_grad_(False)
    before = model[0].weight.detach().clone()
    optimizer = create(name, model, base="sgd", lr=0.1, weight_decay=0.1, protocol=True, **FAST.get(name, {}))
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == set(map(id, model.parameters()))

    def train() -> None:
        for step in range(3):
            x, y = batch(step)

            def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                return loss

            optimizer.step(closure)

    train()
    assert torch.equal(model[0].weight, before)
    model[0].requires_grad_(True)
    train()
    assert not torch.equal(model[0].weight, before)
    assert optimizer.skipped == 0


@pytest.mark.parametrize("base", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("name", ["sam", "msam", "bayesiansam"])
def test_a_base_is_the_same_by_its_name_and_by_its_class(name: str, base: str) -> None:
    options = []
    for given in (base, optimizer_info(base).cls):
        (group,) = create(name, perceptron(), base=given, lr=0.1).param_groups
        options.append({key: value for key, value in group.items() if key not in {"params", "param_names"}})
    assert options[0] == options[1]
    if base == "sgd" and name != "bayesiansam":
        assert options[0]["momentum"] == 0.9


@pytest.mark.parametrize("name", METHODS)
def test_a_method_begins_with_its_own_defaults(name: str) -> None:
    info = optimizer_info(name)
    assert list(info.defaults) == [entry.name for entry in info.hyperparameters]
    group = create(name, perceptron()).param_groups[0]
    for key, value in info.defaults.items():
        if key in group and key != "data_size":
            assert group[key] == value
    assert optimizer_info("asam").defaults["rho"] == 10 * optimizer_info("sam").defaults["rho"]
