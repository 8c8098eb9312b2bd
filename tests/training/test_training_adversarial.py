"""Attacks stay within their bound, get worse with it, and are right where the answer is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from medsharp.config import TrainConfig
from medsharp.data.manifest import Manifest, write_manifest
from medsharp.errors import InputError
from training.adversarial import ATTACKS, Attack, attack
from training.checkpoint import save_weights

SIDE = 16


class Linear(nn.Module):
    """Logits (0, w x): the worst change within a bound is known."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(SIDE * SIDE, generator=torch.Generator().manual_seed(0)) / SIDE**2
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, image: Tensor) -> Tensor:
        margin = image.flatten(1).float() @ self.weight
        return torch.stack([torch.zeros_like(margin), margin], dim=1)


@pytest.fixture
def images() -> Tensor:
    pixels = torch.randint(40, 216, (6, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
    return pixels.to(torch.uint8)


@pytest.fixture
def labels() -> Tensor:
    return torch.tensor([0, 1, 0, 1, 0, 1])


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(2)
    layers = (nn.Flatten(), nn.Linear(SIDE * SIDE, 12), nn.Tanh(), nn.Linear(12, 2))
    network = nn.Sequential(*layers).requires_grad_(False)
    # Grey levels reach 255: unscaled, the hyperbolic tangent would be flat.
    network[1].weight /= 128
    return network


def margin_rise(changed: Tensor, images: Tensor, labels: Tensor, linear: Linear) -> Tensor:
    """How much the margin moved in the harmful direction: up for label 0, down for label 1."""
    rise = linear(changed)[:, 1] - linear(images)[:, 1]
    return torch.where(labels == 0, rise, -rise)


@pytest.mark.parametrize("name", ["FGSM", "PGD"])
def test_on_a_linear_model_the_worst_change_within_the_cube_is_found(name: str, images: Tensor, labels: Tensor) -> None:
    linear = Linear()
    changed = attack(linear, images, labels, Attack(name, "Linf", 3.0, 20))  # type: ignore[arg-type]
    worst = 3.0 * linear.weight.abs().sum()
    torch.testing.assert_close(margin_rise(changed, images, labels, linear), worst.expand(6), rtol=1e-4, atol=1e-5)
    sign = torch.where(labels == 0, 1.0, -1.0)[:, None] * linear.weight.sign()
    torch.testing.assert_close((changed - images).flatten(1), 3.0 * sign, rtol=0, atol=1e-4)


def test_on_a_linear_model_the_worst_change_within_the_ball_is_along_the_gradient(
    images: Tensor, labels: Tensor
) -> None:
    linear = Linear()
    changed = attack(linear, images, labels, Attack("PGD", "L2", 20.0, 40), torch.Generator().manual_seed(0))
    worst = 20.0 * linear.weight.norm()
    torch.testing.assert_close(margin_rise(changed, images, labels, linear), worst.expand(6), rtol=2e-2, atol=0)


@pytest.mark.parametrize("how", ATTACKS, ids=str)
def test_stays_within_epsilon_and_the_range_of_grey_levels(
    how: Attack, images: Tensor, labels: Tensor, network: nn.Module
) -> None:
    images[0, 0, 0] = 0
    images[1, 0, 0] = 255
    changed = attack(network, images, labels, how, torch.Generator().manual_seed(0))
    change = (changed - images).flatten(1)
    size = change.abs().amax(dim=1) if how.norm == "Linf" else change.norm(dim=1)
    assert (size <= how.epsilon * (1 + 1e-4) + 1e-4).all()
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert (change.abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize(("name", "norm"), [("FGSM", "Linf"), ("PGD", "Linf"), ("PGD", "L2")])
def test_a_larger_bound_gives_a_higher_loss(
    name: str, norm: str, images: Tensor, labels: Tensor, network: nn.Module
) -> None:
    scale = 1.0 if norm == "Linf" else SIDE
    losses = []
    for epsilon in (0.0, 0.5, 1.0, 2.0):
        how = Attack(name, norm, epsilon * scale, 10)  # type: ignore[arg-type]
        changed = attack(network, images, labels, how, torch.Generator().manual_seed(0))
        losses.append(float(F.cross_entropy(network(changed), labels)))
    assert all(first < second for first, second in itertools.pairwise(losses)), losses


def test_pgd_is_never_weaker_than_the_clean_image(images: Tensor, labels: Tensor, network: nn.Module) -> None:
    clean = F.cross_entropy(network(images.float()), labels, reduction="none")
    changed = attack(network, images, labels, Attack("PGD", "Linf", 0.25, 1), torch.Generator().manual_seed(3))
    assert (F.cross_entropy(network(changed), labels, reduction="none") >= clean).all()


def test_the_same_generator_gives_the_same_images(images: Tensor, labels: Tensor, network: nn.Module) -> None:
    how = Attack("PGD", "Linf", 2.0, 5)
    one, other = (attack(network, images, labels, how, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, other)


def test_weights_get_no_gradients(images: Tensor, labels: Tensor) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 2))
    attack(network, images, labels, Attack("PGD", "Linf", 1.0, 2))
    assert all(parameter.grad is None for parameter in network.parameters())


def make_run(squares: Manifest, configure: Callable[..., TrainConfig], out: Path, seed: int) -> Path:
    """What training leaves, by hand: an untrained network."""
    from medsharp.config import dump_config
    from medsharp.networks import create_network

    (out / "checkpoints").mkdir(parents=True)
    write_manifest(squares, out)
    config = configure()
    (out / "config.yaml").write_text(dump_config(config))
    torch.manual_seed(seed)
    network = create_network(config.network.name, num_classes=2, image_size=config.data.image_size)
    save_weights(out / "checkpoints" / "best.safetensors", network.state_dict())
    (out / "predictions.csv").write_text("written last\n")
    return out


def test_a_bundle_is_attacked_through_the_run_it_came_from(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    from medsharp.export import export_run
    from medsharp.inference import Predictor
    from medsharp.robustness import measure_robustness
    from medsharp.robustness.corruptions import find_corruptions
    from training.attacked import Adversary

    run, other = (make_run(squares, configure, tmp_path / name, seed) for seed, name in enumerate(("one", "two")))
    export_run(run, tmp_path / "bundle", sensitivity=0.5)
    predictor = Predictor.load(tmp_path / "bundle", device="cpu", threads=1)
    attacks = (Attack("FGSM", "Linf", 1.0, 1), Attack("PGD", "Linf", 16.0, 4))
    chosen = find_corruptions(["gain_up"])
    content, _ = measure_robustness(
        [predictor], [run], chosen, tmp_path / "out", resamples=100, adversary=Adversary(run, attacks)
    )
    model = content["datasets"][0]["models"][0]
    weak, strong = model["adversarial"]
    assert (weak["attack"], weak["norm"], weak["epsilon"], weak["steps"]) == ("FGSM", "Linf", 1.0, 1)
    brier = [part["brier"]["value"] for part in (model["clean"], weak["figures"], strong["figures"])]
    assert brier[0] < brier[1] < brier[2]
    with pytest.raises(InputError, match="was not exported from"):
        measure_robustness(
            [predictor], [run], chosen, tmp_path / "again", resamples=100, adversary=Adversary(other, attacks)
        )
