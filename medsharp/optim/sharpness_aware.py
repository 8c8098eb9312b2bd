"""What all sharpness-aware optimizers share: perturb, look again, restore exactly, step the base optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Closure = Callable[[], Tensor]

Move = tuple[list[Tensor], list[Tensor], float]
"""Parameters, a direction for each, and what the directions are multiplied with."""


class SharpnessAware(Optimizer):
    """Base class: two or more looks at the loss for each step of a base optimizer.

    `loss = optimizer.step(closure)` follows the PyTorch closure convention: the closure clears the gradients, runs
    forward and backward and returns the loss. It is evaluated as often as the method needs, and nothing has to be
    called before. A subclass says in `_gradients` how the gradient for the base optimizer comes about.

    What holds for every subclass:

    - After a step the weights are those of the base optimizer's step from the *unperturbed* weights. They are restored
      by copying a backup, because `w + e - e` is not `w` in floating point; the storage of a parameter never changes.
    - The loss returned is the one at the unperturbed weights.
    - With `model=`, running statistics of batch-norm layers are those of the first pass alone. Without it they are
      updated by every pass, as the optimizer cannot know where they are.
    - A pass whose loss or gradient is not finite leaves weights, batch-norm statistics and state as they were; the step
      is skipped and counted in `skipped`.
    - `state_dict` holds the base optimizer's state, so that loading it continues to the very same weights.

    Args:
        params: Parameters, parameter groups or named parameters, as for any `torch.optim.Optimizer`.
        base: Class of the base optimizer.
        rho: Radius of the neighbourhood, at least 0. It lives in `param_groups`: a schedule may change it, and groups
            may differ; the gradient norm it is divided by is that of all groups together.
        adaptive: Scale the perturbation by the squared weight, element by element.
        model: Where to look for batch-norm layers.
        max_grad_norm: Clip the gradient that is applied, once, to this norm.
        replay_rng: Let dropout and stochastic depth draw the same noise in every pass of a step.
        max_skipped: Raise after this many skipped steps in a row.
        hyperparameters: Further values that live in `param_groups`.
        base_options: Keyword arguments of the base optimizer, such as `lr`.

    Raises:
        ValueError: `params` is empty, or a hyper-parameter is out of range.
    """

    def __init__(
        self,
        params: Any,
        base: type[Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.05,
        adaptive: bool = False,
        model: nn.Module | None = None,
        max_grad_norm: float | None = None,
        replay_rng: bool = False,
        max_skipped: int | None = None,
        hyperparameters: dict[str, Any] | None = None,
        **base_options: Any,
    ) -> None:
        if not (isinstance(base, type) and issubclass(base, Optimizer)) or issubclass(base, SharpnessAware):
            raise ValueError(f"base must be a torch.optim.Optimizer class such as torch.optim.SGD, not {base!r}")
        if not rho >= 0:
            raise ValueError(f"rho must be 0 or more, not {rho}")
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be more than 0, not {max_grad_norm}")
        params = list(params)
        if not params:
            raise ValueError(f"{type(self).__name__} got an empty parameter list; give model.parameters()")
        own = {"rho": rho, "adaptive": adaptive, **(hyperparameters or {})}
        super().__init__(params, own)
        self.base = base(self.param_groups, **base_options)
        self.defaults = {**self.base.defaults, **own}
        self._share()
        self.max_grad_norm = max_grad_norm
        self.replay_rng = replay_rng
        self.max_skipped = max_skipped
        self.skipped = 0
        self._skipped_in_a_row = 0
        self._norms = (
            [] if model is None else [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
        )
        self._backup: dict[Tensor, Tensor] = {}
        self._buffers: dict[str, dict[Tensor, Tensor]] = {}
        self._memory: dict[Tensor, Tensor] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "base" in self.__dict__:  # absent while unpickling a copy
            self._share()

    def state_dict(self) -> dict[str, Any]:
        """Return the base optimizer's state, the groups, and what the method remembers of earlier steps."""
        state = super().state_dict()
        if self._memory:
            places = {parameter: number for number, parameter in enumerate(self._parameters())}
            state["memory"] = {places[parameter]: value for parameter, value in self._memory.items()}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave."""
        super().load_state_dict(state_dict)
        params = self._parameters()
        self._memory = {
            params[number]: value.to(params[number], copy=True)
            for number, value in state_dict.get("memory", {}).items()
        }

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Tensor:  # type: ignore[override]
        """Take one step.

        Args:
            closure: Clears gradients, computes the loss, calls backward, returns the loss.

        Returns:
            The loss at the unperturbed weights.

        Raises:
            ValueError: No closure was given.
            FloatingPointError: `max_skipped` steps in a row had a loss or gradient that is not finite.
        """
        if closure is None:
            raise ValueError(
                f"{type(self).__name__}.step needs a closure that clears gradients, calls backward and returns the loss"
            )
        statistics = [(buffer, buffer.clone()) for norm in self._norms for buffer in norm.buffers(recurse=False)]
        random = _rng_states() if self.replay_rng else None
        with torch.enable_grad():
            loss = closure()
        finite = bool(torch.isfinite(loss)) and self._gradients(lambda: self._look_again(closure, random))
        if not finite:
            for buffer, before in statistics:
                buffer.copy_(before)
            self._skip()
            return loss
        self._skipped_in_a_row = 0
        self._clip()
        self.base.step()
        self._after_base_step()
        return loss

    def _gradients(self, look_again: Closure) -> bool:
        """Leave in `.grad` what the base optimizer shall apply, starting from the gradient at the weights.

        Args:
            look_again: Evaluates the closure without touching batch-norm statistics; returns the loss there.

        Returns:
            Whether everything seen was finite; when not, the step is skipped.
        """
        raise NotImplementedError

    def _after_base_step(self) -> None:
        """Correct the weights after the base optimizer's step; nothing by default."""

    def _clip(self) -> None:
        """Clip the gradient that is applied to `max_grad_norm`."""
        if self.max_grad_norm is not None:
            gradients = [p.grad for p in self._parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, clip_factor(float(total_norm(gradients)), self.max_grad_norm))

    def _ascent(self) -> list[Move] | None:
        """Return where to climb: parameters, directions and a factor, or None where the gradient is not finite.

        `e = rho g / (||g|| + 1e-12)`, with one norm over all groups (Foret et al. 2021, eq. 2); adaptive:
        `e = rho w^2 g / (|| |w| g || + 1e-12)` (Kwon et al. 2021, eq. 3 with T_w = |w|).
        """
        moves: list[Move] = []
        scaled: list[Tensor] = []
        for group, params, gradients in self._with_gradients():
            if group["adaptive"]:
                first = list(torch._foreach_mul(params, gradients))
                scaled += first
                moves.append((params, list(torch._foreach_mul(params, first)), group["rho"]))
            else:
                scaled += gradients
                moves.append((params, gradients, group["rho"]))
        norm = float(total_norm(scaled))
        if not math.isfinite(norm):
            return None
        return [(params, directions, rho / (norm + 1e-12)) for params, directions, rho in moves]

    @contextmanager
    def _perturbed(self, moves: list[Move] | None) -> Iterator[bool]:
        """Move the weights by `factor * direction`; bring them back exactly, whatever happens there.

        Gives False, without moving, for None: the gradient that the moves were made of is not finite.
        """
        if moves is None:
            yield False
            return
        moved = [p for params, _, _ in moves for p in params]
        for parameter in moved:
            if parameter not in self._backup:
                self._backup[parameter] = torch.empty_like(parameter, memory_format=torch.preserve_format)
        backups = [self._backup[parameter] for parameter in moved]
        if moved:
            torch._foreach_copy_(backups, moved)
        try:
            for params, directions, factor in moves:
                torch._foreach_add_(params, directions, alpha=factor)
            yield True
        finally:
            if moved:
                torch._foreach_copy_(moved, backups)

    def _with_gradients(self) -> Iterator[tuple[dict[str, Any], list[Tensor], list[Tensor]]]:
        """Give each group with those of its parameters that have a gradient, and these gradients."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                yield group, params, [p.grad for p in params]

    def _keep_gradients(self, slot: str) -> dict[Tensor, Tensor]:
        """Copy the gradients of a pass into buffers that are made once for each slot."""
        buffers = self._buffers.setdefault(slot, {})
        kept = {}
        for _, params, gradients in self._with_gradients():
            for parameter in params:
                if parameter not in buffers:
                    buffers[parameter] = torch.empty_like(parameter, memory_format=torch.preserve_format)
                kept[parameter] = buffers[parameter]
            torch._foreach_copy_([kept[p] for p in params], gradients)
        return kept

    def _pair(self, *passes: dict[Tensor, Tensor]) -> dict[Tensor, Tensor]:
        """Bring kept passes and the present gradients to the same parameters; return the present gradients.

        A block that stochastic depth dropped in one pass has the gradient zero there.
        """
        present = {p: p.grad for p in self._parameters() if p.grad is not None}
        seen = dict.fromkeys(parameter for kept in (*passes, present) for parameter in kept)
        for parameter in seen:
            if parameter not in present:
                parameter.grad = torch.zeros_like(parameter)
                present[parameter] = parameter.grad
            for kept in passes:
                if parameter not in kept:
                    kept[parameter] = torch.zeros_like(parameter)
        return {parameter: present[parameter] for parameter in seen}

    def _look_again(self, closure: Closure, random: list[Any] | None) -> Tensor:
        if random is not None:
            _set_rng_states(random)
        # A layer in training mode that does not track uses the batch's statistics, as before, and updates none.
        tracking = [norm for norm in self._norms if norm.track_running_stats]
        for norm in tracking:
            norm.track_running_stats = False
        try:
            with torch.enable_grad():
                return closure()
        finally:
            for norm in tracking:
                norm.track_running_stats = True

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _skip(self) -> None:
        self.skipped += 1
        self._skipped_in_a_row += 1
        if self.max_skipped is not None and self._skipped_in_a_row >= self.max_skipped:
            raise FloatingPointError(
                f"loss or gradient was not finite in {self._skipped_in_a_row} steps in a row; "
                "lower the learning rate or rho"
            )

    def _share(self) -> None:
        # One list of groups and one state for both: schedules, checkpoints and added groups reach the base optimizer.
        if self.param_groups is not self.base.param_groups and not self.state:
            self.param_groups = self.base.param_groups
            self.state = self.base.state
        else:
            self.base.param_groups = self.param_groups
            self.base.state = self.state


def total_norm(tensors: Iterable[Tensor]) -> Tensor:
    """Return the Euclidean norm of all tensors together, a scalar in at least float32; 0 for none."""
    tensors = list(tensors)
    if not tensors:
        return torch.zeros(())
    device = tensors[0].device
    precision = torch.promote_types(tensors[0].dtype, torch.float32)
    norms = torch._foreach_norm(tensors, 2, dtype=precision)
    return torch.linalg.vector_norm(torch.stack([norm.to(device) for norm in norms]))


def clip_factor(norm: float, limit: float) -> float:
    """Return what to multiply a gradient of this norm with to bring it to the limit, as `clip_grad_norm_` does."""
    return min(1.0, limit / (norm + 1e-6))


def _rng_states() -> list[Any]:
    states: list[Any] = [torch.get_rng_state()]
    if torch.cuda.is_available():
        states.append(torch.cuda.get_rng_state_all())
    return states


def _set_rng_states(states: list[Any]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state_all(states[1])
