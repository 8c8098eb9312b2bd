"""The verdict says no more than the intervals allow, and the flow's numbers add up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.evaluation.report import render_markdown, render_page
from medsharp.evaluation.report.forests import overview_of
from medsharp.evaluation.report.markdown import text_of
from medsharp.evaluation.report.verdict import verdict_section

GAIN = "net_benefit_gain_at_threshold"


def figure(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 100, "reason": "of a single patient"}


def entry(name: str, role: str = "external", **figures: Any) -> dict[str, Any]:
    known = {
        "auroc": figure(0.9, 0.8, 0.95),
        "sensitivity": figure(0.97, 0.9, 1.0),
        "specificity": figure(0.66, 0.5, 0.8),
        GAIN: figure(0.02, 0.01, 0.03),
    }
    return {
        "name": name, "role": role, "simulated": False, "notes": [], "threshold": 0.1, "figures": known | figures,
    }  # fmt: skip


def document(*entries: dict[str, Any], **changes: dict[str, Any]) -> dict[str, Any]:
    """Return what a verdict is made of: an internal data set, others, and the same changes to each."""
    same = {"auroc": figure(0.0, -0.01, 0.01), "sensitivity": figure(0.0, -0.01, 0.01)}
    same |= {"specificity": figure(0.0, -0.01, 0.01)} | changes
    internal = entry("here", "internal")
    found = [{"name": other["name"], "against": "here", "figures": same} for other in entries]
    return {"bundle": {}, "datasets": [internal, *entries], "changes": found}


def said(given: dict[str, Any]) -> str:
    lines = (text_of(block.line).replace("\\", "") for block in verdict_section(given).blocks)
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (figure(-0.46, -0.6, -0.3), "specificity falls from 66 % to 20 % (\N{MINUS SIGN}46.0 ["),
        (figure(0.14, 0.01, 0.2), "specificity rises from 66 % to 20 %"),
        (figure(-0.01, -0.049, 0.2), "keeps its AUROC of 0.900 (here 0.900, 0.000 ["),
        (figure(-0.01, -0.051, 0.2), "that it keeps its specificity of 66 % (here 20 %, "),
        (figure(-0.01), "that it keeps its specificity of 66 % (here 20 %, "),
    ],
)
def test_verdict_says_of_a_change_what_its_interval_allows(change: dict[str, Any], words: str) -> None:
    text = said(document(entry("there", specificity=figure(0.20, 0.1, 0.3)), specificity=change))
    assert words in text
    kept = change["low"] is not None and -0.05 < change["low"] <= 0
    assert ("specificity of 66 % (here 20 %" in text.split("that it keeps")[0]) == kept
    assert ("is not shown" in text.split(" Acting")[0]) == (change["low"] in (None, -0.051))


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (
            figure(0.02, 0.001, 0.03),
            "Acting by it from a risk of 10.0 % on beats treating everyone and treating no one",
        ),
        (figure(-0.02, -0.03, -0.001), "is worse than the better of treating everyone and treating no one"),
        (figure(-0.02, -0.03, 0.001), "treating no one is not shown (net benefit gained \N{MINUS SIGN}0.020"),
        (figure(0.02, -0.001, 0.03), "beats treating everyone and treating no one is not shown (net benefit gained"),
        (figure(0.02), "is not shown: of a single patient"),
        (None, "these figures have no net benefit"),
    ],
)
def test_verdict_says_of_net_benefit_what_its_interval_allows(gain: dict[str, Any] | None, words: str) -> None:
    assert words in said(document(entry("there", **{GAIN: gain})))


def test_verdict_names_the_worst_of_several_hospitals_and_simulated_ones_last() -> None:
    best, worst = entry("best", auroc=figure(0.9, 0.8, 0.95)), entry("worst", auroc=figure(0.6, 0.5, 0.7))
    simulated = entry("phantom", auroc=figure(0.5, 0.4, 0.6)) | {"simulated": True}
    text = said(document(best, simulated, worst))
    assert "Of 2 data sets from elsewhere the model ranks worst on **worst** (AUROC 0.600 [0.500 to 0.700])." in text
    places = [text.index(f"On **{name}**") for name in ("worst", "best", "phantom")]
    assert places == sorted(places)
    many = said(document(*(entry(f"h{n}", auroc=figure(0.6 + n / 100, 0.5, 0.7)) for n in range(5))))
    assert many.count("On **") == 1
    assert "On **h0**" in many


def test_verdict_without_internal_images_or_with_a_leak_claims_nothing() -> None:
    alone = {"bundle": {}, "datasets": [entry("there", "unstated")], "changes": []}
    assert "what it keeps or loses is not shown" in said(alone)
    leaked = entry("there") | {"notes": ["LEAK: the model was trained on 3 of these images"]}
    text = said(document(leaked))
    assert "nothing is shown: the model knows some of these images" in text
    assert "keeps its" not in text.split("Falls, rises")[0]


def cohort(patients: list[str], groups: list[str], exclude: list[str]) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    count = len(patients)
    labels = ["malignant" if n % 3 == 0 else "benign" for n in range(count)]
    scores = np.round(rng.uniform(0.05, 0.6, count) + 0.3 * np.array([label == "malignant" for label in labels]), 3)
    columns = {"patient": patients, "group": groups, "exclude": exclude}
    return pd.DataFrame(
        {"image": [f"{n}.png" for n in range(count)], "label": labels, "p_benign": 1 - scores, "p_malignant": scores}
        | columns
    )


@pytest.mark.parametrize("format", ["html", "md"])
def test_flow_counts_images_patients_and_groups_apart(tmp_path: Path, format: str) -> None:
    # 20 patients of two images; 0 and 1 share a near-duplicate; all images of 19 and one of 18 are left out.
    patients = [f"P{n // 2}" for n in range(40)]
    groups = ["tied" if n in (1, 2) else "" for n in range(40)]
    exclude = ["Doppler" if n >= 37 else "" for n in range(40)]
    cohort(patients, groups, exclude).to_csv(tmp_path / "there.csv", index=False)
    options = ["--threshold", "0.4", "--out", str(tmp_path), "--format", f"json,{format}", "--resamples", "100"]
    result = CliRunner().invoke(app, ["score", str(tmp_path / "there.csv"), *options])
    assert result.exit_code == 0, result.output
    counts = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))["datasets"][0]["counts"]
    read = [counts[key] for key in ("submitted", "submitted_patients", "images", "patients", "clusters")]
    assert read == [40, 20, 37, 19, 18]
    text = (tmp_path / f"report.{format}").read_text(encoding="utf-8")
    text = text.replace("<strong>", "").replace("</strong>", "")
    for words in (
        "40 images of 20 patients in the data set",
        "3 images left out before prediction",
        "37 images evaluated, of 19 patients",
        "intervals resample 18 groups: patients who share near-duplicate images are one",
        "no image is left of 1 patient",
    ):
        assert words in text, words


def test_squares_of_data_sets_are_as_large_as_their_weights_in_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [entry(name) | {"counts": {}} for name in ("a", "b", "c")]
    sites = [{"name": name, "weight": weight} for name, weight in (("a", 0.6), ("b", 0.3), ("c", 0.1))]
    found = figure(0.9, 0.8, 0.95) | {"prediction_low": None, "prediction_high": None, "i2": 0.1, "tau2": 0.2}
    found |= {"sites": sites, "method": "random effects", "scale": "logit"}
    given = {"datasets": entries, "site_summary": {"figures": {"auroc": found}}}
    plot = overview_of(given)[0]
    sides: list[float] = []
    drawn = Axes.plot

    def record(axes: Axes, *given: Any, **how: Any) -> Any:
        sides.extend([how["markersize"]] if "s" in given else [])
        return drawn(axes, *given, **how)

    monkeypatch.setattr(Axes, "plot", record)
    assert plot.draw is not None
    plot.draw()
    # The area of the part that grows is as the weight.
    areas = [(side - 2.5) ** 2 for side in sides]
    assert [area / areas[0] for area in areas] == pytest.approx([1, 0.5, 1 / 6])


@pytest.mark.parametrize("render", [render_page, render_markdown])
def test_both_formats_have_every_headline_figure_and_its_meaning(tmp_path: Path, render: Any) -> None:
    patients = [f"P{n // 2}" for n in range(60)]
    cohort(patients, [""] * 60, [""] * 60).to_csv(tmp_path / "there.csv", index=False)
    options = ["--threshold", "0.4", "--out", str(tmp_path), "--format", "json", "--resamples", "100"]
    assert CliRunner().invoke(app, ["score", str(tmp_path / "there.csv"), *options]).exit_code == 0
    written = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    text = render(written)
    assert "average precision; guessing gives the prevalence" in text
    for words in ("by Obuchowski", "perfectly calibrated probabilities would give", "Decisions at the operating point",
                  "Gain: over the better of the two", "In short"):  # fmt: skip
        assert words in text, words
    assert "Most probable class" not in text
