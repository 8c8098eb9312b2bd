"""Predictions of all members, pooled: what each leaves out, by the operating point that its own hospitals give it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medsharp.bundle import OperatingPoint
from medsharp.config import TrainConfig
from medsharp.errors import InputError
from medsharp.evaluation import auroc
from medsharp.evaluation.frozen import threshold_columns
from medsharp.evaluation.statistics.operating_point import choose_operating_point
from medsharp.export.calibration import Temperature, estimate_temperature
from medsharp.inference.predictor import softmax
from medsharp.keys import clusters_of
from medsharp.runs import Run
from training.crossvalidation.plan import Member

_LEAST_SHARE = 1e-30
_ABOUT = ("image", "patient", "site", "label", "group", "device", "birads")


@dataclass(frozen=True)
class Unit:
    """Members that leave out the same: a hospital, or a fold.

    Attributes:
        name: Of its folder.
        left_out: The site; empty for a fold.
        members: Their names.
        members_auroc: Of each member by itself, on what is left out.
        predictions: A row an image left out: the mean of the members' probabilities, scaled by the temperature, and
            the threshold.
        out_of_fold: What decided: images that the members did not learn from, of the hospitals that they did.
        temperature: Fitted on those.
        point: Chosen on those.
    """

    name: str
    left_out: str
    members: tuple[str, ...]
    members_auroc: tuple[float, ...]
    predictions: pd.DataFrame
    out_of_fold: pd.DataFrame
    temperature: Temperature
    point: OperatingPoint


def member_table(root: Path, members: Sequence[Member]) -> pd.DataFrame:
    """Return every row of every member's predictions, with `member`, `left_out` and `fold` in front.

    Raises:
        InputError: A member is not finished, or its predictions are damaged.
    """
    tables = []
    for member in members:
        table = Run.load(root / member.name).predictions().reset_index(drop=True)
        fold = "" if member.fold is None else str(member.fold)
        front = pd.DataFrame({"member": member.name, "left_out": member.left_out, "fold": fold}, index=table.index)
        tables.append(pd.concat([front, table], axis=1))
    return pd.concat(tables, ignore_index=True)


def make_units(table: pd.DataFrame, members: Sequence[Member], config: TrainConfig, sensitivity: float) -> list[Unit]:
    """Pool the members that leave out the same.

    What decides temperature and threshold: with a site left out, the validation images of its members, each by the
    member that did not learn from it; with a fold tested, the validation images of its member; with a fold that
    validates (`data.fold_role: val`), the other folds, each by the member that did not learn from it.

    Args:
        table: As `member_table` gives it.
        members: All of them.
        config: What they share.
        sensitivity: What the operating point reaches on what decides.

    Raises:
        InputError: The images that decide are of one class, or members of a unit predict different images.
    """
    by_unit: dict[str, list[Member]] = {}
    for member in members:
        by_unit.setdefault(member.unit, []).append(member)
    validates = config.data.fold_role == "val"
    parts: Mapping[str, pd.DataFrame] = dict(list(table.groupby("member", sort=False)))
    units = []
    for name, own in by_unit.items():
        tested = "val" if validates and not own[0].left_out else "test"
        if tested == "val":
            deciding = [parts[member.name] for member in members if member.unit != name]
        else:
            deciding = [parts[member.name] for member in own]
        decides = pd.concat([part[part["split"] == "val"] for part in deciding])
        left = [parts[member.name][parts[member.name]["split"] == tested] for member in own]
        units.append(_unit(name, own, left, decides, config, sensitivity))
    return units


def _unit(
    name: str,
    members: Sequence[Member],
    left: Sequence[pd.DataFrame],
    decides: pd.DataFrame,
    config: TrainConfig,
    sensitivity: float,
) -> Unit:
    classes, positive = list(config.data.classes), config.data.positive
    number = classes.index(positive)
    logits, labels = _logits(decides, classes), np.array([classes.index(label) for label in decides["label"]])
    temperature = estimate_temperature(logits, labels)
    point = choose_operating_point(
        softmax(logits / temperature.value)[:, number],
        labels == number,
        sensitivity,
        clusters=clusters_of(decides),
        where="images out of the members' folds",
    )
    origin = f"sensitivity {sensitivity:g} on images out of the members' folds"
    first = left[0].reset_index(drop=True)
    answers = [_aligned(first, table, name) for table in left]
    shares = np.stack([softmax(_logits(table, classes)) for table in answers])  # [members, N, C]
    # The logits of a mean are its logarithm, as in an exported ensemble.
    mean = softmax(np.log(np.maximum(shares.mean(axis=0), _LEAST_SHARE)) / temperature.value)
    fold = "mean" if len(members) > 1 else str(first["fold"].iloc[0])
    rows = first[[column for column in _ABOUT if column in first]].assign(fold=fold, left_out=members[0].left_out)
    rows = rows.assign(**{f"p_{label}": mean[:, column] for column, label in enumerate(classes)})
    positives = (first["label"] == positive).to_numpy(dtype=bool)
    return Unit(
        name=name,
        left_out=members[0].left_out,
        members=tuple(member.name for member in members),
        members_auroc=tuple(auroc(positives, _odds(_logits(table, classes), number)) for table in answers),
        predictions=rows.assign(**threshold_columns(point.threshold, positive, origin)),
        out_of_fold=decides.drop(columns="split"),
        temperature=temperature,
        point=point,
    )


def _aligned(first: pd.DataFrame, table: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Return a table in the order of the first one's images."""
    if set(first["image"]) != set(table["image"]) or len(first) != len(table):
        raise InputError(f"the members of {unit} do not predict the same images; train it again in another folder")
    return table.set_index("image").loc[first["image"]].reset_index()


def _logits(table: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    return table[[f"logit_{label}" for label in classes]].to_numpy(dtype=np.float64)


def _odds(logits: np.ndarray, positive: int) -> np.ndarray:
    """Return what ranks images as the probability of the positive class does, without ties where that is 0 or 1."""
    rest = np.delete(logits, positive, axis=1)
    return logits[:, positive] - np.logaddexp.reduce(rest, axis=1)
