"""The data of the oracle tests: few images alike in anything, so that no two wrong turns cancel.

Patients have one to six images that agree with each other, some of them of both classes; classes, sites and groups are
of unequal size; probabilities are too high, tied in places, and one image lies at the threshold itself. Patients are
named as hospitals name them, some not at all, and two of them share a group of near-duplicates.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from brute_force import Images

THRESHOLD = 0.37
SITES = ("North", "South", "East", "West", "Mill")


def make_cohort(patients: int = 120, seed: int = 3, shift: float = 0.6, quality: float = 2.2) -> pd.DataFrame:
    """A table of predictions of a model, with everything that an evaluation groups by."""
    rng = np.random.default_rng(seed)
    images = rng.choice([1, 2, 3, 6], size=patients, p=[0.3, 0.3, 0.25, 0.15])
    who = np.repeat(np.arange(patients), images)
    count = len(who)
    ill = (rng.random(patients) < 0.32)[who]
    y = np.where(rng.random(count) < 0.04, ~ill, ill)  # some patients have images of both classes
    odds = quality * y - 1.6 + shift + 1.3 * rng.normal(size=patients)[who] + 0.4 * rng.normal(size=count)
    p = np.round(1 / (1 + np.exp(-1.4 * odds)), 3).clip(0.001, 0.999)
    p[5] = THRESHOLD
    site = rng.choice(len(SITES), size=patients, p=[0.45, 0.25, 0.15, 0.13, 0.02])[who]
    device = np.where(rng.random(patients) < 0.7, "A1", "Z9")[who]
    birads = np.where(p > 0.75, "5", np.where(p > 0.4, "4", np.where(p > 0.15, "3", "2")))
    histology = np.where(y, np.where(rng.random(count) < 0.6, "ductal", "lobular"), "fibroadenoma")
    flags = np.where(rng.random(count) < 0.12, "blurred", "")
    flags = np.where(rng.random(count) < 0.10, np.where(flags == "", "dark", "blurred;dark"), flags)
    size = np.round(np.exp(rng.normal(2.4, 0.5, size=count)), 1)
    order = rng.permutation(count)
    table = pd.DataFrame(
        {
            "image": [f"scan-{number:04d}.png" for number in range(count)],
            "patient": [f"P{number % (0.8 * patients):03.0f}" for number in who],  # two sites call two patients alike
            "group": "",
            "site": [SITES[place] for place in site],
            "device": device,
            "birads": birads,
            "histology": histology,
            "lesion_size_mm": [str(s) if rng.random() > 0.1 else "" for s in size],
            "flags": flags,
            "label": np.where(y, "malignant", "benign"),
            "p_benign": 1 - p,
            "p_malignant": p,
        }
    )
    singles = table.index[table["patient"].map(table["patient"].value_counts()) == 1]
    table.loc[singles[:6], "patient"] = ""
    table.loc[[0, count - 1], "group"] = "twin"  # the first and the last patient are one as near-duplicates
    return table.iloc[order].reset_index(drop=True)


def clusters_of(table: pd.DataFrame) -> np.ndarray:
    """What must be resampled together: patients of a site, images without one alone, near-duplicates tied."""
    name = [
        f"{site}/{patient}" if patient else f"image {image}"
        for site, patient, image in zip(table["site"], table["patient"], table["image"], strict=True)
    ]
    for group in set(table["group"]) - {""}:
        tied = {name[place] for place in np.flatnonzero(table["group"] == group)}
        name = [min(tied) if one in tied else one for one in name]
    return np.unique(name, return_inverse=True)[1]


def images_of(table: pd.DataFrame, threshold: float = THRESHOLD, positive: str = "malignant") -> Images:
    """A table as the brute force takes it."""
    labels = (table["label"] == positive).to_numpy(dtype=bool)
    return Images(labels, table[f"p_{positive}"].to_numpy(dtype=float), clusters_of(table), threshold)


def make_second_model(table: pd.DataFrame, seed: int = 8, noise: float = 1.2) -> pd.DataFrame:
    """Another model's answers to the same images, better on some patients and worse on others; rows shuffled."""
    rng = np.random.default_rng(seed)
    patients = np.unique(table["patient"])
    error = dict(zip(patients, rng.normal(scale=noise, size=len(patients)), strict=True))
    odds = np.log(table["p_malignant"] / table["p_benign"])
    moved = 0.7 * odds + table["patient"].map(error) + 0.5 * rng.normal(size=len(table))
    p = np.round(1 / (1 + np.exp(-moved)), 3).clip(0.001, 0.999)
    return table.assign(p_malignant=p, p_benign=1 - p).sample(frac=1, random_state=seed).reset_index(drop=True)
