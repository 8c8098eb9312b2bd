"""What the catalogue says is what the classes do; the documentation shows it."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small import METHODS, create

from medsharp.optim import SAM, ClosureOptimizer, SharpnessAware, list_optimizers, optimizer_info
from medsharp.optim.asam import NORMALIZATIONS
from medsharp.optim.catalogue import markdown_table
from medsharp.optim.looksam import PROJECTIONS
from medsharp.optim.zsharp import NORMS

DOCS = Path(__file__).parents[2] / "docs" / "optimizers.md"


@pytest.mark.parametrize("name", METHODS)
def test_defaults_are_those_of_the_class(name: str) -> None:
    info = optimizer_info(name)
    accepted: dict[str, inspect.Parameter] = {}
    for cls in (ClosureOptimizer, SharpnessAware, info.cls):
        accepted |= inspect.signature(cls).parameters
    for entry in info.hyperparameters:
        assert accepted[entry.name].default == entry.default, entry.name


@pytest.mark.parametrize("name", METHODS)
def test_every_keyword_of_the_class_is_in_the_catalogue(name: str) -> None:
    info = optimizer_info(name)
    own = inspect.signature(info.cls).parameters.values()
    keywords = {entry.name for entry in own if entry.kind is inspect.Parameter.KEYWORD_ONLY}
    shared = {"model", "hyperparameters", "lr", "weight_decay"}
    known = set(info.defaults)
    assert keywords - shared - {"adaptive"} <= known
    assert ("adaptive" in known) == (info.cls.can_adapt and name != "asam")  # ASAM is adaptive by itself
    assert ("micro_batch" in known) == (name != "esam")  # which chooses samples by itself


@pytest.mark.parametrize("name", list_optimizers())
def test_ends_of_a_range_are_accepted(name: str) -> None:
    info = optimizer_info(name)
    for entry in info.hyperparameters:
        ends = [end for end in (entry.low, entry.high) if end is not None and abs(end) != float("inf")]
        whole = isinstance(entry.default, int) and not isinstance(entry.default, bool)
        for value in [*ends, *entry.choices]:
            if entry.name in {"max_norm"} and value == 0:
                continue  # a limit of 0 is said by its class to be none
            number = int(value) if not isinstance(value, str) and (whole or entry.name == "micro_batch") else value
            create(name, [torch.nn.Parameter(torch.ones(1))], **{entry.name: number})


def test_every_class_is_in_the_catalogue() -> None:
    import medsharp.optim as package

    classes = {getattr(package, name) for name in package.__all__ if inspect.isclass(getattr(package, name))}
    methods = {cls for cls in classes if issubclass(cls, SharpnessAware)} - {SharpnessAware}
    assert methods == {optimizer_info(name).cls for name in METHODS}


def test_choices_are_those_of_the_classes() -> None:
    choices = {entry.name: entry.choices for name in METHODS for entry in optimizer_info(name).hyperparameters}
    assert choices["normalization"] == NORMALIZATIONS
    assert choices["projection"] == PROJECTIONS
    assert choices["norm"] == NORMS


def test_the_catalogue_is_read_without_torch() -> None:
    code = "import sys, medsharp.optim.catalogue as c; c.list_optimizers(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_documentation_shows_the_catalogue() -> None:
    assert markdown_table() in DOCS.read_text(encoding="utf-8"), "run: python -m medsharp.optim"


def test_the_examples_of_the_documentation_run(process_group: None) -> None:
    """All, in order, with a model and data that the page takes for granted, and on a CPU where they say CUDA."""
    x, y = torch.randn(32, 3), torch.randint(2, (32,))
    model = torch.nn.Linear(3, 2)

    def prepare(model: torch.nn.Module, optimizer: object, loader: list) -> tuple:
        return model, SAM(model.parameters(), torch.optim.SGD, lr=0.1), loader  # not that of the block before

    accelerator = SimpleNamespace(prepare=prepare, backward=lambda loss: loss.backward())
    names = {
        "name": "adamw",
        "torch": torch,
        "F": torch.nn.functional,
        "model": model,
        "x": x,
        "y": y,
        "loader": [(x, y)] * 2,
    }
    names |= {"micro_batches": [(x[:16], y[:16]), (x[16:], y[16:])], "accelerator": accelerator, "network": model}
    names["DistributedDataParallel"] = torch.nn.parallel.DistributedDataParallel
    names["scheduler"] = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(model.parameters(), lr=0.1), 1)
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 8
    stepped = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")  # of the stand-in
        for block in blocks:
            before = model.weight.detach().clone()
            exec(block.replace('"cuda"', '"cpu"'), names)
            if ".step(" in block:
                assert not torch.equal(model.weight, before), block
                stepped.append(block)
    assert len(stepped) == 6  # one shows how optimizers are made, one a closure
