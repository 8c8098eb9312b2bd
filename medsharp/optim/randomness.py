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

    On a device that the states which were loaded know nothing of, as it was another machine's, numbers are new ones:
    those of the seed were drawn already.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._generators: dict[str, torch.Generator] = {}
        self._loaded: dict[str, Tensor] = {}

    def on(self, device: torch.device) -> torch.Generator:
        """Return the generator of a device."""
        name = str(device)
        if name not in self._generators:
            self._generators[name] = generator = torch.Generator(device)
            if name in self._loaded:
                generator.set_state(self._loaded[name])
            else:
                drawn = b"".join(state.numpy().tobytes() for _, state in sorted(self._loaded.items()))
                generator.manual_seed(self._seed + zlib.crc32(drawn))  # of nothing 0
        return self._generators[name]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state of each generator that was used."""
        return self._loaded | {name: generator.get_state() for name, generator in self._generators.items()}

    def load_state_dict(self, states: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` returned; devices need not be there any more."""
        self._generators = {}
        self._loaded = {name: state.cpu() for name, state in states.items()}

    def __getstate__(self) -> tuple[int, dict[str, Tensor]]:
        return self._seed, self.state_dict()

    def __setstate__(self, state: tuple[int, dict[str, Tensor]]) -> None:
        self._seed, states = state
        self.load_state_dict(states)
