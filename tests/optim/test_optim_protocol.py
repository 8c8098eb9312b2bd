"""What holds for every sharpness-aware optimizer, whatever its equations."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from small import METHODS, closure_of, create, perceptron
from torch import Tensor, nn

from medsharp.optim import SAM, WSAM, SharpnessAware, create_optimizer, list_optimizers, optimizer_info

AT_THE_WEIGHTS = [name for name in METHODS if name != "bayesiansam"]
"""Those whose first pass is at the weights; that of Bayesian SAM is at a sample around them."""


def network(seed: int = 0, momentum: float | None = 0.1) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8, momentum=momentum), nn.Tanh(), nn.Linear(8, 2))


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(16, 4, generator=generator), torch.randint(2, (16,), generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", METHODS)
def test_restores_weights_exactly_after_ascent(name: str, dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).to(dtype)
    # With rate (almost) zero the step itself moves nothing, so that only the ascent could.
    optimizer = create(name, model, lr=1e-45, base="sgd", rho=0.5)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    x, y = batch()
    before = [p.detach().clone() for p in model.parameters()]
    places = [p.data_ptr() for p in model.parameters()]
    optimizer.step(closure_of(model, optimizer, x.to(dtype), y))
    for old, new in zip(before, model.parameters(), strict=True):
        assert torch.equal(old, new)
    assert places == [p.data_ptr() for p in model.parameters()]


@pytest.mark.parametrize("name", METHODS)
def test_restores_a_parameter_that_has_a_gradient_in_one_pass_only(name: str) -> None:
    model = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    optimizer = create(name, model, lr=0.1, base="sgd", rho=0.5)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = copy.deepcopy(model.state_dict())
    passes: list[int] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        passes.append(0)
        loss = model[0](torch.ones(2, 3)).square().sum()
        if len(passes) == 1:
            loss = loss + model[1](torch.ones(2, 3)).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert passes
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("name", AT_THE_WEIGHTS)
def test_batch_norm_statistics_are_those_of_the_first_pass(name: str, momentum: float | None) -> None:
    model, alone = network(momentum=momentum), network(momentum=momentum)
    optimizer = create(name, model, lr=0.1, rho=0.5)
    x, y = batch()
    alone(x)
    optimizer.step(closure_of(model, optimizer, x, y))
    for key in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(getattr(model[1], key), getattr(alone[1], key))
    assert model[1].track_running_stats


@pytest.mark.parametrize("name", AT_THE_WEIGHTS)
def test_returns_the_loss_at_the_unperturbed_weights(name: str) -> None:
    model = network()
    optimizer = create(name, model, lr=0.1, rho=0.5)
    x, y = batch()
    expected = F.cross_entropy(copy.deepcopy(model)(x), y)
    assert torch.equal(optimizer.step(closure_of(model, optimizer, x, y)), expected)


@pytest.mark.parametrize("name", METHODS)
def test_takes_as_many_passes_as_the_catalogue_says(name: str) -> None:
    model = network()
    optimizer = create(name, model, lr=0.1)
    passes: list[int] = []

    def closure() -> Tensor:
        passes.append(0)
        return closure_of(model, optimizer, *batch())()

    # In 100 steps, Eigen-SAM's estimate counts ten passes more, of which the closure sees one, and XSAM's search about
    # seven, which are 21 calls of the closure that do not go backward.
    rare = {"eigensam": (100, 201), "xsam": (100, 221)}
    steps, expected = rare.get(name, (5, round(5 * optimizer_info(name).passes)))
    for _ in range(steps):
        optimizer.step(closure)
    assert len(passes) == expected


PASSES = {"msam": 1, "crsam": 3, "gam": 4}
"""Of a step; two of all others, LookSAM with k = 1."""


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize(("name", "bad_pass"), [(n, i + 1) for n in METHODS for i in range(PASSES.get(n, 2))])
def test_a_pass_that_is_not_finite_changes_nothing_and_is_counted(name: str, bad_pass: int, where: str) -> None:
    model = network()
    options = {"k": 1} if name == "looksam" else {}
    optimizer = create(name, model, lr=0.1, **options)
    x, y = batch()
    optimizer.step(closure_of(model, optimizer, x, y))
    before, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    passes: list[int] = []

    def closure() -> Tensor:
        passes.append(0)
        bad = len(passes) == bad_pass
        loss = closure_of(model, optimizer, x * float("nan") if bad and where == "loss" else x, y)()
        if bad and where == "gradient":
            model[3].weight.grad[0, 0] = float("inf")  # type: ignore[index, union-attr]
        return loss

    optimizer.step(closure)
    assert len(passes) >= bad_pass
    assert isinstance(optimizer, SharpnessAware)
    assert optimizer.skipped == 1
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
    after = optimizer.state_dict()
    assert after["numbers"] == state["numbers"]
    for part in ("state", "memory"):
        assert after[part].keys() == state[part].keys()
        for key, entries in after[part].items():
            assert entries.keys() == state[part][key].keys()
            assert all(torch.equal(value, state[part][key][entry]) for entry, value in entries.items())


def test_too_many_skipped_steps_in_a_row_raise() -> None:
    model = network()
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.1, max_skipped=2)
    x, y = batch()
    closure = closure_of(model, optimizer, x * float("inf"), y)
    optimizer.step(closure)
    with pytest.raises(FloatingPointError, match="2 steps in a row"):
        optimizer.step(closure)


def test_a_step_between_skipped_ones_begins_the_count_again() -> None:
    model = network()
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.1, max_skipped=2, model=model)
    x, y = batch()
    for factor in (float("inf"), 1.0, float("inf"), 1.0):
        optimizer.step(closure_of(model, optimizer, x * factor, y))
    assert optimizer.skipped == 2


def test_the_norm_of_half_precision_gradients_is_not_rounded_to_half_precision() -> None:
    half, single = nn.Parameter(torch.zeros(3037, dtype=torch.bfloat16)), nn.Parameter(torch.zeros(1))
    optimizer = SAM([half, single], torch.optim.SGD, lr=0.1, rho=1.0)
    climbed: list[float] = []

    def closure() -> Tensor:
        climbed.append(float(single.detach()))
        half.grad, single.grad = torch.ones_like(half), torch.ones_like(single)
        return torch.zeros(())

    optimizer.step(closure)
    assert climbed == [0.0, pytest.approx(3038**-0.5, rel=1e-5)]


@pytest.mark.parametrize("base", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("name", METHODS)
def test_resumed_from_a_checkpoint_reaches_the_same_weights(name: str, base: str) -> None:
    def run(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            optimizer.step(closure_of(model, optimizer, *batch(step)))

    whole = network()
    optimizer = create(name, whole, lr=0.05, base=base)
    run(whole, optimizer, range(3))
    stream = io.BytesIO()
    torch.save({"model": whole.state_dict(), "optimizer": optimizer.state_dict()}, stream)
    run(whole, optimizer, range(3, 6))

    stream.seek(0)
    saved = torch.load(stream, weights_only=True)
    resumed = network(seed=1)
    resumed.load_state_dict(saved["model"])
    optimizer = create(name, resumed, lr=0.9, base=base)
    optimizer.load_state_dict(saved["optimizer"])
    run(resumed, optimizer, range(3, 6))
    for key, value in resumed.state_dict().items():
        assert torch.equal(value, whole.state_dict()[key]), key


@pytest.mark.parametrize("name", METHODS)
def test_learning_rate_schedule_reaches_the_base_without_a_warning(name: str) -> None:
    model = network()
    optimizer = create(name, model, lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    optimizer.step(closure_of(model, optimizer, *batch()))
    schedule.step()
    assert isinstance(optimizer, SharpnessAware)
    assert [group["lr"] for group in optimizer.base.param_groups] == [0.05] * len(optimizer.param_groups)


@pytest.mark.parametrize("decouple", [True, False])
def test_clipping_bounds_what_is_applied_and_keeps_its_direction(decouple: bool) -> None:
    moves = []
    for limit in (None, 1e-3):
        model = nn.Linear(4, 2)
        model.load_state_dict({"weight": torch.ones(2, 4) / 3, "bias": torch.zeros(2)})
        optimizer = create_optimizer(
            "wsam", model, base="sgd", lr=1.0, momentum=0.0, rho=0.5, decouple=decouple, max_grad_norm=limit
        )
        before = model.weight.detach().clone()
        optimizer.step(closure_of(model, optimizer, *batch()))
        moves.append(torch.cat([(model.weight.detach() - before).flatten(), model.bias.detach()]))
    free, clipped = moves
    assert float(clipped.norm()) == pytest.approx(1e-3, rel=2e-2)
    assert float(F.cosine_similarity(free, clipped, dim=0)) == pytest.approx(1, abs=1e-3)


def test_replayed_noise_is_the_same_in_both_passes() -> None:
    model = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), nn.Linear(64, 2))
    optimizer = create_optimizer("sam", model, lr=0.1, rho=0.0, replay_rng=True)
    losses = []
    x, y = batch()

    def closure() -> Tensor:
        losses.append(closure_of(model, optimizer, x, y)())
        return losses[-1]

    optimizer.step(closure)
    assert torch.equal(*losses)


@pytest.mark.parametrize("name", METHODS)
def test_reaches_the_minimum_of_a_convex_problem(name: str) -> None:
    target = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    scales = torch.tensor([1.0, 3.0, 0.3], dtype=torch.float64)
    w = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = create(name, [w], base="sgd", momentum=0.5, lr=0.05, rho=1e-3)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (scales * (w - target) ** 2).sum()
        loss.backward()
        return loss

    for _ in range(600):
        optimizer.step(closure)
    torch.testing.assert_close(w.detach(), target, rtol=0, atol=2e-2)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("sam", {"rho": -1}, "rho must be 0 or more"),
        ("wsam", {"gamma": 1.0}, "gamma must be at least 0 and less than 1"),
        ("wsam", {"base": "adamm"}, "unknown optimizer 'adamm'; did you mean adam"),
        ("wsma", {}, "unknown optimizer 'wsma'; did you mean wsam"),
        ("sam", {"base": "wsam"}, "base must be a plain optimizer"),
        ("sam", {"lr": 0.0}, "lr must be more than 0"),
    ],
)
def test_wrong_settings_are_a_sentence(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        create(name, nn.Linear(2, 2), **{"lr": 0.1, **options})


@pytest.mark.parametrize("decouple", [False, True])
def test_a_wrong_gamma_in_a_later_group_moves_no_group(decouple: bool) -> None:
    model = perceptron()
    groups = [{"params": [*model[0].parameters()]}, {"params": [*model[2].parameters()]}]
    optimizer = WSAM(groups, lr=0.1, gamma=0.5, decouple=decouple)
    optimizer.param_groups[1]["gamma"] = 1.0
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"gamma must be at least 0 and less than 1, not 1\.0"):
        optimizer.step(closure_of(model, optimizer, *batch()))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with pytest.raises(ValueError, match=r"gamma must be at least 0 and less than 1, not 2"):
        WSAM([groups[0], {**groups[1], "gamma": 2}], lr=0.1)


def test_wrong_values_in_a_group_are_a_sentence() -> None:
    model = nn.Linear(4, 2)
    for method in (SAM, WSAM):
        optimizer: torch.optim.Optimizer = method(model.parameters(), lr=0.1)
        optimizer.param_groups[0]["rho"] = -0.1
        with pytest.raises(ValueError, match=r"rho must be 0 or more in every group, not -0\.1"):
            optimizer.step(closure_of(model, optimizer, *batch()))
    for decouple in (True, False):
        with pytest.raises(ValueError, match="gamma must be at least 0 and less than 1"):
            WSAM([{"params": list(model.parameters()), "gamma": 1.0}], lr=0.1, decouple=decouple)


def test_missing_closure_and_empty_parameters_are_a_sentence() -> None:
    with pytest.raises(ValueError, match="takes parameters"):
        SAM(nn.Linear(2, 2), lr=0.1)
    with pytest.raises(ValueError, match="needs a closure"):
        SAM(nn.Linear(2, 2).parameters(), lr=0.1).step()
    with pytest.raises(ValueError, match="empty parameter list"):
        SAM([], lr=0.1)
    model = nn.Linear(2, 2)
    optimizer = SAM(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="must return the loss"):
        optimizer.step(lambda: model(torch.ones(1, 2)).sum().backward())
    assert float(optimizer.step(lambda: 0.25)) == 0.25  # type: ignore[arg-type, return-value]


def test_biases_and_norms_are_decayed_as_torch_does_unless_asked_not_to() -> None:
    everything = create_optimizer("adamw", network(), lr=0.1, weight_decay=0.3).param_groups
    assert [group["weight_decay"] for group in everything] == [0.3]
    groups = create_optimizer("adamw", network(), lr=0.1, weight_decay=0.3, decay_norm_and_bias=False).param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert all(p.ndim > 1 for p in groups[0]["params"])


@pytest.mark.parametrize("name", list_optimizers())
def test_every_optimizer_can_be_told_the_model(name: str) -> None:
    model = network()
    optimizer = create(name, model.parameters(), model=model, base="sgd", lr=0.1)
    optimizer.step(closure_of(model, optimizer, *batch()))


@pytest.mark.parametrize("dtypes", [(torch.bfloat16, torch.float64), (torch.float64, torch.float32)])
@pytest.mark.parametrize("name", METHODS)
def test_parameters_may_differ_in_precision(name: str, dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(4, 8).to(dtypes[0]), nn.Linear(8, 2).to(dtypes[1])
    optimizer: Any = create(name, nn.ModuleList([first, second]), lr=0.01)
    x, y = batch()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(second(first(x.to(dtypes[0])).to(dtypes[1])), y)
        loss.backward()
        return loss

    losses = [float(optimizer.step(closure)) for _ in range(20)]
    assert optimizer.skipped == 0
    assert losses[-1] < losses[0]
