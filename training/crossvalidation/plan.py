"""Which runs a cross-validation is made of: what each leaves out, and its settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from medsharp.config import TrainConfig, validate_config
from medsharp.data.manifest import Manifest
from medsharp.data.prepare import check_folds
from medsharp.errors import InputError
from medsharp.keys import patients_of, united_sites

By = Literal["site", "fold", "patient"]

DEFAULT_FOLDS = 5


@dataclass(frozen=True)
class Member:
    """One run of a cross-validation.

    Attributes:
        name: Of its folder, such as `leave-busi/fold-0`.
        unit: What is predicted by this member and others together: the folder above a fold's, or its own.
        left_out: The site that it leaves out; empty where it leaves out a fold.
        fold: Its fold; None where the other sites are split by fractions.
        config: What it is trained with.
    """

    name: str
    unit: str
    left_out: str
    fold: int | None
    config: TrainConfig


def settled_config(config: TrainConfig, by: By, folds: int | None) -> TrainConfig:
    """Return the configuration that all members share, with its number of folds.

    Raises:
        InputError: Folds are asked for in two ways, or the configuration is that of one fold or site already.
    """
    data = config.data
    if data.leave_site is not None:
        raise InputError("data.leave_site is of one run; --by site leaves every hospital out once")
    if folds is not None and data.official_folds is not None:
        raise InputError("give one of --folds and data.official_folds, not both")
    if by != "fold" and data.official_folds is not None:
        raise InputError(f"data.official_folds goes with --by fold, not with --by {by}")
    count = folds or data.folds or (None if by == "site" or data.official_folds else DEFAULT_FOLDS)
    settled = changed(config, folds=count, fold=0)
    if by != "site":
        check_folds(settled.data)
    return settled


def plan_members(config: TrainConfig, manifest: Manifest, by: By) -> tuple[Member, ...]:
    """Return the runs of a cross-validation, in the order in which they are trained.

    Args:
        config: As `settled_config` gives it.
        manifest: All images, tied.
        by: `site` leaves out each hospital once; with `data.folds`, each by as many members as there are folds, dealt
            among the others. `fold` deals all images to folds, of which each is left out once. `patient` is the same
            for data whose every patient is known, so that no image of a fold can be of a patient outside it.

    Raises:
        InputError: There are fewer than two sites, or a site or patient is not known.
    """
    if by == "site":
        return tuple(_by_site(config, manifest))
    if by == "patient":
        _check_patients(manifest)
    count = config.data.folds or config.data.official_folds or 0
    names = [f"fold-{fold}" for fold in range(count)]
    return tuple(Member(name, name, "", fold, changed(config, fold=fold)) for fold, name in enumerate(names))


def changed(config: TrainConfig, **data: Any) -> TrainConfig:
    """Return a configuration with other values in its section `data`, checked again."""
    values = config.model_dump(mode="json")
    return validate_config({**values, "data": {**values["data"], **data}})


def _by_site(config: TrainConfig, manifest: Manifest) -> list[Member]:
    rows = manifest.included
    sites = united_sites(rows["site"])[0]
    known = list(dict.fromkeys(site for site in sites if site))
    if len(known) < 2:
        found = f"'{known[0]}' alone" if known else "no site"
        remedy = "told apart by the column 'site' of each" if manifest.parts else "such as two --data"
        raise InputError(f"{manifest.info.name} names {found}; --by site needs two hospitals or more, {remedy}")
    members = []
    for site, unit in zip(known, _unit_names(known, sites, rows, bool(manifest.parts)), strict=True):
        folds: Sequence[int | None] = range(config.data.folds) if config.data.folds else [None]
        for fold in folds:
            name = unit if fold is None else f"{unit}/fold-{fold}"
            members.append(Member(name, unit, site, fold, changed(config, leave_site=site, fold=fold or 0)))
    return members


def _unit_names(known: Sequence[str], sites: pd.Series, rows: pd.DataFrame, parts: bool) -> list[str]:
    """Name what leaves out each site by its data set where that is of this site alone, else by the site."""
    heads = rows["image"].str.partition("/")[0] if parts else pd.Series("", index=rows.index)
    names: list[str] = []
    for site in known:
        own = set(heads[sites == site])
        alone = parts and len(own) == 1 and set(sites[heads.isin(own)]) == {site}
        text = own.pop() if alone else site
        slug = re.sub(r"[\W_]+", "-", text.lower()).strip("-") or "site"
        name = f"leave-{slug}"
        while name in names:
            name += "-2"
        names.append(name)
    return names


def _check_patients(manifest: Manifest) -> None:
    rows = manifest.included
    unknown = rows.index[patients_of(rows) == ""]
    if len(unknown):
        raise InputError(
            f"{manifest.info.name}: the patient of {len(unknown)} of {len(rows)} images is not known (such as "
            f"{rows.at[unknown[0], 'image']}), so that --by patient cannot promise anything; --by fold keeps known "
            "patients and near-duplicates together"
        )
