"""What goes wrong silently when it is overlooked: shared memory, caches, copies, names, and steps that do nothing."""

from __future__ import annotations

import copy
import pickle
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from small import FAST, METHODS, batch, create, perceptron
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from medsharp.optim import GSAM, SAM, RhoScheduler, create_optimizer, optimizer_info


def closure_of(model: nn.Module, optimizer: Any, x: Tensor, y: Tensor, **clear: bool) -> Any:
    def closure() -> Tensor:
        optimizer.zero_grad(**clear)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return closure


def made(name: str, model: Any, **options: Any) -> Any:
    return create(name, model, **{"lr": 0.1, "base": "sgd", "rho": 0.5, **FAST.get(name, {}), **options})


@pytest.mark.parametrize("name", ["sam", "looksam", "adamw"])
def test_a_checkpoint_without_state_brings_its_groups(name: str) -> None:
    saved = create(name, perceptron(), lr=0.05, **({} if name == "adamw" else {"rho": 0.2}))
    optimizer: Any = create(name, perceptron(), lr=0.9)
    optimizer.load_state_dict(copy.deepcopy(saved.state_dict()))
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert optimizer.param_groups[0].get("rho") == saved.param_groups[0].get("rho")
    if name != "adamw":
        assert optimizer.base.param_groups is optimizer.param_groups


def trained_weight(name: str, buffer: Tensor | None) -> nn.Parameter:
    """Train one weight, whose gradient is a view of all of the buffer, if there is one."""
    weight = nn.Parameter(torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4))
    if buffer is not None:
        weight.grad = buffer.view(3, 4)
    optimizer = made(name, [weight], rho=0.1)
    for step in range(4):
        x = batch(step)[0]

        def closure(x: Tensor = x) -> Tensor:
            optimizer.zero_grad() if buffer is None else buffer.zero_()
            loss = (x @ weight.t()).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
    return weight


@pytest.mark.parametrize("name", METHODS)
def test_a_gradient_that_is_a_view_of_all_of_a_buffer_stays_one(name: str) -> None:
    buffer = torch.zeros(12, dtype=torch.float64)
    weight = trained_weight(name, buffer)
    assert weight.grad is not None
    assert weight.grad.data_ptr() == buffer.data_ptr()
    torch.testing.assert_close(weight, trained_weight(name, None), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_parameters_in_one_memory_are_restored(name: str) -> None:
    torch.manual_seed(0)
    memory = torch.randn(4, 4)
    first, second = nn.Parameter(memory), nn.Parameter(memory)
    assert first.data_ptr() == second.data_ptr()
    optimizer = made(name, [first, second])
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before, x = memory.clone(), torch.randn(5, 4)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (torch.tanh(x @ first) @ second.t()).square().sum()
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)
    assert torch.equal(memory, before)


def test_a_copy_of_an_optimizer_with_a_schedule_steps_by_itself() -> None:
    model = perceptron()
    optimizer = made("sam", model)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    optimizer.register_step_pre_hook(lambda *arguments: None)
    before = copy.deepcopy(model.state_dict())
    other, stepping = copy.deepcopy((model, optimizer))
    unpickled, loaded = pickle.loads(pickle.dumps((model, optimizer)))
    for moved, by in ((other, stepping), (unpickled, loaded)):
        by.step(closure_of(moved, by, *batch()))
        assert not torch.equal(moved[0].weight, before["0.weight"])
    assert torch.equal(model[0].weight, before["0.weight"])
    optimizer.step(closure_of(model, optimizer, *batch()))
    assert torch.equal(model[0].weight, other[0].weight)


def losses_under_autocast(name: str, outside: bool) -> list[float]:
    model = perceptron(torch.float32)
    optimizer = made(name, model, rho=1.0)
    x, y = batch(size=64, dtype=torch.float32)
    losses: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(x).float(), y)
        losses.append(float(loss.detach()))
        loss.backward()
        return loss

    with torch.autocast("cpu", torch.bfloat16, enabled=outside):
        optimizer.step(closure)
    return losses


