"""Predictions of a study that was never trained, whose answer is known."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from training.study.comparisons import Grid
from training.study.definition import StudyDefinition, validate_study
from training.study.figures import figure_table

from .conftest import study_values


def simulated(
    effects: Mapping[str, float | Mapping[str, float]],
    *,
    images: int = 150,
    folds: int = 4,
    seeds: int = 2,
    chance: float = 0.02,
) -> Grid:
    """Predictions whose log odds are label, patient and noise.

    An optimizer's effect, which may be by network, is added to the label's.
    """
    rng = np.random.default_rng(5)
    cells: list[tuple[Any, dict[str, Any]]] = []
    readings = {}
    outside = {"south": rng.standard_normal(2 * images), "north": rng.standard_normal(2 * images)}
    for hospital, other in (("north", "south"), ("south", "north")):
        for network in ("small", "large"):
            for fold in range(folds):
                inside = np.random.default_rng([fold, len(hospital), ord(hospital[0])]).standard_normal(images)
                for seed in range(seeds):
                    for name, effect in effects.items():
                        run = f"{hospital}{network}{fold}{seed}{name}"
                        here = effect[network] if isinstance(effect, Mapping) else effect
                        strength = 1.0 + here + chance * rng.standard_normal()
                        parts = {
                            "train": (2, np.tile(inside, 2)),
                            "internal": (0, inside),
                            f"external {other}": (-0.3, outside[other]),
                        }
                        tables = [_predicted(part, strength + more, noise) for part, (more, noise) in parts.items()]
                        readings[run] = pd.concat(tables, ignore_index=True)
                        record = {"hospital": hospital, "network": network, "optimizer": name, "fold": fold}
                        cells.append((None, {**record, "budget": "epochs", "seed": seed, "run": run}))
    return Grid(figure_table(cells, readings, "malignant"), readings, "malignant")


def _predicted(part: str, strength: float, noise: np.ndarray) -> pd.DataFrame:
    labels = np.arange(len(noise)) % 3 == 0
    share = 1 / (1 + np.exp(-(strength * (2 * labels - 1) + noise)))
    names = [f"{part}-{number}" for number in range(len(noise))]
    text = {"part": part, "image": names, "patient": names, "site": "x", "group": ""}
    label = np.where(labels, "malignant", "benign")
    return pd.DataFrame({**text, "label": label, "p_benign": 1 - share, "p_malignant": share})


def study_of(*claims: dict[str, Any], pretrained: Collection[str] = ()) -> StudyDefinition:
    """Return the study that `simulated` is of."""
    return validate_study(
        study_values(
            ("a", "b"),
            hospitals=[{"name": "north", "site": "n"}, {"name": "south", "site": "s"}],
            networks=[
                {
                    "name": name,
                    "kind": "cnn",
                    "settings": {"network": {"name": "resnet10_w16", "pretrained": name in pretrained}},
                }
                for name in ("small", "large")
            ],
            optimizers=[{"name": "adam"}, {"name": "sam"}, {"name": "asam"}],
            claims=list(claims),
        ),
        "study",
    )
