"""What would train wrongly without a word: a sentence says what is wrong, and nothing has moved."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from small import FAST, METHODS, batch, closure_of, create, perceptron
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from two_processes import Weights, weights_of_two

from medsharp.optim import GSAM, SAM, ClosureOptimizer, OnePass
from medsharp.optim.workers import Workers


def assert_refused(model: nn.Module, optimizer: ClosureOptimizer, closure: Any, words: str) -> None:
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=words):
        optimizer.step(closure)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


# What a closure returns


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda loss, logits: (loss, logits), "the loss by itself, a tensor or a number, not a tuple"),
        (lambda loss, logits: [loss, loss], "not a list"),
        (lambda loss, logits: {"loss": loss}, "not a dict"),
        (lambda loss, logits: SimpleNamespace(loss=loss), "not a SimpleNamespace"),
        (lambda loss, logits: "0.5", "not a str"),
        (lambda loss, logits: True, "not a bool"),
        (lambda loss, logits: None, "must return the loss"),
        (lambda loss, logits: logits, r"not a tensor of shape \(12, 2\)"),
    ],
)
@pytest.mark.parametrize("name", ["sam", "adamw"])
def test_what_is_no_loss_is_refused(name: str, returned: Any, words: str) -> None:
    model = perceptron()
    optimizer = create(name, model, lr=0.1, protocol=True)
    x, y = batch()

    def closure() -> Any:
        optimizer.zero_grad()
        logits = model(x)
        loss = F.cross_entropy(logits, y)
        loss.backward()
        return returned(loss, logits)

    assert_refused(model, optimizer, closure, words)


@pytest.mark.parametrize(
    "returned",
    [lambda loss: float(loss.detach()), lambda loss: loss.view(1, 1), lambda loss: loss.expand(12), Tensor.detach],
)
def test_a_loss_may_be_a_number_a_tensor_or_one_for_each_sample(returned: Any) -> None:
    model = perceptron()
    optimizer = SAM(model.parameters(), lr=0.1)
    x, y = batch()
    loss = optimizer.step(lambda: returned(closure_of(model, optimizer, x, y)()))
    expected = F.cross_entropy(perceptron()(x), y).detach()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    assert loss.shape == ()


# Scalers


@pytest.mark.parametrize("name", ["sam", "gsam", "adamw"])
def test_a_scaler_that_is_used_but_not_given_is_told(name: str) -> None:
    model = perceptron(torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    optimizer = create(name, model, lr=0.1, protocol=True)
    x, y = batch(dtype=torch.float32)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        return loss

    assert_refused(model, optimizer, closure, "scaler=scaler")
    other = create(name, model, lr=0.1, protocol=True, scaler=torch.amp.GradScaler("cpu"))
    assert_refused(model, other, closure, "scaler=scaler")


def test_a_scaler_that_is_given_but_not_used_is_told() -> None:
    model = perceptron(torch.float32)
    optimizer = SAM(model.parameters(), lr=0.1, scaler=torch.amp.GradScaler("cpu"))
    closure = closure_of(model, optimizer, *batch(dtype=torch.float32))
    assert_refused(model, optimizer, closure, "does not scale its loss")


def test_scalers_that_are_switched_off_or_used_by_hand_are_no_reason_to_complain() -> None:
    model = perceptron(torch.float32)
    x, y = batch(dtype=torch.float32)
    off = torch.amp.GradScaler("cpu", enabled=False)
    for scaler in (None, off):
        optimizer = SAM(model.parameters(), lr=0.1, scaler=scaler)

        def scaled(optimizer: SAM = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            off.scale(loss).backward()
            return loss

        optimizer.step(scaled)
        optimizer.step(closure_of(model, optimizer, x, y))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(torch.ones(1))  # makes its scale
    optimizer = SAM(model.parameters(), lr=0.1, scaler=scaler)

    def by_hand() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        (loss * scaler.get_scale()).backward()
        return loss

    optimizer.step(by_hand)
    assert optimizer.skipped == 0


def test_functions_of_torch_are_themselves_again_after_a_step() -> None:
    before = (torch.autograd.backward, torch.amp.GradScaler.scale, torch.amp.GradScaler.get_scale)
    model = perceptron()
    optimizer = create("eigensam", model, lr=0.1)
    for bad in (False, True):
        x, y = batch()
        if bad:
            with pytest.raises(RuntimeError):
                optimizer.step(closure_of(model, optimizer, x[:, :2], y))
        else:
            optimizer.step(closure_of(model, optimizer, x, y))
        assert before == (torch.autograd.backward, torch.amp.GradScaler.scale, torch.amp.GradScaler.get_scale)


# States of others


def saved(name: str, base: str = "sgd", **options: Any) -> dict[str, Any]:
    model = perceptron()
    optimizer = create(name, model, base=base, lr=0.1, **options)
    optimizer.step(closure_of(model, optimizer, *batch()))
    return copy.deepcopy(optimizer.state_dict())


def plain_state(cls: Any) -> dict[str, Any]:
    model = perceptron()
    optimizer = cls(model.parameters(), lr=0.1)
    closure_of(model, optimizer, *batch())()
    optimizer.step()
    return dict(optimizer.state_dict())


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (lambda: plain_state(torch.optim.AdamW), "not the state of SAM on SGD: its groups have no adaptive.*base"),
        (lambda: plain_state(torch.optim.SGD), "not the state of SAM on SGD: its groups have no adaptive.*base"),
        (lambda: saved("gsam"), "state of GSAM on SGD, not of SAM on SGD"),
        (lambda: saved("sam", base="adamw"), "state of SAM on AdamW, not of SAM on SGD"),
        (lambda: saved("adamw", protocol=True), "state of OnePass on AdamW, not of SAM on SGD"),
        (lambda: perceptron().state_dict(), "no state of an optimizer"),
        (lambda: None, "no state of an optimizer"),
    ],
)
def test_the_state_of_another_optimizer_is_refused(state: Any, words: str) -> None:
    model = perceptron()
    optimizer = create("sam", model, base="sgd", lr=0.5)
    with pytest.raises(ValueError, match=words):
        optimizer.load_state_dict(state())
    assert optimizer.param_groups[0]["lr"] == 0.5
    optimizer.step(closure_of(model, optimizer, *batch()))


def test_a_state_from_before_names_were_saved_is_loaded() -> None:
    state = {key: value for key, value in saved("sam").items() if key not in {"method", "base"}}
    optimizer = create("sam", perceptron(), base="sgd", lr=0.5)
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.1
    onto_adam = create("sam", perceptron(), base="adamw", lr=0.5)
    with pytest.raises(ValueError, match="no betas"):
        onto_adam.load_state_dict(state)


@pytest.mark.parametrize("cls", [GSAM, OnePass])
def test_training_goes_on_from_the_base_of_another_as_the_sentence_says(cls: Any) -> None:
    model = perceptron()
    optimizer = cls(model.parameters(), torch.optim.AdamW, lr=0.5)
    optimizer.base.load_state_dict(plain_state(torch.optim.AdamW))
    optimizer.step(closure_of(model, optimizer, *batch()))
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert int(optimizer.state[model[0].weight]["step"]) == 2
    if cls is GSAM:
        assert optimizer.param_groups[0]["rho"] == 0.05


# Workers


def averaged(rank: int) -> Weights:
    """Train with gradients whose means look as if they had been added to those of the pass before.

    They are the inputs. In the first process, the mean of 1 and 3 less its own 1 is what it had before by itself, and
    the mean of 0 and 2 less its own 0 is what both had before.
    """
    ends: Weights = {}
    for told, synchronised, inputs in ((True, False, (1.0, 3.0)), (True, True, (0.0, 2.0)), (False, False, (0.0, 2.0))):
        for name in ("sam", "gam"):
            layer = nn.Linear(1, 2).double()
            wrapped = DistributedDataParallel(layer)
            given = wrapped if told else layer
            optimizer = create(name, given, base="sgd", lr=0.125, rho=0.25, sync_perturbation=synchronised)
            x = torch.tensor([[inputs[rank]]], dtype=torch.float64)

            def closure(x: Tensor = x, wrapped: nn.Module = wrapped, optimizer: Any = optimizer) -> Tensor:
                optimizer.zero_grad()
                loss: Tensor = wrapped(x)[0, 0] - wrapped(x)[0, 1]
                loss.backward()
                return loss

            for _ in range(3):
                optimizer.step(closure)
            ends[f"{name} {told} {synchronised}"] = copy.deepcopy(layer.state_dict())
            if told and not synchronised:  # the first pass is not averaged, and tells
                watching = create(name, given, base="sgd", lr=0.125, rho=0.25)
                with pytest.raises(ValueError, match="must clear them in every pass"):
                    watching.step(lambda closure=closure, layer=layer: adding(closure, layer))
    return ends


def adding(closure: Any, layer: nn.Module) -> Tensor:
    """Do what the closure does, but for clearing the gradients."""
    before = [p.grad.clone() for p in layer.parameters() if p.grad is not None]
    loss: Tensor = closure()
    for parameter, gradient in zip(layer.parameters(), before, strict=True):
        parameter.grad += gradient
    return loss


def test_gradients_that_are_averaged_are_no_reason_to_complain(tmp_path: Path) -> None:
    one, other = weights_of_two(averaged, tmp_path)
    assert len(one) == 6
    for key, weights in one.items():
        for name, value in weights.items():
            assert torch.equal(value, other[key][name]), (key, name)


def test_gradients_that_a_closure_scales_are_no_reason_to_complain() -> None:
    """Of w^2 / 2 and twice its gradient, 2 at first, half of the second is left by chance: 2.005."""
    weight = nn.Parameter(torch.ones((), dtype=torch.float64))
    optimizer = SAM([weight], lr=0.1, rho=1.005)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = weight.square() / 2
        loss.backward()
        assert weight.grad is not None
        weight.grad.mul_(2)
        return loss

    optimizer.step(closure)
    assert weight.item() == pytest.approx(1 - 0.1 * 2 * 2.005)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_gradients_that_are_added_within_and_over_passes_are_told(dtype: torch.dtype, scale: float) -> None:
    """A closure that accumulates inside, in many parts, and does not clear what is much more, or less, than they."""
    model = perceptron(dtype)
    optimizer = create("sam", model, base="sgd", lr=0.1)
    x, y = batch(size=30, dtype=dtype)

    def closure() -> Tensor:
        total = torch.zeros(())
        for number in range(10):
            rows = slice(3 * number, 3 * number + 3)
            loss = F.cross_entropy(model(x[rows]), y[rows]) / 10
            loss.backward()
            total += loss.detach().float()
        return total

    optimizer.zero_grad()
    (scale * F.cross_entropy(model(x), 1 - y)).backward()
    assert_refused(model, optimizer, closure, "must clear them in every pass")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_from_before_that_are_lost_in_rounding_are_no_reason_to_complain(dtype: torch.dtype) -> None:
    """They are cleared, and less than what is lost where the others are summed."""
    model = perceptron(dtype)
    optimizer = create("sam", model, base="sgd", lr=0.1)
    closure = closure_of(model, optimizer, *batch(dtype=dtype))
    closure()
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.grad.mul_(torch.finfo(dtype).eps)
    before = copy.deepcopy(model.state_dict())
    optimizer.step(closure)
    assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("told", [False, True])
def test_a_process_that_trains_by_itself_tells_of_gradients_that_are_added(told: bool, process_group: None) -> None:
    model = DistributedDataParallel(perceptron())
    optimizer = create("sam", model if told else model.parameters(), base="sgd", lr=0.1)  # type: ignore[arg-type]
    x, y = batch()

    def closure() -> Tensor:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    closure()
    assert_refused(model, optimizer, closure, "must clear them in every pass")


@pytest.mark.parametrize("returned", [Tensor.item, Tensor.detach, lambda loss: loss])
def test_workers_agree_where_the_parameters_are(returned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of a closure that returns a number is on the CPU, and NCCL sends nothing from there."""
    asked: list[torch.device] = []

    def agree(self: Workers, finite: bool, device: torch.device) -> bool:
        asked.append(device)
        return finite

    monkeypatch.setattr(Workers, "agree", agree)
    elsewhere = torch.device("cuda", 5)
    monkeypatch.setattr(ClosureOptimizer, "_device", property(lambda self: elsewhere))
    model = perceptron()
    optimizer = create("gsam", model, base="sgd", lr=0.1)
    closure = closure_of(model, optimizer, *batch())
    optimizer.step(lambda: returned(closure()))
    assert len(asked) >= 3
    assert set(asked) == {elsewhere}