@pytest.mark.parametrize("name", ["sam", "gam", "eigensam"])
def test_autocast_around_the_step_is_as_inside_of_it(name: str) -> None:
    losses = losses_under_autocast(name, outside=True)
    assert losses == pytest.approx(losses_under_autocast(name, outside=False))
    assert len(set(losses)) > 1


@pytest.mark.parametrize("base", ["sgd", "adamw"])
@pytest.mark.parametrize("name", METHODS)
def test_a_loss_without_gradients_is_a_step_that_does_nothing(name: str, base: str) -> None:
    model = perceptron()
    optimizer = made(name, model, base=base)
    for _ in range(3):
        assert float(optimizer.step(lambda: torch.tensor(1.0))) == 1.0
    for one, other in zip(model.parameters(), perceptron().parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", METHODS)
def test_a_gradient_of_zero_in_float16_moves_nothing(name: str) -> None:
    weight = nn.Parameter(torch.ones(3, dtype=torch.float16))
    optimizer = made(name, [weight])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (weight.float() * 0).sum()
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)
    assert torch.equal(weight, torch.ones(3, dtype=torch.float16))


@pytest.mark.parametrize(
    ("method", "base", "name"),
    [(SAM, torch.optim.Adadelta, "rho"), (GSAM, torch.optim.RMSprop, "alpha"), (GSAM, torch.optim.ASGD, "alpha")],
)
def test_the_base_keeps_its_own_value_of_a_keyword_that_both_have(method: Any, base: Any, name: str) -> None:
    model, plain = perceptron(), perceptron()
    optimizer, expected = method(model.parameters(), base, lr=0.1, **{name: 0.0}), base(plain.parameters(), lr=0.1)
    for step in range(4):
        # Nothing is climbed, or nothing of it is added: what is left is the base optimizer.
        for group in optimizer.param_groups:
            group["rho"] = 0.0
        optimizer.step(closure_of(model, optimizer, *batch(step)))
        closure_of(plain, expected, *batch(step))()
        expected.step()
    assert optimizer.param_groups[0][name] == 0.0
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "options"), [("esam", {"beta": 0.6}), ("bayesiansam", {}), ("eigensam", {})])
def test_a_skipped_step_draws_nothing_and_makes_no_state(name: str, options: dict[str, Any]) -> None:
    model = perceptron()
    optimizer = made(name, model, **options)
    for step in range(3):
        before = copy.deepcopy(optimizer.state_dict())
        x, y = batch(step)
        optimizer.step(closure_of(model, optimizer, x * float("nan"), y))
        after = optimizer.state_dict()
        assert optimizer.skipped == step + 1
        assert after["state"].keys() == before["state"].keys()
        assert after["generators"].keys() == before["generators"].keys()
        for key, value in after["generators"].items():
            assert torch.equal(value, before["generators"][key])
        optimizer.step(closure_of(model, optimizer, x, y))
    assert optimizer.skipped == 3


