from __future__ import annotations

import pytest

from medsharp.config import TrainConfig, validate_config
from medsharp.errors import InputError
from medsharp.optim import list_optimizers, optimizer_info
from training import resolve_config


@pytest.mark.parametrize("name", list_optimizers())
def test_defaults_of_the_method_and_its_base_are_filled_in(name: str) -> None:
    resolved = resolve_config(validate_config({"optimizer": {"name": name, "base": "sgd"}}))
    extra = resolved.optimizer.model_extra or {}
    for entry in optimizer_info(name).hyperparameters:
        default = list(entry.default) if isinstance(entry.default, tuple) else entry.default
        assert extra[entry.name] == default
    info = optimizer_info(name)
    if info.sharpness_aware and not info.own_step:
        assert extra["momentum"] == 0.9
    assert resolve_config(resolved) == resolved


def test_given_values_stay() -> None:
    config = validate_config({"optimizer": {"name": "wsam", "rho": 0.2, "betas": [0.8, 0.99]}})
    extra = resolve_config(config).optimizer.model_extra
    assert extra is not None
    assert (extra["rho"], extra["betas"]) == (0.2, [0.8, 0.99])


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        (
            {"network": {"name": "resnet18_w23"}},
            r"network\.name: unknown network 'resnet18_w23'; did you mean resnet18_w",
        ),
        ({"optimizer": {"name": "wsma"}}, r"optimizer\.name: unknown optimizer 'wsma'; did you mean .*wsam"),
        ({"optimizer": {"base": "adamm"}}, r"optimizer\.base: unknown optimizer 'adamm'; did you mean"),
        ({"optimizer": {"base": "sam"}}, r"optimizer\.base: must be sgd, adam or adamw, not sam"),
        ({"optimizer": {"gama": 0.5}}, r"unknown key 'optimizer\.gama' for wsam; did you mean gamma"),
        ({"optimizer": {"name": "sam", "gamma": 0.5}}, r"unknown key 'optimizer\.gamma' for sam"),
        ({"optimizer": {"rho": -1}}, r"optimizer\.rho = -1: must be a number from 0"),
        ({"optimizer": {"gamma": 1.0}}, r"optimizer\.gamma = 1\.0: must be"),
        ({"optimizer": {"rho": "wide"}}, r"optimizer\.rho = 'wide'"),
        ({"optimizer": {"rho": True}}, r"optimizer\.rho = True"),
        ({"optimizer": {"adaptive": 1}}, r"optimizer\.adaptive = 1: must be true or false"),
        ({"optimizer": {"betas": [0.9, 1.5]}}, r"optimizer\.betas = \[0\.9, 1\.5\]"),
        ({"optimizer": {"betas": [0.9]}}, r"optimizer\.betas = \[0\.9\]: must be 2 numbers"),
        ({"optimizer": {"max_norm": 0}}, r"optimizer\.max_norm: max_norm must be more than 0"),
        ({"optimizer": {"name": "sgd", "nesterov": True, "momentum": 0}}, r"optimizer\..*[Nn]esterov"),
    ],
)
def test_wrong_names_and_values_are_named_with_their_key(section: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        resolve_config(validate_config(section))


def test_defaults_of_the_product_are_right() -> None:
    resolve_config(TrainConfig())
