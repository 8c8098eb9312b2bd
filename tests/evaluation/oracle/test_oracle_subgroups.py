"""Groups of images, and prediction sets, of `medsharp score`: each as if its images were all there are.

What it is for; these fail it: images of a group are resampled in place of its patients; the threshold is lost on the
way to it; a flag goes to other rows; a group of one class is given the figure of the other; prediction sets have one
quantile for every label, or that of another `--alpha`; sets of one class are right among all images; a site's
coverage is that of the other sites.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from brute_force import Images, about, decided, figures, replicated
from cohort import clusters_of, images_of
from reading import equal_figure, equal_value

LEAST = 20
LEAST_EVENTS = 10
OF_A_GROUP = 1000
"""Resamples that are taken of a group."""

ALPHA = 0.2
LOOKED_AT = ("auroc", "auprc", "sensitivity", "specificity", "ppv", "npv", "accuracy", "prevalence", "brier")
ALSO = ("net_benefit_at_threshold", "net_benefit_gain_at_threshold", "log_loss", "calibration_intercept", "aurc")


def groups_of(cohort: pd.DataFrame) -> Iterator[tuple[str, str, np.ndarray]]:
    """Every group that a reader would make by hand."""
    for column in ("site", "device", "birads", "histology"):
        for value in sorted(set(cohort[column])):
            yield column, value, (cohort[column] == value).to_numpy()
    sizes = pd.to_numeric(cohort["lesion_size_mm"])
    known = sorted(sizes.dropna())
    low, high = (np.interp(share * (len(known) - 1), np.arange(len(known)), known) for share in (1 / 3, 2 / 3))
    yield "lesion size", f"smallest third (up to {low:.3g})", (sizes <= low).to_numpy()
    yield "lesion size", f"middle third ({low:.3g} to {high:.3g})", ((sizes > low) & (sizes <= high)).to_numpy()
    yield "lesion size", f"largest third (above {high:.3g})", (sizes > high).to_numpy()
    yield "lesion size", "not recorded", sizes.isna().to_numpy()
    for flag in ("blurred", "dark"):
        yield "flag", flag, np.array([flag in text.split(";") for text in cohort["flags"]])
    yield "flag", "no flag", (cohort["flags"] == "").to_numpy()


def fewest_of_its_kind(name: str, part: Images) -> float:
    """How many images there are of the kind that a figure is about, or of the rarer kind where it needs both."""
    alone = about(part)
    if name in ("sensitivity", "specificity", "ppv", "npv"):
        return float(alone[name].sum())
    either = min(part.y.sum(), (~part.y).sum())
    return float("inf") if name in ("accuracy", "prevalence", "brier", "log_loss", "aurc") else float(either)


def test_every_group_has_the_figures_of_its_own_images(entry: dict[str, Any], cohort: pd.DataFrame) -> None:
    whole = images_of(cohort)
    told = {(group["by"], group["group"]): group for group in entry["subgroups"]}
    expected = {(by, name): mask for by, name, mask in groups_of(cohort)}
    assert set(told) == set(expected)
    seen = {"whole": 0, "one class": 0, "few": 0, "few of a kind": 0}
    for key, mask in expected.items():
        group, part = told[key], whole.chosen(mask)
        assert (group["images"], group["positives"], group["clusters"]) == (
            len(part.y), part.y.sum(), part.patients(),
        )  # fmt: skip
        if len(part.y) < LEAST:
            seen["few"] += 1
            assert "auroc" not in group
            assert "sensitivity" not in group
        elif part.y.all() or not part.y.any():
            seen["one class"] += 1
            assert "auroc" not in group
            name = "sensitivity" if part.y.all() else "specificity"
            assert ({"sensitivity", "specificity"} & set(group)) == {name}
            found = replicated(part, lambda w, part=part: decided(part, w), count=2000)
            equal_figure(group[name], found[name], part, name=f"{key} {name}", drawn=OF_A_GROUP)
        else:
            seen["whole"] += 1
            found = replicated(part, lambda w, part=part: figures(part, w, dear=False), count=2000)
            for name in (*LOOKED_AT, *ALSO):
                if fewest_of_its_kind(name, part) < LEAST_EVENTS:
                    seen["few of a kind"] += 1
                    assert group[name]["value"] is None, (key, name)
                    assert "least" in group[name]["reason"]
                elif group[name]["low"] is None:
                    equal_value(group[name], found[name].value, f"{key} {name}")
                    assert group[name]["reason"]
                else:
                    equal_figure(group[name], found[name], part, about(part).get(name), f"{key} {name}", OF_A_GROUP)
    assert min(seen.values()) >= 1, seen
    assert seen["whole"] > 10


def conformal_quantile(scores: np.ndarray) -> float:
    """The smallest score that at least (n + 1)(1 - alpha) of the n scores do not exceed; infinite if there is none."""
    for score in sorted(scores):
        if (scores <= score).sum() >= (len(scores) + 1) * (1 - ALPHA) - 1e-9:
            return float(score)
    return float("inf")


@pytest.mark.parametrize("kind", ["marginal", "label_conditional"])
def test_prediction_sets_are_those_of_a_loop(
    entry: dict[str, Any], cohort: pd.DataFrame, calibration: pd.DataFrame, kind: str
) -> None:
    classes = ("benign", "malignant")
    own = np.array([1 - row[f"p_{row['label']}"] for _, row in calibration.iterrows()])
    label = calibration["label"].to_numpy()
    limits = {name: conformal_quantile(own if kind == "marginal" else own[label == name]) for name in classes}
    part = entry["conformal"][kind]
    assert entry["conformal"]["alpha"] == ALPHA
    assert part["quantiles"] == pytest.approx(limits)
    sets = [{name for name in classes if 1 - row[f"p_{name}"] <= limits[name]} for _, row in cohort.iterrows()]
    covered = np.array([truth in found for truth, found in zip(cohort["label"], sets, strict=True)])
    size = np.array([len(found) for found in sets])
    everyone = np.ones(len(cohort), dtype=bool)
    images = Images(covered, size.astype(float), clusters_of(cohort))
    shares = {
        "coverage": (covered, everyone),
        "single": (size == 1, everyone),
        "empty": (size == 0, everyone),
        "right_when_single": (covered, size == 1),
    }
    shares |= {f"label {name}": (covered, (cohort["label"] == name).to_numpy()) for name in classes}
    sites = [name for name in sorted(set(cohort["site"])) if (cohort["site"] == name).sum() >= LEAST]
    shares |= {f"site {name}": (covered, (cohort["site"] == name).to_numpy()) for name in sites}

    def statistic(w: np.ndarray) -> dict[str, np.ndarray]:
        values = {}
        for name, (right, among) in shares.items():
            whole = w[:, among].sum(axis=1)
            values[name] = np.where(whole > 0, w[:, among & right].sum(axis=1) / np.maximum(whole, 1e-9), np.nan)
        return values | {"set_size": w @ size / w.sum(axis=1)}

    found = replicated(images, statistic)
    told = {name: part[name] for name in ("coverage", "single", "empty", "right_when_single", "set_size")}
    told |= {f"label {name}": part["coverage_by_label"][name] for name in classes}
    told |= {f"site {row['site']}": row for row in part["by_site"]}
    assert set(told) == set(found)
    for name, figure in told.items():
        equal_figure(figure, found[name], images, shares[name][1] if name in shares else None, f"{kind} {name}")
