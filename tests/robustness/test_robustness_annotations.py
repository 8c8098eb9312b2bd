"""Annotations and their controls: what a control leaves as it is, the paired difference, and what may be claimed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsharp.evaluation.statistics.bootstrap import draw
from medsharp.robustness import Cell, Judge, Resamples, against_controls, describe, measure_robustness, sentence_of
from medsharp.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt, find_corruptions, list_corruptions

PATCHES = [name for name in list_corruptions("control") if name.endswith("_patch")]

# Nine patients, two images of the first three; clean answers at threshold 0.5.
PATIENT = np.array([0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8])
LABELS = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0], dtype=bool)
CLEAN = np.array([0.9, 0.8, 0.7, 0.2, 0.6, 0.3, 0.2, 0.1, 0.1, 0.4, 0.1, 0.2])
MARKED = np.array([0.9, 0.3, 0.2, 0.2, 0.6, 0.7, 0.2, 0.1, 0.9, 0.8, 0.1, 0.2])
BESIDE = np.array([0.9, 0.8, 0.2, 0.2, 0.6, 0.7, 0.2, 0.1, 0.1, 0.4, 0.1, 0.2])


def make_cells(judge: Judge, answers: dict[str, np.ndarray]) -> dict[tuple[str, int], Cell]:
    """Corrupted at severities 3 to 5 only, so that a mean over severities is not any one of them."""
    return {
        (name, severity): judge.judge(scores if severity > 2 else CLEAN, CLEAN)
        for name, scores in answers.items()
        for severity in SEVERITIES
    }


def test_the_difference_is_annotation_minus_control_over_all_severities_and_paired() -> None:
    judge = Judge(LABELS, 0.5, Resamples(PATIENT, 1000, 0))
    (test,) = against_controls(make_cells(judge, {"calipers": MARKED, "calipers_off_lesion": BESIDE}))
    assert (test["corruption"], test["control"]) == ("calipers", "calipers_off_lesion")
    # Flips at severity 3 to 5: annotation 1, 2 (positive), 5, 8, 9; control 2 and 5.
    expected = {"all": 3 / 12, "positive": 1 / 4, "negative": 2 / 8, "to_positive": 2 / 12, "to_negative": 1 / 12}
    for kind, value in expected.items():
        assert test["difference"][kind]["value"] == pytest.approx(3 / 5 * value), kind
        assert test["severities"][3]["difference"][kind]["value"] == pytest.approx(value), kind
    assert test["flips"]["all"]["value"] == pytest.approx(3 / 5 * 5 / 12)
    assert test["control_flips"]["all"]["value"] == pytest.approx(3 / 5 * 2 / 12)
    # Patients drawn for both: by hand, on the same draws.
    ours, theirs = ((scores >= 0.5) != (CLEAN >= 0.5) for scores in (MARKED, BESIDE))
    drawn = draw(int(PATIENT.max()) + 1, 1000, np.random.default_rng([0, 0x5EED]))[:, PATIENT].astype(float)
    by_hand = 3 / 5 * (drawn @ (ours.astype(float) - theirs)) / drawn.sum(axis=1)
    limits = np.quantile(by_hand, (0.025, 0.975))
    assert (test["difference"]["all"]["low"], test["difference"]["all"]["high"]) == pytest.approx(limits, abs=1e-9)


def test_a_difference_of_nothing_has_no_interval_of_no_width() -> None:
    judge = Judge(LABELS, 0.5, Resamples(PATIENT, 100, 0))
    (test,) = against_controls(make_cells(judge, {"calipers": BESIDE, "calipers_off_lesion": BESIDE}))
    part = test["difference"]["all"]
    assert (part["value"], part["low"], part["high"]) == (0, None, None)
    assert part["reason"]
    assert test["sentence"].endswith("is not shown.")


def test_controls_count_into_no_mean_worst_case_or_what_holds_under_everything() -> None:
    judge = Judge(LABELS, 0.5, Resamples(PATIENT, 100, 0))
    clean = judge.judge(CLEAN, CLEAN)
    only = make_cells(judge, {"calipers": BESIDE})
    both = make_cells(judge, {"calipers": BESIDE, "calipers_off_lesion": 1 - CLEAN})
    first, second = (describe(judge, clean, cells)["summary"] for cells in (only, both))
    assert first == second
    assert len(describe(judge, clean, both)["cells"]) == 10


def entry(low: float | None, value: float, high: float | None, name: str = "burned_in_text") -> dict[str, Any]:
    part = {"value": value, "low": low, "high": high} | ({"reason": "one patient only"} if low is None else {})
    level = {"value": 0.0, "low": -0.01, "high": 0.01}
    differences = {"all": part, "to_positive": level, "to_negative": level}
    return {"corruption": name, "control": "control", "difference": differences}


@pytest.mark.parametrize("name", list_corruptions("annotation"))
def test_a_sentence_claims_what_the_interval_of_the_difference_allows(name: str) -> None:
    assert "4.0 percentage points (1.0 to 7.0) more decisions than" in sentence_of(entry(0.01, 0.04, 0.07, name))
    for part in (entry(-0.01, 0.04, 0.07, name), entry(0.0, 0.0, 0.0, name), entry(-0.07, -0.04, 0.0, name)):
        assert "not shown to flip more or fewer" in sentence_of(part)
        assert "is not shown." in sentence_of(part)
    fewer = sentence_of(entry(-0.07, -0.04, -0.01, name))
    assert "4.0 percentage points (1.0 to 7.0) fewer decisions than" in fewer
    assert fewer.endswith("is not shown.")
    assert "nothing is claimed" in sentence_of(entry(None, 0.04, None, name))
    assert "no control was run" in sentence_of(entry(0.01, 0.04, 0.07, name) | {"control": None})


def test_directions_that_cancel_out_are_told() -> None:
    test = entry(-0.001, 0.016, 0.035)
    test["difference"]["to_positive"] = {"value": -0.019, "low": -0.029, "high": -0.011}
    test["difference"]["to_negative"] = {"value": 0.035, "low": 0.021, "high": 0.05}
    assert sentence_of(test).endswith(
        "in all; by direction they differ: 1.9 percentage points (1.1 to 2.9) fewer to positive and 3.5 percentage "
        "points (2.1 to 5.0) more to negative (not corrected for two looks)."
    )


def test_what_stands_for_an_unknown_lesion_is_told() -> None:
    assert "guessed" in sentence_of(entry(0.01, 0.04, 0.07, "calipers"), guessed=True)
    assert "guessed" not in sentence_of(entry(0.01, 0.04, 0.07, "calipers"))


def test_every_annotation_has_one_control_of_the_same_severities() -> None:
    controls = [CORRUPTIONS[name] for name in list_corruptions("control")]
    assert [entry.control_of for entry in controls] == list(list_corruptions("annotation"))
    for control in controls:
        assert control.levels == CORRUPTIONS[control.control_of or ""].levels
        assert control.name in [found.name for found in find_corruptions([control.control_of or ""])]


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_is_where_the_annotation_is_as_large_and_as_bright(name: str) -> None:
    rows, columns = np.indices((200, 256))
    image = (60 + (rows * 37 + columns * 53) % 90).astype(np.uint8)
    for seed in range(4):
        for severity in SEVERITIES:
            marked = corrupt(image, CORRUPTIONS[name].control_of or "", severity, seed=seed)
            patched = corrupt(image, name, severity, seed=seed)
            ours, theirs = (np.argwhere(changed != image) for changed in (marked, patched))
            assert np.abs(ours.min(axis=0) - theirs.min(axis=0)).max() <= 2
            assert np.abs(ours.max(axis=0) - theirs.max(axis=0)).max() <= 2
            assert patched.mean() == pytest.approx(marked.mean(), abs=0.15)
            # Flat: of the patch's grey levels there are as many as there are patches.
            assert len(np.unique(patched[patched != image])) <= 3


def test_a_model_that_reads_white_marks_is_found_to_read_them_and_one_that_does_not_is_not(
    hospital: Path, tmp_path: Path, toy: Callable[..., Any]
) -> None:
    chosen = find_corruptions(["body_marker"])
    models = [toy("annotations", "reader"), toy("lesion", "looker")]
    # White strokes in the lower third, where simulated tissue is dark.
    models[0].session.margin = lambda images: ((images[:, -32:] == 255).sum(axis=(1, 2)) - 20.0) / 5
    content, _ = measure_robustness(models, [hospital], chosen, tmp_path / "out", resamples=200)
    reader, looker = (model["annotations"][0] for model in content["datasets"][0]["models"])
    assert reader["difference"]["all"]["low"] > 0.2
    assert "what is drawn matters to the model" in reader["sentence"]
    assert "not shown" in looker["sentence"]
