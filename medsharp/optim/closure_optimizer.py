"""A step that evaluates a closure as often as it needs, and then steps a base optimizer, or leaves all as it was."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from medsharp.optim.arithmetic import clip_factor, scale_each, total_norm
from medsharp.optim.backward import Backward
from medsharp.optim.base_optimizer import check_base, values_of_base
from medsharp.optim.batch_norm import RunningStatistics
from medsharp.optim.first_passes import FirstPasses, loss_of
from medsharp.optim.gradients import Gradients, put_gradients
from medsharp.optim.grouped_gradients import GroupedGradients
from medsharp.optim.loss_scale import LossScale
from medsharp.optim.micro_batches import MeanGradients, chunks
from medsharp.optim.moved_weights import MovedWeights
from medsharp.optim.randomness import random_states, set_random_states
from medsharp.optim.saved_state import Memory, check_state
from medsharp.optim.shards import check_sharded, shard
from medsharp.optim.skipped_steps import NotFiniteError, SkippedSteps
from medsharp.optim.workers import Workers

Closure = Callable[..., Tensor]


class ClosureOptimizer(GroupedGradients):
    """Base class: one look or more at the loss for each step of a base optimizer.

    `loss = optimizer.step(closure)` follows the PyTorch closure convention: the closure clears the gradients, runs
    forward and backward and returns the loss. It is evaluated as often as the method needs, and nothing has to be
    called before. A subclass says in `_explore` where it looks, and in `_combine` what the base optimizer is given.

    What holds for every subclass:

    - After a step the weights are those of the base optimizer's step from the *unperturbed* weights. They are restored
      by copying a backup, because `w + e - e` is not `w` in floating point; the storage of a parameter never changes.
    - The loss returned is the one of the first pass, at the unperturbed weights (subclasses name exceptions).
    - With `model=`, running statistics of batch-norm layers are those of the first pass alone. Without it they are
      updated by every pass, as the optimizer cannot know where they are.
    - A pass whose loss or gradient is not finite leaves weights, batch-norm statistics and state as they were; the step
      is skipped and counted in `skipped`.
    - `state_dict` holds the base optimizer's state, so that loading it continues to the very same weights.

    Args:
        params: Parameters, parameter groups or named parameters, as for any `torch.optim.Optimizer`.
        base: Class of the base optimizer; any that steps without a closure.
        model: Where to look for batch-norm layers. A `DistributedDataParallel` model makes the ascent that of each
            worker: its gradients are averaged only for what is applied.
        sync_perturbation: With a `DistributedDataParallel` model: climb along the gradient of all workers instead.
        micro_batch: Take at most so many samples at a time, and perturb for each such micro-batch by itself
            (m-sharpness on one device). The samples of a batch are dealt to micro-batches evenly, two or more to each.
            The closure then takes the samples it shall evaluate, `closure(rows)` with a slice, and `step` the
            `batch_size`.
        max_grad_norm: Clip the gradient that is applied, once, to this norm.
        scaler: What the closure scales its loss with. All passes of a step are unscaled with the same scale; call
            `scaler.update()` after the step, as always.
        replay_rng: Let dropout and stochastic depth draw the same noise in every pass of a step.
        max_skipped: Raise after this many skipped steps in a row.
        seed: Of what the method itself draws, if it does.
        hyperparameters: Further values that live in `param_groups`.
        base_options: Keyword arguments of the base optimizer, such as `lr`. A keyword that both have, as the `rho` of
            Adadelta, is the method's; the base optimizer keeps its default.

    Raises:
        ValueError: `params` is empty, or a hyper-parameter is out of range.
    """

    def __init__(
        self,
        params: Any,
        base: type[Optimizer] = torch.optim.SGD,
        *,
        model: nn.Module | None = None,
        sync_perturbation: bool = False,
        micro_batch: int | None = None,
        max_grad_norm: float | None = None,
        scaler: torch.amp.GradScaler | None = None,
        replay_rng: bool = False,
        max_skipped: int | None = None,
        seed: int = 0,
        hyperparameters: dict[str, Any] | None = None,
        **base_options: Any,
    ) -> None:
        check_base(base, ClosureOptimizer)
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be more than 0, not {max_grad_norm}")
        if micro_batch is not None and not (isinstance(micro_batch, int) and micro_batch >= 1):
            raise ValueError(f"micro_batch must be a number of samples, 1 or more, not {micro_batch}")
        if isinstance(params, nn.Module):
            raise ValueError(f"{type(self).__name__} takes parameters; give model.parameters(), and model=model")
        if isinstance(params, Tensor):
            raise ValueError(f"{type(self).__name__} takes a list of parameters, not one; give [parameter]")
        params = list(params)
        if not params:
            raise ValueError(f"{type(self).__name__} got an empty parameter list; give model.parameters()")
        own = dict(hyperparameters or {})
        super().__init__(params, own)
        if not self._parameters():
            raise ValueError(f"{type(self).__name__} got no parameters in its groups; give model.parameters()")
        self._check_groups()
        self.base = base(self.param_groups, **base_options)
        self._own = own
        self._of_base = {name: self.base.defaults[name] for name in own if name in self.base.defaults}
        self.defaults = {**self.base.defaults, **own}
        self._share_with_base()
        self._follow_base()
        self._workers = Workers(model, self._parameters())
        if self._workers.sharded:
            check_sharded(type(self).__name__, self.can_shard, scaler)
        # What fully_shard computes is the mean gradient of all workers, in every pass.
        self.sync_perturbation = sync_perturbation or self._workers.sharded
        self.micro_batch = micro_batch
        self.max_grad_norm = max_grad_norm
        self.replay_rng = replay_rng
        self._statistics = RunningStatistics(model)
        self._weights = MovedWeights()
        self._loss_scale = LossScale(scaler, self._workers)
        self._first_passes = FirstPasses(4)
        self._skipped = SkippedSteps(max_skipped)
        self._memory = Memory(seed)
        self._shards = [shard(p) for p in self._parameters()]
        self._pass: _Pass | None = None
        self._explored: list[_Pass] = []

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """What the closure scales its loss with."""
        return self._loss_scale.scaler

    @property
    def skipped(self) -> int:
        """Steps that were not taken, because a loss or gradient was not finite."""
        return self._skipped.count

    @torch.no_grad()
    def step(  # type: ignore[override]
        self,
        closure: Closure | None = None,
        *,
        batch_size: int | None = None,
        micro_batches: Sequence[slice] | None = None,
    ) -> Tensor:
        """Take one step.

        Args:
            closure: Clears gradients, computes the loss, calls backward, returns the loss. With `micro_batch` it takes
                the slice of samples to do so for, and its loss is their mean.
            batch_size: With `micro_batch`: the number of samples of this step.
            micro_batches: The samples of each micro-batch, in place of those that `micro_batch` would deal.

        Returns:
            The loss at the unperturbed weights.

        Raises:
            ValueError: No closure was given, no `batch_size` with `micro_batch`, or a group has a negative rho.
            FloatingPointError: `max_skipped` steps in a row had a loss or gradient that is not finite.
        """
        if closure is None:
            raise ValueError(
                f"{type(self).__name__}.step needs a closure that clears gradients, calls backward and returns the loss"
            )
        self._share_with_base()  # one that loads a state in a way of its own calls no hook
        self._check_groups()
        self._loss_scale.begin_step()
        self._follow_shards()
        known, drawn = len(self.state), self._memory.generators.state_dict()
        self._begin()
        self._statistics.keep("before the step")
        losses: list[Tensor] = []
        try:
            parts = chunks(batch_size, self.micro_batch, self._statistics, micro_batches)
            kept = self._all_passes(closure, parts, losses)
            self._combine(*kept)
            self._check_and_clip()
        except BaseException as error:
            self._statistics.bring_back("before the step")
            self._memory.generators.load_state_dict(drawn)
            for parameter in list(self.state)[known:]:
                del self.state[parameter]
            if not isinstance(error, NotFiniteError):
                raise
            self._skipped.add()
            return torch.stack(losses).sum()
        finally:
            self._weights.come_back()
            self._pass, self._explored = None, []
        self._skipped.end_of_row()
        with values_of_base(self.param_groups, self._of_base):
            self.base.step()
        self._after_base_step()
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    @property
    def needs_sample_losses(self) -> bool:
        """Whether the closure must return the loss of each sample, `[N]`, and not their mean."""
        return False

    @property
    def passes_rows(self) -> bool:
        """Whether the closure is called with the rows of the samples that it shall evaluate, in some passes or all."""
        return self.micro_batch is not None or self.needs_sample_losses

    # What a method says.

    can_shard = True
    """Whether it can work with parameters of `fully_shard`."""

    def _check_groups(self) -> None:
        """Check the values of the groups, before every step; nothing by default.

        Raises:
            ValueError: A value is out of range.
        """

    def _begin(self) -> None:
        """Forget what a step that was skipped has left; nothing by default."""

    def _explore(self) -> list[Gradients]:
        """Look wherever the method looks, beginning with `_look()` at the weights, and end with `_look(last=True)`.

        Returns:
            The gradients, besides the one that is left in `.grad`, that `_combine` needs.
        """
        raise NotImplementedError

    def _combine(self, *kept: Gradients) -> None:
        """Leave in `.grad` what the base optimizer shall apply; as it is, by default."""

    def _check_and_clip(self) -> None:
        """Check what is applied, and clip it to `max_grad_norm`."""
        gradients = list(self._gradients().values())
        size = self._finite_norm([total_norm(gradients)])
        if self.max_grad_norm is not None:
            scale_each(gradients, clip_factor(size, self.max_grad_norm))

    def _after_base_step(self) -> None:
        """Correct the weights, or remember something, after the base optimizer's step; nothing by default."""

    # What a method says it with.

    def _look(self, last: bool = False, rows: Tensor | None = None, backward: bool = True) -> Tensor:
        """Evaluate the closure where the weights now are; the gradient is then in `.grad`.

        Args:
            last: No further pass follows, so that workers may average this gradient while it is computed.
            rows: Indices of the samples to evaluate, for a closure that takes them.
            backward: Without it, only the loss is computed; the closure's call of backward does nothing.

        Returns:
            The loss, as the closure returned it.

        Raises:
            NotFiniteError: The loss is not finite, on any worker.
        """
        now = self._now()
        if now.random and now.losses:
            set_random_states(now.random)
        elif self.replay_rng:
            now.random = random_states({p.device for p in self._parameters()})
        together = self.sync_perturbation or (last and not now.chunked)
        only = last and not now.losses
        try:
            chosen = now.rows if rows is None else rows
            apart = nullcontext() if together else self._workers.apart()
            passing = torch.enable_grad() if backward else Backward(lambda loss, weight: None)
            adds = not only and not self._workers.may_average(together)
            with apart, passing, self._first_passes.watched(self._parameters, self._loss_scale.scaler, adds):
                returned = now.closure() if chosen is None else now.closure(chosen)
        finally:
            self._workers.let_go()
            if now.losses:
                self._statistics.bring_back("after the first pass")
            elif not last:
                self._statistics.keep("after the first pass")
        self._check_dense()
        loss = loss_of(returned)
        # Where the parameters are: the loss of a closure that returns a number is on the CPU, where NCCL fails.
        finite = self._workers.agree(bool(torch.isfinite(loss).all()), self._device)
        if backward:
            self._loss_scale.unscale(self.param_groups, finite)
        now.losses.append(loss)
        if not finite:
            raise NotFiniteError
        return loss

    def _now(self) -> _Pass:
        if self._pass is None:
            raise RuntimeError("passes belong inside step()")
        return self._pass

    # How a step is run.

    def _follow_shards(self) -> None:
        """Find what is remembered of shards that have moved, as they do when a model is."""
        if self._workers.sharded:
            shards = [shard(p) for p in self._parameters()]
            self._memory.rename(dict(zip(self._shards, shards, strict=False)))
            self._shards = shards

    def _all_passes(
        self, closure: Closure, parts: list[tuple[slice | None, float]], losses: list[Tensor]
    ) -> list[Gradients]:
        """Explore; return the gradients kept, averaged over micro-batches and workers like the one in `.grad`."""
        chunked = parts[0][0] is not None
        means = MeanGradients()
        for rows, share in parts:
            self._pass = _Pass(closure, rows, chunked)
            self._explored.append(self._pass)
            try:
                kept = self._explore()
            finally:
                losses.extend(share * loss.mean() for loss in self._pass.losses[:1])
            if chunked:
                means.add([*kept, self._take()], share)
        params = self._parameters()
        if chunked:
            *kept, final = means.sums
            put_gradients(params, final if self.sync_perturbation else self._workers.average(final, params))
        return kept if self.sync_perturbation else [self._workers.average(part, params) for part in kept]

    # How it is kept.

    def _share_with_base(self) -> None:
        """Have one list of groups and one state with the base optimizer, so that schedules and checkpoints reach both.

        Where a state was loaded into the base, that brings the base's values. The method's own stay those of the group
        at the same place, and so does what both call the same, which is the method's.
        """
        groups = self.base.param_groups
        if self.param_groups is not groups:
            for group, before in zip(groups, self.param_groups, strict=False):
                group.update({name: before[name] for name in self._own if name in before})
        self.param_groups, self.state = groups, self.base.state
        for group in groups:
            for name, value in self._own.items():
                group.setdefault(name, value)

    def _follow_base(self) -> None:
        """Share again as soon as a state is loaded into the base optimizer by itself."""
        # Not this object itself: with one of the two, the other and the memory of both would live on.
        reference = weakref.ref(self)

        def share(_: Optimizer) -> None:
            method = reference()
            if method is not None:
                method._share_with_base()

        self.base.register_load_state_dict_post_hook(share)

    def state_dict(self) -> dict[str, Any]:
        """Return the base optimizer's state, the groups, and what the method remembers of earlier steps."""
        self._share_with_base()
        kind = {"method": type(self).__name__, "base": type(self.base).__name__}
        return super().state_dict() | kind | self._memory.state_dict([shard(p) for p in self._parameters()])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave.

        Raises:
            ValueError: It is the state of another method or base.
        """
        expected = {*self._own, *({"betas", "momentum"} & self.base.defaults.keys())}
        check_state(state_dict, type(self).__name__, type(self.base).__name__, expected)
        super().load_state_dict(state_dict)
        self._memory.load_state_dict(state_dict, [shard(p) for p in self._parameters()])

    def __getstate__(self) -> dict[str, Any]:
        # As torch's optimizers do: hooks stay behind, and so does the step that a schedule has put in the way.
        return {k: v for k, v in self.__dict__.items() if k != "step" and not k.startswith("_optimizer_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "base" in self.__dict__:
            self.base.param_groups, self.base.state = self.param_groups, self.state
        if "base" in state:  # a copy, whose base has left its hooks behind
            self._follow_base()


class _Pass:
    """The passes of a step over one batch, or over one micro-batch of it."""

    def __init__(self, closure: Closure, rows: slice | None, chunked: bool) -> None:
        self.closure = closure
        self.rows = rows
        self.chunked = chunked
        self.losses: list[Tensor] = []
        self.random: dict[torch.device, Tensor] = {}