def test_an_overflow_in_the_estimate_of_the_eigenvector_lowers_the_scale() -> None:
    model = perceptron(torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    optimizer = made("eigensam", model, scaler=scaler)
    x, y = batch(dtype=torch.float32)
    x = 4 * x  # so that second derivatives are larger than first ones
    finite: list[bool] = []
    before = copy.deepcopy(model.state_dict())

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        finite.extend(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
        return loss

    for _ in range(10):
        optimizer.step(closure)
        scaler.update()
    assert optimizer.skipped > 0
    assert all(finite)  # it was no overflow of a gradient
    assert scaler.get_scale() < 2.0**127
    while optimizer.skipped and torch.equal(model[0].weight, before["0.weight"]):
        optimizer.step(closure)
        scaler.update()
    assert torch.isfinite(model[0].weight).all()


def test_the_eigenvector_is_estimated_in_evaluation_mode_where_a_pass_is_checkpointed() -> None:
    modes: list[bool] = []

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 8)

        def forward(self, x: Tensor) -> Tensor:
            modes.append(self.training)
            return torch.tanh(self.linear(x))

    torch.manual_seed(0)
    first, second = Block().double(), nn.Linear(8, 2).double()
    optimizer = made("eigensam", nn.ModuleList([first, second]))
    x, y = batch()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(second(checkpoint(first, x, use_reentrant=False)), y)
        loss.backward()
        return loss

    optimizer.step(closure)
    # Each pass is computed and computed again: the first and the last in training mode, all between in evaluation mode.
    assert modes[:2] == modes[-2:] == [True, True]
    assert not any(modes[2:-2])
    assert len(modes) > 6


def test_rho_stays_between_its_ends_under_a_schedule_that_rises() -> None:
    optimizer = made("gsam", perceptron(), lr=0.1, rho=0.05)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10)
    radii = RhoScheduler(optimizer, rho_min=0.01)
    seen = []
    for step in range(9):
        optimizer.step(closure_of(perceptron(), optimizer, *batch(step)))
        rates.step()
        radii.step()
        seen.append(optimizer.param_groups[0]["rho"])
    assert 0.01 <= min(seen) < max(seen) <= 0.05
    assert max(seen) == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("keyword", ["foreach", "fused", "amsgrad", "betas", "momentum", "nesterov"])
def test_a_method_with_its_own_step_has_no_use_for_its_bases_keywords(keyword: str) -> None:
    base = "sgd" if keyword in {"momentum", "nesterov"} else "adamw"
    value = (0.5, 0.6) if keyword == "betas" else 0.9 if keyword == "momentum" else True
    optimizer = create("bayesiansam", perceptron(), base=base, **{keyword: value})
    assert optimizer.param_groups[0]["betas"] == ((0.5, 0.6) if keyword == "betas" else (0.9, 0.999))
    with pytest.raises(TypeError, match="maximize"):
        create("bayesiansam", perceptron(), base=base, maximize=True)


def test_a_base_may_know_nothing_of_weight_decay() -> None:
    model = perceptron()
    optimizer = create_optimizer("sam", model, base=torch.optim.Rprop, lr=0.01)
    optimizer.step(closure_of(model, optimizer, *batch()))
    assert not torch.equal(model[0].weight, perceptron()[0].weight)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ([nn.Parameter(torch.ones(2))], {"rho": None}, "rho must be 0 or more, not None"),
        ([nn.Parameter(torch.ones(2))], {"rho": "0.1"}, "rho must be 0 or more, not '0.1'"),
        ([{"params": []}], {}, "no parameters in its groups"),
        (nn.Parameter(torch.ones(2)), {}, r"give \[parameter\]"),
        ([{"params": [nn.Parameter(torch.ones(2))], "rho": -1}], {}, "rho must be 0 or more in every group, not -1"),
    ],
)
def test_what_is_wanted_is_said(arguments: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SAM(arguments, lr=0.1, **options)


def test_an_instance_as_base_is_named_in_one_line() -> None:
    weight = nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match=r"not an instance of SGD$"):
        SAM([weight], torch.optim.SGD([weight]), lr=0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"optimizer class, not \['adamw'\]"):
        create_optimizer("sam", [weight], base=["adamw"])  # type: ignore[arg-type]


