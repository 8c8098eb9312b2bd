"""What is saved of an optimizer beside its base's state, and whether a saved state is one of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from medsharp.optim.gradients import Gradients
from medsharp.optim.randomness import Generators


class Memory:
    """What a method remembers from step to step.

    Attributes:
        tensors: A tensor for each parameter, by name.
        numbers: Such as the number of steps taken.
        generators: What the method draws from.
    """

    def __init__(self, seed: int) -> None:
        self.tensors: dict[str, Gradients] = {}
        self.numbers: dict[str, int] = {}
        self.generators = Generators(seed)

    def rename(self, moved: Gradients) -> None:
        """Remember of the values what was remembered of the keys."""
        self.tensors = {
            slot: {moved.get(parameter, parameter): value for parameter, value in values.items()}
            for slot, values in self.tensors.items()
        }

    def state_dict(self, params: list[Tensor]) -> dict[str, Any]:
        """Return all of it, parameters by their place in the groups."""
        places = {parameter: number for number, parameter in enumerate(params)}
        tensors = {
            slot: {places[parameter]: value for parameter, value in values.items()}
            for slot, values in self.tensors.items()
        }
        return {"memory": tensors, "numbers": dict(self.numbers), "generators": self.generators.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], params: list[Tensor]) -> None:
        """Load what `state_dict` gave; slots that it does not have are empty then."""
        self.tensors = {slot: {} for slot in self.tensors} | {
            slot: {params[number]: value.to(params[number], copy=True) for number, value in values.items()}
            for slot, values in state.get("memory", {}).items()
        }
        self.numbers = {**self.numbers, **state.get("numbers", {})}
        self.generators.load_state_dict(state.get("generators", {}))


def check_state(state: Any, method: str, base: str, expected: set[str]) -> None:
    """Check that a saved state is of this method on this base.

    Args:
        state: What is to be loaded.
        method: Name of the optimizer's class.
        base: Name of its base's class.
        expected: Names that its groups must have.

    Raises:
        ValueError: It is another's, or no optimizer's.
    """
    if not isinstance(state, Mapping) or "param_groups" not in state or "state" not in state:
        raise ValueError(f"this is no state of an optimizer; give what {method}.state_dict() returned")
    saved, saved_base = state.get("method", method), state.get("base", base)
    remedy = "to go on with the base optimizer's part of another's state, load that by optimizer.base.load_state_dict"
    if saved != method or saved_base != base:
        raise ValueError(
            f"this is the state of {saved} on {saved_base}, not of {method} on {base}; make the same one; {remedy}"
        )
    for group in state["param_groups"]:
        missing = sorted(expected - group.keys())
        if missing:
            raise ValueError(f"this is not the state of {method} on {base}: its groups have no {missing[0]}; {remedy}")
