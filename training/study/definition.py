"""The file that a study is made of: what is trained on what, how settings are looked for, and what counts as proof."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from medsharp.errors import InputError, nearest
from medsharp.optim.catalogue import optimizer_info
from medsharp.optimizer_config import METHODS, methods_in_use
from medsharp.robustness.corruptions import list_corruptions
from medsharp.settings import Section, about
from medsharp.yaml_text import read_yaml

Budget = Literal["epochs", "gradients"]
Kind = Literal["cnn", "transformer"]
Says = Literal["improves", "does_not_improve", "inconsistent", "more_from_scratch"]
_NAME = r"^[a-z0-9][a-z0-9_.-]*$"


class Hospital(Section):
    """A hospital whose patients are dealt into folds to train on, and which is external to every other one."""

    name: str = Field(pattern=_NAME, description="as tables call it, in small letters")
    site: str = Field(description="the site of its images in the data")
    settings: dict[str, Any] = Field({}, description="sections of a training configuration that hold there")
    epochs_share: float = Field(1.0, gt=0, le=1, description="of every network's epochs, where there are many images")


class Network(Section):
    """A network and how it is trained, the same for every optimizer."""

    name: str = Field(pattern=_NAME, description="as tables call it, in small letters")
    kind: Kind = Field(description="cnn or transformer, which claims may speak of")
    settings: dict[str, Any] = Field({}, description="sections of a training configuration; `network` above all")


class Span(Section):
    """Where a value is looked for."""

    low: float = Field(gt=0, description="the smallest")
    high: float = Field(gt=0, description="the largest")
    times: bool = Field(False, description="both are factors on the value that the settings give")

    @model_validator(mode="after")
    def _ordered(self) -> Span:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        return self


class Optimizer(Section):
    """An optimizer, with settings of its own and where they are looked for."""

    name: str = Field(description="the method; `medsharp train --help` lists them")
    settings: dict[str, Any] = Field({}, description="its keys under `optimizer`, such as {rho: 0.05}")
    search: dict[str, Span] = Field({}, description="its own settings that are looked for, such as rho")
    train_on: tuple[str, ...] | None = Field(None, description="hospitals it is trained on; by default all")

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return optimizer_info(name).name


class Search(Section):
    """How settings are chosen: the same number of trials for each optimizer, on validation images alone."""

    trials: int = Field(1, ge=1, le=1000, description="of each optimizer, network, hospital and fold")
    lr: Span | None = Field(None, description="where the learning rate is looked for, the same for all")
    criterion: Literal["val_auroc", "val_loss"] = Field("val_auroc", description="by which the best trial is chosen")
    pruning: Literal["none", "asha"] = Field(
        "none", description="asha: end trials early that are worse than others after as many epochs"
    )


class Robustness(Section):
    """What the tested images of the same hospital are changed by, when the report reads them."""

    corruptions: tuple[str, ...] = Field((), description="such as speckle_statistics; `medsharp robustness` lists them")
    severity: int = Field(3, ge=1, le=5, description="of all of them")

    @field_validator("corruptions")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in list_corruptions():
                raise ValueError(f"'{name}' is no corruption{nearest(name, list_corruptions())}")
        return names


class Rule(Section):
    """By what a claim is decided; fixed before the first run."""

    equivalence: float = Field(0.01, gt=0, lt=0.5, description="AUROC that makes no difference")
    probability: float = Field(0.95, gt=0.5, lt=1, description="posterior probability that decides")


class Claim(Section):
    """A sentence that the study decides."""

    name: str = Field(description="the sentence")
    says: Says = Field(
        description="improves, does_not_improve, inconsistent: better here and worse there, or more_from_scratch: "
        "better than the reference by more where networks begin from random weights than from pretrained ones"
    )
    optimizer: str = Field(description="of which it speaks")
    networks: tuple[str, ...] = Field((), description="names or kinds of networks; by default all")

    @field_validator("optimizer")
    @classmethod
    def _known(cls, name: str) -> str:
        return optimizer_info(name).name


class StudyDefinition(Section):
    """A study."""

    name: str = Field(pattern=_NAME, description="of the study, in small letters")
    question: str = Field("", description="what it asks, for the report")
    seed: int = Field(0, ge=0, description="of how settings are looked for and patients resampled")
    base: dict[str, Any] = Field({}, description="sections of a training configuration that all runs share")
    hospitals: tuple[Hospital, ...] = Field(min_length=1, description="which are trained on, each by itself")
    networks: tuple[Network, ...] = Field(min_length=1, description="which are trained")
    optimizers: tuple[Optimizer, ...] = Field(min_length=2, description="which are compared")
    reference: str = Field("adam", description="the optimizer that the others are compared with")
    folds: int = Field(5, ge=3, le=20, description="of each hospital; each is tested once, and the next one validates")
    use_folds: int | None = Field(None, ge=2, description="train for the first so many folds only")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="of each fold; the first one's runs choose settings")
    budgets: tuple[Budget, ...] = Field(
        ("epochs",),
        min_length=1,
        description="epochs: as many for each; gradients: as many passes: half the epochs for SAM",
    )
    search: Search = Field(Search(), description=about(Search))
    robustness: Robustness = Field(Robustness(), description=about(Robustness))
    rule: Rule = Field(Rule(), description=about(Rule))
    claims: tuple[Claim, ...] = Field((), description="what is decided")

    @field_validator("reference")
    @classmethod
    def _known(cls, name: str) -> str:
        return optimizer_info(name).name

    @model_validator(mode="after")
    def _consistent(self) -> StudyDefinition:
        for key in ("hospitals", "networks", "optimizers"):
            _refuse_twice(key, [entry.name for entry in getattr(self, key)])
        _refuse_twice("seeds", self.seeds)
        _refuse_twice("budgets", self.budgets)
        if self.use_folds is not None and self.use_folds > self.folds:
            raise ValueError(f"use_folds {self.use_folds} is more than folds {self.folds}")
        names = [optimizer.name for optimizer in self.optimizers]
        if self.reference not in names:
            raise ValueError(f"reference '{self.reference}' is not among optimizers {names}")
        if self.search.trials > 1 and self.search.lr is None:
            raise ValueError(
                f"search has {self.search.trials} trials and no lr, so that {self.reference} has nothing to try"
            )
        if self.search.pruning != "none":
            self._check_pruning()
        self._check_optimizers()
        self._check_claims(names)
        return self

    def _check_pruning(self) -> None:
        """Refuse to end trials early where the study decides: methods that learn late lose their best settings."""
        key = f"search.pruning {self.search.pruning}"
        if "gradients" in self.budgets:
            raise ValueError(
                f"{key} compares trials after as many epochs, which are not as many gradients; leave it out, or have "
                "budgets [epochs] alone"
            )
        if self.claims:
            raise ValueError(
                f"{key} ends trials by their first epochs, which favours settings that learn fast, for some optimizers "
                "more than for others; leave it out of a study with claims"
            )

    def _check_optimizers(self) -> None:
        hospitals = [hospital.name for hospital in self.hospitals]
        for optimizer in self.optimizers:
            for key in ("lr", "weight_decay", "name"):
                if key in optimizer.settings:
                    raise ValueError(f"optimizers: {optimizer.name} has its own {key}, which must be the same for all")
            base = str(_deep(self.base, "optimizer", "base") or "adamw")
            known = {key for method in methods_in_use(optimizer.name, base) for key in METHODS[method].model_fields}
            for key in optimizer.search:
                if key not in known:
                    raise ValueError(f"optimizers: {optimizer.name} has no setting '{key}'{nearest(key, known)}")
                if key not in optimizer.settings and METHODS[optimizer.name]().model_dump().get(key) is None:
                    raise ValueError(f"optimizers: {optimizer.name} looks for {key}; give the first value in settings")
            for name in optimizer.train_on or ():
                if name not in hospitals:
                    raise ValueError(f"train_on '{name}' of {optimizer.name} is not one of hospitals {hospitals}")
        reference = next(entry for entry in self.optimizers if entry.name == self.reference)
        if reference.train_on is not None and set(reference.train_on) < set(hospitals):
            raise ValueError(f"reference {reference.name} must be trained on all hospitals")

    def _check_claims(self, optimizers: Sequence[str]) -> None:
        known = {*(network.name for network in self.networks), *get_args(Kind)}
        for claim in self.claims:
            if claim.optimizer not in optimizers or claim.optimizer == self.reference:
                raise ValueError(f"claim '{claim.name}': {claim.optimizer} is not compared with {self.reference}")
            for name in claim.networks:
                if name not in known:
                    raise ValueError(f"claim '{claim.name}': '{name}' is no network{nearest(name, known)}")
            of = self.networks_of(claim)
            if not of:
                raise ValueError(f"claim '{claim.name}' is of networks that the study does not have")
            if claim.says == "more_from_scratch" and len({name in self.pretrained for name in of}) < 2:
                raise ValueError(f"claim '{claim.name}' needs networks from scratch and pretrained ones")

    def networks_of(self, claim: Claim) -> tuple[str, ...]:
        """The names of the networks that a claim speaks of."""
        asked = set(claim.networks)
        return tuple(one.name for one in self.networks if not asked or {one.name, one.kind} & asked)

    @property
    def pretrained(self) -> frozenset[str]:
        """The names of the networks that begin from weights of other images, published ones or a checkpoint's."""
        sections = {one.name: merged(self.base, one.settings).get("network", {}) for one in self.networks}
        return frozenset(
            name for name, section in sections.items() if section.get("pretrained") or section.get("checkpoint")
        )

    @property
    def fold_numbers(self) -> range:
        """The folds that are tested, from 0."""
        return range(self.use_folds or self.folds)

    def registered(self) -> str:
        """Return all that figures and verdicts depend on as canonical JSON: what `digest` is made of.

        Where the data lie is no part of it, nor on what and how fast the runs are trained.
        """
        values = self.model_dump(mode="json", exclude={"name", "question"})
        values["base"] = without_place(values["base"])
        if values["search"]["pruning"] == "none":
            del values["search"]["pruning"]  # studies were registered before there was the key
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """Return the SHA-256 of `registered`."""
        return hashlib.sha256(self.registered().encode()).hexdigest()