def test_distributed_models_are_found_inside_of_others(process_group: None, monkeypatch: pytest.MonkeyPatch) -> None:
    apart: list[int] = []
    whole = DistributedDataParallel.no_sync

    def counted(self: DistributedDataParallel) -> AbstractContextManager[None]:
        apart.append(1)
        return whole(self)

    monkeypatch.setattr(DistributedDataParallel, "no_sync", counted)
    inside = DistributedDataParallel(perceptron())
    two = nn.Sequential(DistributedDataParallel(perceptron()), DistributedDataParallel(nn.Linear(2, 2).double()))
    models: list[Any] = [inside, torch.compile(inside, backend="eager"), nn.Sequential(inside), two]
    for model, parts in zip(models, (1, 1, 1, 2), strict=True):
        apart.clear()
        optimizer = SAM(model.parameters(), model=model, lr=0.1)
        optimizer.step(closure_of(model, optimizer, *batch()))
        assert len(apart) == parts


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("keep", [False, True])
def test_a_gradient_may_fill_a_bucket_by_itself(name: str, keep: bool, process_group: None) -> None:
    ends = []
    for wrapped in (True, False):
        model = perceptron()
        outer: nn.Module = model
        if wrapped:
            smallest: Any = 1e-5
            outer = DistributedDataParallel(model, gradient_as_bucket_view=True, bucket_cap_mb=smallest)
        synchronised = {"sync_perturbation": True} if wrapped and name != "esam" else {}
        optimizer = made(name, outer, **synchronised)
        for step in range(5):
            optimizer.step(closure_of(outer, optimizer, *batch(step), set_to_none=not keep))
        ends.append(torch.cat([p.detach().view(-1) for p in model.parameters()]))
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_a_closure_that_does_not_clear_the_gradients_is_told(name: str, inside: bool) -> None:
    model = perceptron()
    optimizer = made(name, model)
    x, y = batch()

    def closure() -> Tensor:
        if inside and model[0].weight.grad is not None:
            optimizer.zero_grad(set_to_none=False)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    # As of frameworks that accumulate over calls: the batches before have left their gradients.
    F.cross_entropy(model(batch(1)[0]), batch(1)[1]).backward()
    if inside or optimizer_info(name).passes == 1:
        for _ in range(4):
            optimizer.step(closure)
    else:
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(ValueError, match="must clear them in every pass"):
            optimizer.step(closure)
        for key, value in model.state_dict().items():
            assert torch.equal(value, before[key])


TAKEN = {"bayesiansam", "crsam", "fsam", "gsam", "looksam", "msam", "vasso", "wsam", "xsam"}
"""Methods whose later passes find no gradient of an earlier one in `.grad`."""


@pytest.mark.parametrize("name", METHODS)
def test_clearing_before_the_step_is_told_where_it_is_not_enough(name: str) -> None:
    model, plain = perceptron(), perceptron()
    optimizer, expected = made(name, model), made(name, plain)
    x, y = batch()

    def closure() -> Tensor:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    def train() -> None:
        for _ in range(4):
            optimizer.zero_grad()
            optimizer.step(closure)
            expected.step(closure_of(plain, expected, x, y))

    if name not in TAKEN:
        with pytest.raises(ValueError, match="must clear them in every pass"):
            train()
        return
    train()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_gradients_that_a_closure_writes_by_itself_are_no_reason_to_complain() -> None:
    model = perceptron()
    optimizer = made("sam", model)
    x, y = batch()

    def closure() -> Tensor:
        loss = F.cross_entropy(model(x), y)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.data.zero_()
            parameter.grad.copy_(gradient)
        return loss

    for _ in range(3):
        optimizer.step(closure)
    assert optimizer.skipped == 0


