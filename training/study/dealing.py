"""Dealing a study's images: what folds learn from lies open, what is tested is sealed in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from medsharp.config import DataConfig, validate_config
from medsharp.data.leaks import assert_no_leak
from medsharp.data.manifest import Manifest
from medsharp.data.prepare import split_as
from medsharp.errors import InputError, nearest
from medsharp.keys import clusters_of, site_key
from training.study.definition import Hospital, StudyDefinition
from training.study.open_data import write_open
from training.study.sealed import seal


def data_config(study: StudyDefinition) -> DataConfig:
    """Return where a study's images are and what their classes are.

    Raises:
        InputError: A key or value is wrong.
    """
    return validate_config({"data": study.base.get("data", {})}, f"study {study.name}, base").data


def deal(root: Path, study: StudyDefinition, manifest: Manifest) -> dict[str, str]:
    """Write what each fold learns from, and seal what is tested.

    Args:
        root: The study's folder.
        study: Its hospitals and folds.
        manifest: All images, tied.

    Returns:
        The digest of what lies open, by hospital and fold, such as `busi/fold-0`.

    Raises:
        InputError: A hospital is not in the data, or has too few patients for its folds.
    """
    rows = {hospital.name: _rows_of(manifest, hospital) for hospital in study.hospitals}
    clusters = pd.Series(clusters_of(manifest.included), index=manifest.included.index)
    config = data_config(study)
    digests = {}
    for name, own in rows.items():
        here = manifest.replace(table=_without_split(own))
        for other, theirs in rows.items():
            if other != name:
                # Whoever is at both hospitals, or is shown on a near-copy, would not be new to the network.
                new = theirs[~clusters[theirs.index].isin(set(clusters[own.index]))]
                if new["label"].nunique() < 2:
                    raise InputError(f"{manifest.info.name}: no image of both classes at {other} that is new to {name}")
                external = manifest.replace(table=_without_split(new).assign(split="test"))
                seal(root, f"{name}/external-{other}", external)
        for fold in study.fold_numbers:
            role = {
                "folds": study.folds,
                "fold": fold,
                "fold_role": "test",
                "leave_site": None,
                "official_folds": None,
            }
            split = split_as(config.model_copy(update=role), here)
            place = f"{name}/fold-{fold}"
            table = split.included
            seal(root, place, split.replace(table=table[table["split"] == "test"].reset_index(drop=True)))
            learned = split.replace(table=table[table["split"] != "test"].reset_index(drop=True))
            assert_no_leak(split)
            digests[place] = write_open(root, place, learned)
    return digests


def _rows_of(manifest: Manifest, hospital: Hospital) -> pd.DataFrame:
    rows = manifest.included
    sites = sorted(set(rows["site"]) - {""})
    keys = rows["site"].map({site: site_key(site) for site in rows["site"].unique()})
    own = rows[keys == site_key(hospital.site)]
    if own.empty or not site_key(hospital.site):
        raise InputError(f"{manifest.info.name} has no site '{hospital.site}'{nearest(hospital.site, sites)}")
    return own


def _without_split(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(split="").reset_index(drop=True)
