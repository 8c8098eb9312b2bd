"""What a configuration is checked for, and that every setting of a method arrives in its optimizer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from medsharp.config import TrainConfig, validate_config
from medsharp.errors import InputError
from medsharp.optim import ClosureOptimizer, Hyperparameter, list_optimizers, optimizer_info
from training import check_config
from training.settings import make_optimizer


def another(entry: Hyperparameter) -> Any:
    """A value in range that is not the default."""
    if entry.choices:
        return next(choice for choice in entry.choices if choice != entry.default)
    if isinstance(entry.default, bool):
        return not entry.default
    if isinstance(entry.default, tuple):
        return tuple(value / 2 for value in entry.default)
    if isinstance(entry.default, int):
        return entry.default + 1
    return 3 if entry.default is None else entry.default / 2


def places(optimizer: ClosureOptimizer, key: str) -> list[Any]:
    """Where an optimizer keeps a keyword: as an attribute, in its groups, or within what it is made of."""
    parts = [optimizer, *(value for value in vars(optimizer).values() if hasattr(value, "__dict__"))]
    kept = [value for part in parts for name, value in vars(part).items() if name.lstrip("_") == key]
    return [*kept, *(group[key] for group in optimizer.param_groups if key in group)]


@pytest.mark.parametrize("name", list_optimizers())
def test_every_setting_of_a_method_and_its_base_arrives_in_the_optimizer(name: str) -> None:
    info = optimizer_info(name)
    stands_on = "sgd" if info.sharpness_aware and not info.own_step else None
    for method in (name, *([stands_on] if stands_on else [])):
        for entry in optimizer_info(method).hyperparameters:
            value = another(entry)
            values = {"name": name, "base": "sgd", "lr": 0.01, "weight_decay": 0.02, method: {entry.name: value}}
            config = validate_config({"optimizer": values, "run": {"clip_grad_norm": 0.7}})
            optimizer = make_optimizer(config, nn.Linear(2, 2), data_size=50)
            kept = places(optimizer, entry.name)
            assert kept, (method, entry.name)
            assert all(value == each for each in kept), (method, entry.name)
            assert optimizer.max_grad_norm == 0.7
            assert {group["lr"] for group in optimizer.param_groups} == {0.01}
            assert {group["weight_decay"] for group in optimizer.param_groups} == {0.02, 0.0}


def test_method_that_counts_training_images_is_told_how_many_there_are() -> None:
    values: dict[str, Any] = {"optimizer": {"name": "bayesiansam"}}
    assert set(places(make_optimizer(validate_config(values), nn.Linear(2, 2), data_size=321), "data_size")) == {321}
    values["optimizer"]["data_size"] = 77
    assert set(places(make_optimizer(validate_config(values), nn.Linear(2, 2), data_size=321), "data_size")) == {77}


def test_method_that_looks_once_an_epoch_is_told_how_many_steps_it_has() -> None:
    values: dict[str, Any] = {"optimizer": {"name": "xsam"}}

    def interval(**told: int) -> set[Any]:
        return set(places(make_optimizer(validate_config(values), nn.Linear(2, 2), data_size=1, **told), "interval"))

    assert interval(steps=17) == {17}
    assert interval() == {100}
    values["optimizer"]["interval"] = 5
    assert interval(steps=17) == {5}


def test_norm_layers_and_biases_are_not_decayed() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    for name in ("adamw", "wsam", "bayesiansam"):
        config = validate_config({"optimizer": {"name": name, "weight_decay": 0.3}})
        optimizer = make_optimizer(config, network, data_size=1)
        decays = {parameter: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
        assert {key: decays[value] for key, value in network.named_parameters()} == {
            "0.weight": 0.3,
            "0.bias": 0.0,
            "1.weight": 0.0,
            "1.bias": 0.0,
            "3.weight": 0.3,
            "3.bias": 0.0,
        }


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        (
            {"network": {"name": "resnet18_w23"}},
            r"network\.name: unknown network 'resnet18_w23'; did you mean resnet18_w",
        ),
        ({"optimizer": {"max_norm": 0}}, r"optimizer\.wsam\.max_norm: max_norm must be more than 0"),
        (
            {"optimizer": {"name": "sgd", "nesterov": True, "momentum": 0}},
            r"optimizer\.sgd\.(nesterov|momentum): .*[Nn]esterov",
        ),
        ({"optimizer": {"name": "sam", "base": "sgd", "nesterov": True, "momentum": 0}}, r"optimizer\.sgd\."),
    ],
)
def test_settings_that_do_not_go_together_are_named_with_their_key(section: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check_config(validate_config(section))


def test_defaults_of_every_method_are_right() -> None:
    check_config(TrainConfig())
    for name in list_optimizers():
        check_config(validate_config({"optimizer": {"name": name}}))


def test_checking_draws_no_random_numbers() -> None:
    state = torch.get_rng_state()
    check_config(TrainConfig())
    assert torch.equal(torch.get_rng_state(), state)