@pytest.mark.parametrize("synchronised", [False, True])
def test_eigensam_refuses_a_static_graph_without_advice_that_does_not_help(
    synchronised: bool, process_group: None
) -> None:
    model = DistributedDataParallel(perceptron(), static_graph=True)
    with pytest.raises(ValueError, match=r"^Eigen-SAM .* make the model without static_graph$"):
        create("eigensam", model, base="sgd", lr=0.1, sync_perturbation=synchronised)


@pytest.mark.filterwarnings("ignore:FSDP is switching:UserWarning")
@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name", ["sam", "adamw"])
def test_a_model_of_fully_sharded_data_parallel_is_refused(
    name: str, flat: bool, told: bool, process_group: None
) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    inside = FullyShardedDataParallel(nn.Linear(3, 2), use_orig_params=not flat, device_id=torch.device("cpu"))
    model = nn.Sequential(inside)
    with pytest.raises(ValueError, match=r"FullyShardedDataParallel.*fully_shard\(model\)"):
        create(name, model if told else list(model.parameters()), base="sgd", lr=0.1, protocol=True)


@pytest.mark.filterwarnings("ignore:FSDP is switching:UserWarning")
def test_parameters_from_before_fully_sharded_data_parallel_are_refused(process_group: None) -> None:
    """They are not trained any more, and nothing marks them."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    plain = nn.Linear(3, 2)
    params = list(plain.parameters())
    model = FullyShardedDataParallel(plain, device_id=torch.device("cpu"))
    with pytest.raises(ValueError, match=r"FullyShardedDataParallel.*fully_shard\(model\)"):
        SAM(params, model=model, lr=0.1)


@pytest.mark.parametrize("name", sorted({*METHODS} - {"eigensam"}))
def test_a_static_graph_is_refused_where_passes_are_kept_apart(name: str, process_group: None) -> None:
    plain = perceptron()
    model = DistributedDataParallel(plain, static_graph=True)
    optimizer = create(name, model, base="sgd", lr=0.1, **FAST.get(name, {}))
    closure = closure_of(model, optimizer, *batch())
    if name == "msam":  # its one pass is averaged
        optimizer.step(closure)
        return
    assert_refused(model, optimizer, closure, "static_graph")


def test_a_static_graph_does_where_every_pass_is_averaged(process_group: None) -> None:
    ends = []
    for static in (True, False):
        model = DistributedDataParallel(perceptron(), static_graph=static)
        optimizer = create("gsam", model, base="sgd", lr=0.1, sync_perturbation=True)
        for step in range(4):
            optimizer.step(closure_of(model, optimizer, *batch(step)))
        ends.append(torch.cat([p.detach().view(-1) for p in model.parameters()]))
    assert torch.equal(*ends)
