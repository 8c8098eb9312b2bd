"""The optimizer that a method stands on: which may be one, and its values where the method calls others the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim import Optimizer


def check_base(base: Any, method: type[Optimizer]) -> None:
    """Check that a method can stand on it.

    Args:
        base: What was given.
        method: The base class of methods, none of which stands on another.

    Raises:
        ValueError: It is no class of optimizers, or one that needs a closure.
    """
    if not (isinstance(base, type) and issubclass(base, Optimizer)) or issubclass(base, method):
        given = f"an instance of {type(base).__name__}" if isinstance(base, Optimizer) else repr(base)
        raise ValueError(f"base must be a torch.optim.Optimizer class such as torch.optim.SGD, not {given}")
    if issubclass(base, torch.optim.LBFGS):
        raise ValueError("base must step without a closure, as torch.optim.SGD does; LBFGS does not")


@contextmanager
def values_of_base(groups: list[dict[str, Any]], values: dict[str, Any]) -> Iterator[None]:
    """Let the groups hold what the base optimizer calls as the method calls something else."""
    kept = [{name: group[name] for name in values} for group in groups]
    try:
        for group in groups:
            group.update(values)
        yield
    finally:
        for group, own in zip(groups, kept, strict=True):
            group.update(own)