def test_autocast_around_everything_leaves_no_perturbed_weights_behind() -> None:
    model = perceptron(torch.float32)
    optimizer = made("sam", model, rho=2.0)
    x, y = batch(size=64, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        optimizer.step(closure_of(model, optimizer, x, y))
        inside = float(F.cross_entropy(model(x).float(), y).detach())
    with torch.autocast("cpu", torch.bfloat16):
        assert float(F.cross_entropy(model(x).float(), y).detach()) == inside


def test_sparse_gradients_are_refused_in_a_sentence() -> None:
    table = nn.Embedding(5, 3, sparse=True)
    before = table.weight.detach().clone()
    optimizer = made("sam", table)
    unnamed = SAM(table.parameters(), lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = table(torch.tensor([1, 2])).square().sum()
        loss.backward()
        return loss

    for chosen, name in ((optimizer, "'weight'"), (unnamed, r"parameter 0, of shape \(5, 3\),")):
        optimizer = chosen
        with pytest.raises(ValueError, match=f"the gradient of {name} is sparse.*sparse=False"):
            chosen.step(closure)
    assert torch.equal(table.weight, before)


@pytest.mark.parametrize("name", ["gsam", "msam", "adamw"])
def test_a_gradient_that_turns_sparse_later_is_refused_by_its_name(name: str) -> None:
    model = nn.ModuleDict({"table": nn.Embedding(5, 3, sparse=True), "head": nn.Linear(3, 1)})
    optimizer = create(name, model, lr=0.1, base="sgd", protocol=True)
    steps: list[int] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        used = len(steps) >= 8
        loss = model["head"](model["table"](torch.tensor([1, 2])) if used else torch.ones(2, 3)).square().sum()
        loss.backward()
        return loss

    for step in range(8):
        optimizer.step(closure)
        steps.append(step)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"the gradient of 'table\.weight' is sparse"):
        optimizer.step(closure)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_state_loaded_into_the_base_optimizer_is_that_of_both() -> None:
    model = perceptron()
    optimizer = made("sam", model, momentum=0.9)
    optimizer.step(closure_of(model, optimizer, *batch()))
    optimizer.base.load_state_dict(copy.deepcopy(optimizer.base.state_dict()))
    optimizer.step(closure_of(model, optimizer, *batch(1)))
    assert optimizer.param_groups is optimizer.base.param_groups
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = model[0].weight.detach().clone()
    optimizer.step(closure_of(model, optimizer, *batch(2)))
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize(("name", "options"), [("sam", {}), ("esam", {"beta": 0.6}), ("bayesiansam", {})])
def test_an_exception_in_a_pass_leaves_everything_as_it_was(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)).double()
    optimizer = made(name, model, **options)
    x, y = batch()
    for bad_pass in (1, 2):
        passes: list[int] = []

        def closure(passes: list[int] = passes, bad_pass: int = bad_pass) -> Tensor:
            passes.append(0)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            if len(passes) == bad_pass:
                raise KeyboardInterrupt
            loss.backward()
            return loss

        weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
        with pytest.raises(KeyboardInterrupt):
            optimizer.step(closure)
        for key, value in model.state_dict().items():
            assert torch.equal(value, weights[key]), key
        after = optimizer.state_dict()
        assert after["state"].keys() == state["state"].keys()
        for key, value in after["generators"].items():
            assert torch.equal(value, state["generators"][key])
        optimizer.step(closure_of(model, optimizer, x, y))


def test_rho_of_a_group_that_is_added_later_follows_too() -> None:
    model = perceptron()
    optimizer = made("gsam", model[0].parameters(), rho=0.2)
    rates = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=4)
    radii = RhoScheduler(optimizer)
    optimizer.add_param_group({"params": list(model[2].parameters()), "rho": 0.4, "initial_lr": 0.1})
    rates.base_lrs.append(0.1)
    optimizer.step(closure_of(model, optimizer, *batch()))
    rates.step()
    radii.step()
    assert [group["rho"] for group in optimizer.param_groups] == pytest.approx([0.15, 0.3])


@pytest.mark.parametrize(("rate", "rho"), [(0.2, 0.05), (0.1, 0.05), (0.075, 0.03), (0.05, 0.01), (0.01, 0.01)])
def test_rho_ends_where_the_learning_rate_leaves_its_ends(rate: float, rho: float) -> None:
    optimizer = made("gsam", perceptron(), rho=0.05)
    radii = RhoScheduler(optimizer, rho_min=0.01, lr_min=0.05, lr_max=0.1)
    optimizer.param_groups[0]["lr"] = rate
    radii.step()
    assert optimizer.param_groups[0]["rho"] == pytest.approx(rho)
