"""The states of the random generators that dropout and stochastic depth draw from."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import torch
from torch import Tensor


def random_states(devices: Iterable[torch.device]) -> dict[torch.device, Tensor]:
    """Return the generator states of the CPU and of these devices."""
    states = {torch.device("cpu"): torch.get_rng_state()}
    for device in devices:
        if device.type != "cpu":
            states[device] = torch.get_device_module(device).get_rng_state(device)
    return states


def set_random_states(states: dict[torch.device, Tensor]) -> None:
    """Set the generators to what `random_states` returned."""
    for device, state in states.items():
        if device.type == "cpu":
            torch.set_rng_state(state)
        else:
            torch.get_device_module(device).set_rng_state(state, device)


class Generators:
    """A generator for each device, all of one seed, whose states can be saved.

    Of loaded states, a device goes on with its own, or with that of another device of its type: a run that was begun on
    the first GPU may go on on the second, and of several processes that draw alike, one on a GPU each, the first alone
    saves its state. On a type of device that the states know nothing of, numbers are new ones: those of the seed were
    drawn already.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._generators: dict[str, torch.Generator] = {}
        self._loaded: dict[str, Tensor] = {}
        self._taken: set[str] = set()

    def on(self, device: torch.device) -> torch.Generator:
        """Return the generator of a device."""
        name = str(device)
        if name not in self._generators:
            self._generators[name] = generator = torch.Generator(device)
            known = self._resumed_by(name)
            if known is not None:
                generator.set_state(self._loaded[known])
                self._taken.add(known)
            else:
                drawn = b"".join(state.numpy().tobytes() for _, state in sorted(self._loaded.items()))
                generator.manual_seed(self._seed + zlib.crc32(drawn))  # of nothing 0
        return self._generators[name]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state of each generator that was used; not that which one under another name goes on from."""
        left = {name: state for name, state in self._loaded.items() if name not in self._taken}
        return left | {name: generator.get_state() for name, generator in self._generators.items()}

    def load_state_dict(self, states: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` returned; devices need not be there any more."""
        self._generators, self._taken = {}, set()
        self._loaded = {name: state.cpu() for name, state in states.items()}

    def _resumed_by(self, name: str) -> str | None:
        """Return the name of the loaded state that a device goes on from; None where there is none of its type."""
        left = [other for other in self._loaded if other not in self._taken]
        alike = [other for other in sorted(left) if _type(other) == _type(name)]
        return name if name in left else next(iter(alike), None)

    def __getstate__(self) -> tuple[int, dict[str, Tensor]]:
        return self._seed, self.state_dict()

    def __setstate__(self, state: tuple[int, dict[str, Tensor]]) -> None:
        self._seed, states = state
        self.load_state_dict(states)


def _type(name: str) -> str:
    return name.partition(":")[0]
