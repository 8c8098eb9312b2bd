"""The grid of a study: chains of runs that share a choice of settings, and the cells that are compared in the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medsharp.config import TrainConfig, validate_config
from medsharp.errors import InputError
from medsharp.optim.catalogue import optimizer_info
from training.study.definition import Budget, Hospital, Network, Optimizer, StudyDefinition, merged, without_place

_ROLES = {"path", "source", "folds", "official_folds", "fold", "leave_site", "split_seed", "fold_role", "fractions"}


@dataclass(frozen=True)
class Chain:
    """All runs of an optimizer on a network, a hospital and a fold: its trials first, which choose what the rest has.

    Attributes:
        hospital: That is trained on.
        network: That is trained.
        optimizer: That trains it.
        fold: That is tested in the end, from 0; the next one validates.
    """

    hospital: Hospital
    network: Network
    optimizer: Optimizer
    fold: int

    @property
    def name(self) -> str:
        """Of files and in messages, such as `busi/cnn/sam/fold-0`."""
        return f"{self.hospital.name}/{self.network.name}/{self.optimizer.name}/fold-{self.fold}"


@dataclass(frozen=True)
class Cell:
    """A run that is compared in the end.

    Attributes:
        chain: Where it belongs.
        budget: What it may cost.
        seed: Of its training.
    """

    chain: Chain
    budget: Budget
    seed: int

    @property
    def name(self) -> str:
        """Such as `busi/cnn/sam/fold-0/epochs-seed-1`."""
        return f"{self.chain.name}/{self.budget}-seed-{self.seed}"


def plan_chains(study: StudyDefinition) -> tuple[Chain, ...]:
    """Return the chains in the order in which they are trained.

    Fold by fold, so that a study which is stopped has the same folds of every optimizer.
    """
    return tuple(
        Chain(hospital, network, optimizer, fold)
        for fold in study.fold_numbers
        for hospital in study.hospitals
        for network in study.networks
        for optimizer in study.optimizers
        if optimizer.train_on is None or hospital.name in optimizer.train_on
    )


def plan_cells(study: StudyDefinition, chain: Chain) -> tuple[Cell, ...]:
    """Return the cells of a chain; the first is that of its trials."""
    return tuple(Cell(chain, budget, seed) for budget in study.budgets for seed in study.seeds)


def planned_cells(study: StudyDefinition) -> list[Cell]:
    """Return every cell of a study."""
    return [cell for chain in plan_chains(study) for cell in plan_cells(study, chain)]


def given_settings(study: StudyDefinition, chain: Chain) -> dict[str, float]:
    """Return the values, as the study gives them, of what is looked for: the first trial of the chain."""
    section = cell_config(study, plan_cells(study, chain)[0], {}).optimizer
    values = {"lr": section.lr} if study.search.lr is not None else {}
    return values | {key: float(section.hyperparameters()[key]) for key in chain.optimizer.search}


def cell_config(study: StudyDefinition, cell: Cell, chosen: Mapping[str, float]) -> TrainConfig:
    """Return the configuration of a run.

    Args:
        study: What all share.
        cell: Which one.
        chosen: Settings under `optimizer` in place of those that the study gives.

    Raises:
        InputError: A key or value is wrong.
    """
    chain = cell.chain
    shared = merged(study.base, chain.hospital.settings, chain.network.settings)
    optimizer = {"name": chain.optimizer.name, **chain.optimizer.settings, **chosen}
    whole = merged(shared, {"optimizer": optimizer, "seed": cell.seed})
    # Rows come split: what is tested is not among them.
    whole["data"] = {key: value for key, value in whole.get("data", {}).items() if key not in _ROLES}
    config = validate_config(whole, f"study {study.name}, {cell.name}")
    config = _within(config, max(1, round(config.schedule.epochs * chain.hospital.epochs_share)))
    return _within(config, epochs_of(study, config, cell.budget))


def epochs_of(study: StudyDefinition, config: TrainConfig, budget: Budget) -> int:
    """Return the epochs of an optimizer under a budget, at least one.

    With `gradients`, as many forward and backward passes as the reference has, by the passes a step of the catalogue.
    """
    epochs = config.schedule.epochs
    if budget == "epochs":
        return epochs
    return max(1, round(epochs * optimizer_info(study.reference).passes / optimizer_info(config.optimizer.name).passes))


def passes_of(config: TrainConfig) -> float:
    """Return forward and backward passes of a run over its training images."""
    return config.schedule.epochs * optimizer_info(config.optimizer.name).passes


def run_name(config: TrainConfig, data: str, code: str) -> str:
    """Return the folder's name of a run: 16 digits of the hash of its settings, its images and its code.

    Args:
        config: Resolved.
        data: As `training.study.dealing.manifest_digest` gives it.
        code: As `training.study.code.code_digest` gives it.
    """
    settings = without_place(config.model_dump(mode="json"))
    text = json.dumps({"config": settings, "data": data, "code": code}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_fair(study: StudyDefinition) -> None:
    """Check that optimizers differ in nothing but themselves.

    Raises:
        InputError: Two of them would be trained otherwise; the sentence names the setting.
    """
    for chain in plan_chains(study):
        reference = next(one for one in study.optimizers if one.name == study.reference)
        ours, theirs = (
            _apart_from_optimizer(cell_config(study, plan_cells(study, one)[0], {}))
            for one in (chain, Chain(chain.hospital, chain.network, reference, chain.fold))
        )
        differing = next((key for key in ours if ours[key] != theirs[key]), None)
        if differing is not None:
            raise InputError(
                f"study {study.name}: {chain.optimizer.name} differs from {study.reference} in {differing}"
            )


def _apart_from_optimizer(config: TrainConfig) -> dict[str, Any]:
    values = config.model_dump(mode="json")
    section = config.optimizer
    shared = {key: getattr(section, key) for key in ("lr", "weight_decay", "backbone_lr_ratio", "layer_decay")}
    return {**{key: value for key, value in values.items() if key != "optimizer"}, **shared}


def _within(config: TrainConfig, epochs: int) -> TrainConfig:
    """Return a configuration of fewer epochs, whose warm-up and frozen epochs are as large a share."""
    schedule = config.schedule
    share = epochs / schedule.epochs
    values = config.model_dump(mode="json")
    values["schedule"] |= {
        "epochs": epochs,
        "warmup_epochs": schedule.warmup_epochs * share,
        "frozen_epochs": round(schedule.frozen_epochs * share),
    }
    return validate_config(values)
