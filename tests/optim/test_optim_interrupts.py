"""Steps that are interrupted anywhere leave the weights as they were."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
import torch
from small import METHODS, batch, closure_of, create, perceptron
from torch import Tensor, nn

from medsharp.optim import arithmetic, eigensam, esam, moved_weights
from medsharp.optim.arithmetic import move_each


@contextmanager
def interrupted(number: int, *modules: Any, function: str | None = None) -> Iterator[list[int]]:
    """Raise KeyboardInterrupt before the line of this number that is run in the modules; give the lines run so far.

    Only lines of `function` count, if that is given.
    """
    files = {module.__file__ for module in modules}
    lines: list[int] = []

    def trace(frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        if frame.f_code.co_filename not in files or function not in {None, frame.f_code.co_name}:
            return None
        if event == "line":
            lines.append(frame.f_lineno)
            if len(lines) == number:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("name", ["sam", "crsam", "bayesiansam"])
def test_an_interrupt_while_the_weights_are_moved_leaves_them_as_they_were(name: str) -> None:
    """At every line of it, of the first step, whose backups hold whatever the memory held."""
    number, ended = 0, False
    while not ended:
        number += 1
        model = perceptron()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        optimizer = create(name, model, base="sgd", lr=0.1, rho=0.5)
        optimizer.param_groups[0]["lr"] = 0.0
        # What the backup is restored from, if it is before it was made, must not be the weights by chance.
        optimizer._weights._backup = {p: torch.full_like(p, torch.nan) for p in model.parameters()}
        ended = True
        with interrupted(number, moved_weights, arithmetic):
            try:
                optimizer.step(closure_of(model, optimizer, *batch()))
            except KeyboardInterrupt:
                ended = False
        for key, value in model.state_dict().items():
            assert torch.equal(value, before[key]), (name, number, key)
    assert number > 50


class _Interrupting(dict[Tensor, Tensor]):
    """Remembers what has moved, and is interrupted when it has been told."""

    def __init__(self, watched: list[Tensor]) -> None:
        super().__init__()
        self.watched, self.start = watched, [parameter.clone() for parameter in watched]

    def update(self, *given: Any, **named: Any) -> None:
        super().update(*given, **named)
        for parameter, before in zip(self.watched, self.start, strict=True):
            assert torch.equal(parameter, before)
            assert torch.equal(self[parameter], before)
        raise KeyboardInterrupt


def test_on_an_accelerator_all_is_backed_up_before_any_of_it_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "_together", lambda tensors: True)
    params = [torch.linspace(-1, 1, 5), torch.linspace(2, 3, 3)]
    moved = _Interrupting(params)
    with pytest.raises(KeyboardInterrupt):
        move_each(
            params, [torch.full_like(p, torch.nan) for p in params], [torch.ones_like(p) for p in params], 0.5, moved
        )


def test_an_interrupt_while_tensors_are_frozen_leaves_none_so() -> None:
    number = 0
    passes: list[int] = []

    def closure() -> Tensor:
        passes.append(number)
        raise KeyboardInterrupt

    while not passes:
        number += 1
        model = nn.Sequential(*perceptron(), nn.Linear(2, 2).double())
        optimizer = create("esam", model, base="sgd", lr=0.1, beta=0.3)
        with interrupted(number, esam), pytest.raises(KeyboardInterrupt):
            optimizer.step(closure)
        assert passes or all(parameter.requires_grad for parameter in model.parameters()), number
    assert number > 10


def test_an_interrupt_while_layers_are_put_to_evaluation_leaves_none_so() -> None:
    number = 0
    passes: list[int] = []
    while not passes:
        number += 1
        model = perceptron()
        optimizer = create("eigensam", model, base="sgd", lr=0.1)
        whole = closure_of(model, optimizer, *batch())

        def closure(model: nn.Module = model, whole: Callable[[], Tensor] = whole) -> Tensor:
            if not any(module.training for module in model.modules()):
                passes.append(0)
                raise KeyboardInterrupt
            return whole()

        # Elsewhere, a line that leaves a context of torch would be counted, after which that is never left.
        with interrupted(number, eigensam, function="_evaluating"), pytest.raises(KeyboardInterrupt):
            optimizer.step(closure)
        assert passes or all(module.training for module in model.modules()), number
    assert number > 5


@pytest.mark.parametrize("name", METHODS)
def test_a_second_interrupt_while_weights_come_back_does_not_keep_them_away(name: str) -> None:
    model = perceptron()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = create(name, model, base="sgd", lr=0.1, rho=0.5)
    closure, passes = closure_of(model, optimizer, *batch()), []
    whole, times = optimizer._weights.bring_back, []

    def closing() -> Tensor:
        passes.append(0)
        loss: Tensor = closure()
        if any(not torch.equal(value, before[key]) for key, value in model.state_dict().items()):
            raise KeyboardInterrupt
        return loss

    def interrupted_once() -> None:
        times.append(0)
        if len(times) == 1:
            raise KeyboardInterrupt
        whole()

    optimizer._weights.bring_back = interrupted_once
    for _ in range(3):  # some climb in the second step at the earliest
        try:
            optimizer.step(closing)
        except KeyboardInterrupt:
            break
        before = {key: value.clone() for key, value in model.state_dict().items()}
    assert times
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
