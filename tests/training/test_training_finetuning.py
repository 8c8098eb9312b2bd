"""Fine-tuning: layers that learn at shares of the head's rate, and a backbone that stands still at first."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm.optim
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from medsharp.config import TrainConfig
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.networks import Classifier, create_network
from training import check_config, train
from training.finetuning import Backbone, learning_rate_shares
from training.losses import Objective
from training.schedule import Schedule, rate_factor
from training.settings import make_optimizer

Configure = Callable[..., TrainConfig]
Values = dict[str, Tensor]
NETWORKS = ["resnet10_w16", "tf_efficientnet_lite0", "convnext_atto", "vit_tiny_patch16_224"]


def make_network(name: str, **options: Any) -> Classifier:
    torch.manual_seed(0)
    return create_network(name, num_classes=2, image_size=32, **options)


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_and_decay_are_those_of_timm(name: str, configure: Configure) -> None:
    network = make_network(name)
    expected = {}
    spared = getattr(network.backbone, "no_weight_decay", set)()
    options = {"weight_decay": 0.3, "layer_decay": 0.7, "no_weight_decay_list": spared}
    names = {parameter: key for key, parameter in network.named_parameters()}
    for group in timm.optim.param_groups_layer_decay(network.backbone, **options):
        for parameter in group["params"]:
            expected[names[parameter]] = (group["lr_scale"], group["weight_decay"])
    section = {"lr": 0.01, "weight_decay": 0.3, "layer_decay": 0.7, "backbone_lr_ratio": 0.2}
    config = configure(network={"name": name}, optimizer=section)
    optimizer = make_optimizer(config, network, data_size=1, shares=learning_rate_shares(network, config))
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            found[names[parameter]] = (group["lr_scale"], group["weight_decay"])
            assert group["lr"] == 0.01 * group["lr_scale"]
    assert found.keys() == expected.keys()
    for key, (share, decay) in found.items():
        ratio = 1.0 if network.is_head(key) else 0.2
        assert (share, decay) == (pytest.approx(expected[key][0] * ratio), expected[key][1]), key
    heads = {key for key in found if network.is_head(key)}
    assert {found[key][0] for key in heads} == {1.0}
    assert min(share for share, _ in found.values()) < 0.2 * 0.7**3


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "crossvit_tiny_240"])
def test_heads_of_several_classifiers_learn_at_the_whole_rate(name: str, configure: Configure) -> None:
    size = {"crossvit_tiny_240": 240}.get(name, 32)
    network = create_network(name, num_classes=2, image_size=size)
    shares = learning_rate_shares(network, configure(optimizer={"backbone_lr_ratio": 0.1}))
    whole = {key for key, parameter in network.named_parameters() if parameter not in shares}
    assert len(whole) == 4
    assert all(key.startswith("backbone.head") for key in whole)
    assert set(shares.values()) == {0.1}


def test_without_shares_the_groups_are_those_of_before(configure: Configure) -> None:
    network = make_network("resnet10_w16")
    config = configure(optimizer={"lr": 0.01})
    optimizer = make_optimizer(config, network, data_size=1, shares=learning_rate_shares(network, config))
    names = [group["param_names"] for group in optimizer.param_groups]
    decayed = [key for key, parameter in network.named_parameters() if parameter.ndim > 1]
    assert names == [decayed, [key for key, _ in network.named_parameters() if key not in decayed]]


# One step of each method, by its paper, with one norm over all parameters that learn.

RHO, ETA, GAMMA, ALPHA, DECAY, RATE = 0.3, 0.01, 0.8, 0.5, 0.1, 0.05
SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "sam": {"rho": RHO},
    "asam": {"rho": RHO, "eta": ETA},
    "wsam": {"rho": RHO, "gamma": GAMMA},
    "gsam": {"rho": RHO, "alpha": ALPHA},
    "looksam": {"rho": RHO, "alpha": ALPHA, "k": 2},
}


def dot(a: Values, b: Values) -> float:
    return float(sum((a[key] * b[key]).sum() for key in a))


def length(a: Values) -> float:
    return dot(a, a) ** 0.5


def gradients(objective: Objective, at: Values, batch: Values) -> Values:
    """Of what learns, at other weights; statistics of batch norm are left alone."""
    other = copy.deepcopy(objective)
    params = dict(other.named_parameters())
    with torch.no_grad():
        for key, value in at.items():
            params[key].copy_(value)
    other(batch).mean().backward()
    return {key: params[key].grad for key in at}  # type: ignore[misc]


def applied(method: str, w: Values, gradient: Callable[[Values], Values], number: int, memory: Values) -> Values:
    """What is multiplied with the learning rate, weight decay apart."""
    g = gradient(w)
    if method == "sgd":
        return g
    if method == "looksam" and number % 2:
        return {key: g[key] + ALPHA * length(g) * memory[key] for key in w}
    scale = {key: w[key].abs() + ETA if method == "asam" and "weight" in key else torch.ones_like(w[key]) for key in w}
    size = length({key: scale[key] * g[key] for key in w})
    up = gradient({key: w[key] + RHO * scale[key] ** 2 * g[key] / size for key in w})
    share = dot(g, up) / dot(up, up)
    if method == "wsam":
        return {key: g[key] + GAMMA / (1 - GAMMA) * (up[key] - g[key]) for key in w}
    if method == "gsam":
        return {key: up[key] - ALPHA * (g[key] - share * up[key]) for key in w}
    if method == "looksam":
        share = dot(g, up) / dot(g, g)
        orthogonal = {key: up[key] - share * g[key] for key in w}
        memory.update({key: value / length(orthogonal) for key, value in orthogonal.items()})
    return up


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("method", SETTINGS)
def test_step_is_that_of_the_formula_with_one_norm_over_all_that_learns(
    method: str, frozen: bool, configure: Configure
) -> None:
    section = {"name": method, "base": "sgd", "lr": RATE, "weight_decay": DECAY, **SETTINGS[method]}
    shares = {"backbone_lr_ratio": 0.5, "layer_decay": 0.6}
    config = configure(
        optimizer={**section, **shares, "sgd": {"momentum": 0.0}},
        schedule={"warmup_epochs": 0, "epochs": 2, "frozen_epochs": 1},
        loss={"mask_weight": 0.7},
        run={"clip_grad_norm": None},
    )
    network = make_network("resnet10_w16")
    objective = Objective(network, config.loss, torch.tensor([5.0, 2.0])).double().train()
    backbone = Backbone(network)
    by_parameter = learning_rate_shares(network, config)
    optimizer = make_optimizer(config, objective, data_size=6, shares=by_parameter)
    schedule = Schedule(optimizer, RATE, SETTINGS[method].get("rho"), config.schedule, 4)
    backbone.freeze(frozen)
    before = copy.deepcopy(objective.state_dict())
    generator = torch.Generator().manual_seed(1)
    named = dict(objective.named_parameters())
    learning = [key for key in named if not frozen or network.is_head(key.removeprefix("network.")) or "lesion" in key]
    assert len(learning) == (4 if frozen else len(named))
    memory: Values = {}
    for number in range(2):
        batch = {
            "image": torch.randint(0, 256, (6, 1, 32, 32), generator=generator, dtype=torch.uint8),
            "label": torch.tensor([0, 1, 1, 0, 0, 1]),
            "mask": (torch.rand((6, 1, 32, 32), generator=generator) > 0.5).double(),
            "has_mask": torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 1.0]),
        }
        start = {key: named[key].detach().clone() for key in learning}
        same = {key: value.clone() for key, value in start.items()}
        direction = applied(method, same, lambda at, batch=batch: gradients(objective, at, batch), number, memory)

        def closure(batch: Values = batch) -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            loss = objective(batch).mean()
            loss.backward()
            return loss.detach()

        schedule.set(number)
        optimizer.step(closure, batch_size=6)
        rate = RATE * rate_factor(number, 4, config.schedule)
        for key in learning:
            decay = DECAY * start[key] if start[key].ndim > 1 else 0.0
            share = by_parameter.get(named[key], 1.0)
            expected = start[key] - rate * share * (direction[key] + decay)
            torch.testing.assert_close(named[key].detach(), expected, rtol=1e-9, atol=1e-12, msg=key)
    assert len({by_parameter.get(parameter, 1.0) for parameter in named.values()}) > 4
    assert optimizer.skipped == 0
    if frozen:
        after = objective.state_dict()
        assert {key for key in before if not torch.equal(before[key], after[key])} == set(learning)
        assert all(optimizer.state.get(named[key], {}) == {} for key in named if key not in learning)


def test_groups_follow_the_schedule_at_their_shares_and_rho_the_head(configure: Configure) -> None:
    config = configure(
        optimizer={"name": "gsam", "lr": 0.1, "rho": 0.4, "backbone_lr_ratio": 0.3, "layer_decay": 0.5},
        schedule={"epochs": 5, "warmup_epochs": 1, "final_lr_ratio": 0.1, "rho": "lr", "final_rho_ratio": 0.5},
    )
    network = make_network("resnet10_w16")
    optimizer = make_optimizer(config, network, data_size=6, shares=learning_rate_shares(network, config))
    schedule = Schedule(optimizer, 0.1, 0.4, config.schedule, 4)
    for step in range(20):
        schedule.set(step)
        factor = rate_factor(step, 4, config.schedule)
        for group in optimizer.param_groups:
            assert group["lr"] == pytest.approx(0.1 * factor * group["lr_scale"])
            assert group["rho"] == pytest.approx(0.4 * (0.5 + 0.5 * (factor - 0.1) / 0.9))
        now = schedule.now()
        assert now["lr"] == pytest.approx(0.1 * factor)


@pytest.mark.parametrize("method", ["adamw", "sam", "asam", "wsam", "gsam", "looksam", "msam", "vasso", "bayesiansam"])
@pytest.mark.parametrize("average", [None, 0.9])
def test_run_that_stays_frozen_leaves_the_backbone_as_it_came(
    method: str, average: float | None, squares: Manifest, configure: Configure, tmp_path: Path
) -> None:
    start = make_network("resnet10_w16")
    save_file(start.state_dict(), tmp_path / "start.safetensors")
    config = configure(
        network={"checkpoint": str(tmp_path / "start.safetensors"), "drop_path_rate": 0.2},
        optimizer={"name": method, "weight_decay": 1.0},
        schedule={"epochs": 2, "frozen_epochs": 2, "keep": "last"},
        loss={"mask_weight": 0.5},
        run={"ema_decay": average},
    )
    run = train(config, squares, out=tmp_path / "run")
    before, after = start.state_dict(), load_file(run.folder / "checkpoints/last.safetensors")
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved == {"backbone.fc.weight", "backbone.fc.bias"}
    kept = torch.load(run.folder / "checkpoints/last.pt", weights_only=True)
    places = [number for group in kept["optimizer"]["param_groups"] for number in group["params"]]
    assert len(places) == 2 + len(list(start.parameters()))  # with the lesion's, and with what has yet to learn
    assert len(kept["optimizer"]["state"]) == 4


def test_backbone_learns_from_the_epoch_in_which_it_thaws(
    squares: Manifest, configure: Configure, tmp_path: Path
) -> None:
    start = make_network("resnet10_w16")
    save_file(start.state_dict(), tmp_path / "start.safetensors")
    weights: list[Values] = []

    def look(event: dict[str, Any]) -> None:
        if event["kind"] == "epoch":
            weights.append(load_file(tmp_path / "run/checkpoints/last.safetensors"))

    config = configure(
        network={"checkpoint": str(tmp_path / "start.safetensors")}, schedule={"epochs": 3, "frozen_epochs": 2}
    )
    train(config, squares, out=tmp_path / "run", events=look)
    keys = ["backbone.conv1.weight", "backbone.bn1.weight", "backbone.bn1.running_mean"]
    for key in keys:
        first = start.state_dict()[key]
        assert [torch.equal(first, each[key]) for each in weights] == [True, True, False], key


@pytest.mark.parametrize("name", NETWORKS)
def test_frozen_layers_are_in_eval_mode_and_dropout_before_the_head_goes_on(name: str) -> None:
    network = make_network(name, drop_rate=0.5, drop_path_rate=0.5).train()
    backbone = Backbone(network)
    images = torch.randint(0, 256, (4, 1, 32, 32), dtype=torch.uint8)
    before = {key: value.clone() for key, value in network.named_buffers()}
    backbone.freeze(True)
    assert torch.equal(network.forward_features(images), network.forward_features(images))  # type: ignore[arg-type]
    assert not torch.equal(network(images), network(images))
    assert all(torch.equal(before[key], value) for key, value in network.named_buffers())
    assert {key for key, parameter in network.named_parameters() if parameter.requires_grad} == {
        key for key, _ in network.named_parameters() if network.is_head(key)
    }
    network.train()
    backbone.freeze(False)
    assert all(layer.training for layer in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_what_never_learns_is_not_thawed() -> None:
    network = make_network("resnet10_w16")
    network.backbone.bn1.weight.requires_grad_(False)
    backbone = Backbone(network)
    backbone.freeze(True)
    backbone.freeze(False)
    fixed = [key for key, parameter in network.named_parameters() if not parameter.requires_grad]
    assert fixed == ["backbone.bn1.weight"]


def test_layers_that_timm_does_not_know_are_refused(squares: Manifest, configure: Configure, tmp_path: Path) -> None:
    config = configure(network={"name": "pit_ti_224"}, optimizer={"layer_decay": 0.75})
    with pytest.raises(InputError, match=r"optimizer\.layer_decay = 0\.75: timm knows no layers of network pit_ti_224"):
        train(config, squares, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="timm knows no layers of network pit_ti_224"):
        check_config(config)  # before there are data


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"optimizer": {"backbone_lr_ratio": 0}}, r"optimizer\.backbone_lr_ratio = 0"),
        ({"optimizer": {"layer_decay": 1.5}}, r"optimizer\.layer_decay = 1\.5"),
        ({"schedule": {"frozen_epochs": 4}}, r"schedule: frozen_epochs 4 is more than epochs 3"),
        ({"schedule": {"keep": "first"}}, r"schedule\.keep"),
    ],
)
def test_settings_out_of_range_are_named(section: dict[str, Any], sentence: str, configure: Configure) -> None:
    with pytest.raises(InputError, match=sentence):
        configure(**section)