def without_place(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return sections of a training configuration without what decides nothing: paths, cache, device, workers."""
    left_out = {"data": {"path", "source", "cache"}, "run": {"device", "workers"}}
    return {
        name: {key: value for key, value in section.items() if key not in left_out.get(name, ())}
        if isinstance(section, Mapping)
        else section
        for name, section in sections.items()
    }


def load_study(path: str | Path) -> StudyDefinition:
    """Read a study file.

    Raises:
        InputError: It cannot be read, or a key or value is wrong; the sentence names the key.
    """
    return validate_study(read_yaml(path), str(path))


def validate_study(values: dict[str, Any], origin: str) -> StudyDefinition:
    """Turn plain values into a study.

    Raises:
        InputError: As `load_study`.
    """
    try:
        return StudyDefinition.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{origin}: {_sentence(error.errors()[0])}") from error


def dump_study(study: StudyDefinition) -> str:
    """Write a study as YAML that `load_study` reads back to an equal one."""
    return yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=110)


def merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return sections put over each other, the later ones on top; what they hold is copied."""
    result: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            below = result.get(key)
            is_section = isinstance(value, Mapping)
            result[key] = merged(below if isinstance(below, Mapping) else {}, value) if is_section else value
    return result


def _deep(values: Any, *keys: str) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values


def _refuse_twice(key: str, values: Sequence[Any]) -> None:
    twice = next((value for value in values if list(values).count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"{key} has {twice} twice")


def _sentence(error: Any) -> str:
    location = list(error["loc"])
    key = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        return f"unknown key '{key}'{nearest(str(location[-1]), _keys_at(location[:-1]))}"
    if error["type"] == "missing":
        return f"{key} is missing"
    message = error["msg"].removeprefix("Value error, ")
    given = error.get("input")
    shown = f" = {given!r}" if isinstance(given, (str, int, float)) else ""
    return f"{key}{shown}: {message}" if key else message


def _keys_at(location: Sequence[str | int]) -> list[str]:
    model: Any = StudyDefinition
    for part in location:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        model = next(_models_in(model.model_fields[part].annotation), model)
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[Any]:
    if hasattr(annotation, "model_fields"):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
