"""Choosing settings: Optuna proposes, training on the open rows of a fold answers, and a kill anywhere costs nothing.

Optuna's own storage is not used. Its sampler is seeded and is told the same answers in the same order whenever a study
goes on, so that it proposes the same again; the answers lie in run folders that are named by their settings.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from training.study.definition import Span, StudyDefinition
from training.study.plan import Chain, cell_config, given_settings, plan_cells

DIGITS = 4
"""Significant digits of a proposed value, which is then the same in a file and in memory."""

_KEEP = 3
"""One in so many trials goes on, where trials are ended early; and by this, how far each then goes."""


@dataclass(frozen=True)
class Answer:
    """What a trial brought.

    Attributes:
        run: The name of its run folder.
        value: By the criterion; None where it failed.
        failure: Why.
        pruned: Whether it was ended early.
    """

    run: str
    value: float | None
    failure: str = ""
    pruned: bool = False


Watch = Callable[[int, float], bool]
"""Told the number of an epoch, from 1, and the trial's value after it; returns whether the trial is to end there."""


@dataclass(frozen=True)
class Choice:
    """The settings of a chain.

    Attributes:
        chosen: Settings under `optimizer`.
        trials: What was tried, in order: `settings`, `run`, `value`, `failure`.
    """

    chosen: Mapping[str, float]
    trials: tuple[Mapping[str, Any], ...]


def choose(
    study: StudyDefinition, chain: Chain, answer: Callable[[Mapping[str, float], Watch], Answer]
) -> Choice | None:
    """Return the best settings of a chain by its validation images; None where every trial failed.

    The first trial has the settings as the study gives them. Later ones are drawn on a logarithmic scale by a
    tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011), which draws at random until it has ten answers.

    With `pruning: asha`, a trial ends at a ninth or a third of its epochs where it is not among the best third of those
    that came as far (asynchronous successive halving, Li et al., MLSys 2020; of fewer than five, the best one).

    Args:
        study: How many trials there are, and by what is chosen.
        chain: For what.
        answer: Trains with settings and says how good they are.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    given = given_settings(study, chain)
    spans = _spans(study, chain, given)
    space: dict[str, optuna.distributions.BaseDistribution] = {
        key: optuna.distributions.FloatDistribution(low, high, log=True) for key, (low, high) in spans.items()
    }
    higher = study.search.criterion == "val_auroc"
    sampler = optuna.samplers.TPESampler(seed=_seed(study, chain))
    epochs = cell_config(study, plan_cells(study, chain)[0], {}).schedule.epochs
    asha = study.search.pruning == "asha"
    pruner = _halving(epochs) if asha else None
    trials = optuna.create_study(direction="maximize" if higher else "minimize", sampler=sampler, pruner=pruner)
    told: list[dict[str, Any]] = []
    for number in range(study.search.trials if space else 1):
        # The first is told as it was proposed, so that the sampler learns from it too.
        trial = trials.ask(space) if number else None
        settings = {key: _rounded(value) for key, value in trial.params.items()} if trial else dict(given)
        # What the first is compared by needs a trial too: one without parameters, of which the sampler learns nothing.
        rung = trial or trials.ask() if asha else None
        found = answer(settings, _never if rung is None else _watch(rung, epochs))
        entry = {"settings": settings, "run": found.run, "value": found.value, "failure": found.failure}
        told.append(entry | ({"pruned": True} if found.pruned else {}))
        if trial is None and rung is not None:
            trials.tell(rung, found.value, state=_state(found))
        if trial is not None:
            trials.tell(trial, found.value, state=_state(found))
        elif found.value is not None and _inside(given, spans):
            trials.add_trial(optuna.trial.create_trial(params=given, distributions=space, value=found.value))
    ranked = [entry for entry in told if entry["value"] is not None]
    if not ranked:
        return None
    # The earlier of equals, so that nothing but a better answer takes the settings as given away.
    best = max(ranked, key=lambda entry: entry["value"] if higher else -entry["value"])
    return Choice(best["settings"], tuple(told))


def _halving(epochs: int) -> Any:
    """Return what ends trials of so many epochs early."""
    import optuna

    return optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, round(epochs / _KEEP**2)), reduction_factor=_KEEP)


def _never(epoch: int, value: float) -> bool:
    return False


def _watch(trial: Any, epochs: int) -> Watch:
    """Return what tells a trial's epochs to what ends it; each once, and the last is its answer anyway."""
    seen = 0

    def watch(epoch: int, value: float) -> bool:
        nonlocal seen
        if epoch <= seen:  # trained again by a run that was killed between its line and its state
            return False
        seen = epoch
        trial.report(value, epoch)
        return epoch < epochs and bool(trial.should_prune())

    return watch


def _state(found: Answer) -> Any:
    """Return what became of a trial, as Optuna calls it; None where it has a value."""
    import optuna

    if found.pruned:
        return optuna.trial.TrialState.PRUNED
    return optuna.trial.TrialState.FAIL if found.value is None else None


def _spans(study: StudyDefinition, chain: Chain, given: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Return the ends of each range, in the order in which values are drawn: the learning rate first, as for all."""
    asked: dict[str, Span] = {} if study.search.lr is None else {"lr": study.search.lr}
    asked |= dict(chain.optimizer.search)
    return {
        key: (span.low * given[key], span.high * given[key]) if span.times else (span.low, span.high)
        for key, span in asked.items()
    }


def _inside(given: Mapping[str, float], spans: Mapping[str, tuple[float, float]]) -> bool:
    return all(low <= given[key] <= high for key, (low, high) in spans.items())


def _seed(study: StudyDefinition, chain: Chain) -> int:
    """Return a seed that all optimizers share: their learning rates are then drawn alike."""
    text = f"{study.seed}/{chain.hospital.name}/{chain.network.name}/{chain.fold}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else value
