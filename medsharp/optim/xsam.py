"""XSAM: looks for the direction of the maximum around the weights, and descends from there."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.optim import Optimizer

from medsharp.optim.arithmetic import add_each, scale_each
from medsharp.optim.gradients import Gradients, put_gradients
from medsharp.optim.randomness import random_states, set_random_states
from medsharp.optim.sharpness_aware import SharpnessAware

CANDIDATES = 21
"""Directions that a search compares: a = 0, 0.1, ..., 2."""

ASSUMED_INTERVAL = 100
"""Steps between searches where nobody says how many an epoch has."""

_OPPOSITE = 1e-3
"""Sine of the angle below which two opposite directions span no plane that could be told from rounding."""


class XSAM(SharpnessAware):
    """Explicit sharpness-aware minimization.

    One ascent or more lead from `w` to `w_k`, each `rho` long, along the gradient where it begins. With
    `v0 = (w_k - w) / ||w_k - w||`, `v1 = g_k / ||g_k||` and their angle `theta`,

        d(a) = (sin((1 - a) theta) v0 + sin(a theta) v1) / sin(theta)

    are the directions of their plane, all of length one: `d(0)` is the ascent, `d(1)` what SAM descends along, `d(2)`
    as far beyond. The base optimizer steps with `||g_k|| d(a*)`, where `a*` is the one of 0, 0.1, ..., 2 that has the
    largest `L(w + rho_max d(a))` on the first batch of an epoch, the smallest of equals.

    J. Chen, Z. Zhou, "Revisiting Sharpness-Aware Minimization: A More Faithful and Effective Implementation", 2026
    (arXiv 2603.10048), and the authors' code. An optimizer does not know epochs: the search is made every `interval`
    steps, beginning with the first (an epoch whose batches are all stepped with; `medsharp train` sets it). All
    candidates see the same dropout noise. Where `theta` is 0, `d(a)` is its limit, `v1`; where it is so near `pi` that
    the two span no plane, `d` is `v1` too, as in SAM, and `a*` stays (the authors' code has `(v0 + v1) / 2` in both
    cases, which is next to nothing in the second). With micro-batches or workers, `w_k - w` and `g_k` are the means
    over them before they are combined, and so is the loss that a search compares. `1 + ascents` passes a step, and 21
    forward passes every `interval` steps, which count about seven.

    Args:
        params: As for `SharpnessAware`.
        base: Class of the base optimizer.
        rho: Length of an ascent.
        rho_max: Radius at which the search compares losses, at least 0.
        ascents: How many lead to `w_k`, at least 1.
        interval: Steps from one search to the next, at least 1; 100 without it.
        options: As for `SharpnessAware`.

    Raises:
        ValueError: `rho_max` is negative, or `ascents` or `interval` less than 1.
    """

    can_adapt = False

    def __init__(
        self,
        params: Any,
        base: type[Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.15,
        rho_max: float = 0.3,
        ascents: int = 1,
        interval: int | None = None,
        **options: Any,
    ) -> None:
        if not rho_max >= 0:
            raise ValueError(f"rho_max must be 0 or more, not {rho_max}")
        interval = ASSUMED_INTERVAL if interval is None else interval
        for name, value in (("ascents", ascents), ("interval", interval)):
            if not (isinstance(value, int) and value >= 1):
                raise ValueError(f"{name} must be a whole number, 1 or more, not {value}")
        super().__init__(params, base, rho=rho, hyperparameters={"rho_max": rho_max}, **options)
        self.ascents = ascents
        self.interval = interval
        self._memory.numbers |= {"steps": 0, "tenths": 10}
        self._found: int | None = None

    @property
    def a(self) -> float:
        """`a*` of the last search; 1, which is SAM, before the first."""
        return self._memory.numbers["tenths"] / 10

    def _begin(self) -> None:
        self._found = None

    def _explore(self) -> list[Gradients]:
        self._look()
        way = self._take()
        with self._weights.away():
            moves = self._ascent(way)
            self._weights.climb(moves)
            for _, directions, step in moves:
                scale_each(directions, step)
            del moves
            for _ in range(self.ascents - 1):
                self._look()
                self._climb_on(way)
            self._look(last=True)
        return [way]

    def _climb_on(self, way: Gradients) -> None:
        moves = self._ascent(self._pair(way))
        self._weights.climb(moves)
        for params, directions, step in moves:
            add_each([way[p] for p in params], directions, weight=step)

    def _combine(self, *kept: Gradients) -> None:
        (way,) = kept
        present = self._pair(way)
        slope, product = self._size_and_inner(list(present.values()), [way[p] for p in present])
        self._check_finite(slope)  # so that nothing below has to look
        distance = self._size(way.values())
        if not slope * distance > 0:
            return
        plane = _Plane(self._sign() * product / slope / distance)
        if self._memory.numbers["steps"] % self.interval == 0 and not plane.degenerate:
            self._found = self._search(way, plane, distance, self._sign() * slope)
        a = self.a if self._found is None else self._found / 10
        first, second = plane.weights(a)
        for _, params, gradients in self._by_group(self._gradients()):
            ways = [way[p] for p in params]
            add_each(gradients, ways, weight=self._sign() * first * slope / distance, scale=second)

    def _search(self, way: Gradients, plane: _Plane, distance: float, slope: float) -> int:
        """Return ten times the `a` with the largest loss; gradients are in `.grad` as before."""
        gradients = self._take()
        states = random_states({p.device for p in self._parameters()})
        losses: list[float] = []
        with self._weights.away():
            for number in range(CANDIDATES):
                first, second = plane.weights(number / 10)
                self._weights.bring_back()
                for group, params, values in self._by_group(gradients):
                    ways, far = [way[p] for p in params], group["rho_max"]
                    # One after the other: a direction of their sum would be one copy of the weights more.
                    self._weights.climb(
                        [(params, ways, far * first / distance), (params, values, far * second / slope)]
                    )
                set_random_states(states)
                losses.append(self._sign() * self._mean_loss())
        put_gradients(self._parameters(), gradients)
        return max(range(CANDIDATES), key=losses.__getitem__)

    def _mean_loss(self) -> float:
        """Return the loss where the weights now are, over all micro-batches and workers."""
        total, count = 0.0, 0
        for explored in self._explored:
            self._pass = explored
            size = 1 if explored.rows is None else explored.rows.stop - explored.rows.start
            total += size * float(self._look(backward=False).mean())
            count += size
        return self._workers.mean(total / count, self._device)

    def _check_and_clip(self) -> None:
        if self.max_grad_norm is not None:  # checked when combined
            super()._check_and_clip()

    def _after_base_step(self) -> None:
        if self._found is not None:
            self._memory.numbers["tenths"] = self._found
        self._memory.numbers["steps"] += 1

    def _sign(self) -> float:
        return -1.0 if self.param_groups[0].get("maximize") else 1.0


class _Plane:
    """That of two directions of length one."""

    def __init__(self, cosine: float) -> None:
        self._theta = math.acos(max(-1.0, min(1.0, cosine)))
        self._sine = math.sin(self._theta)
        self.degenerate = cosine < 0 and self._sine < _OPPOSITE

    def weights(self, a: float) -> tuple[float, float]:
        """Return the weights of the two in `d(a)`."""
        if self.degenerate:
            return 0.0, 1.0
        if self._sine == 0:
            return 1 - a, a
        return math.sin((1 - a) * self._theta) / self._sine, math.sin(a * self._theta) / self._sine
