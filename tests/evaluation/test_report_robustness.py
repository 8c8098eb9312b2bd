"""The robustness summary of a report: read, shown, and refused where it is not one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medsharp.errors import InputError
from medsharp.evaluation import evaluate_predictions, write_evaluation
from medsharp.evaluation.report import read_robustness
from medsharp.evaluation.report.robustness import is_own


def figure(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.01, "high": value + 0.01, "method": "patient bootstrap, percentile"}


def means(change: float) -> dict[str, Any]:
    return {"auroc": figure(0.9 + change), "auroc_change": figure(change), "flips": figure(0.25)}


def content(model: str = "m") -> dict[str, Any]:
    corruptions = [("haze", "ultrasound"), ("speckle", "ultrasound"), ("calipers", "annotation")]
    corruptions += [("crop", "ultrasound"), ("off", "control")]
    cells = [
        {"corruption": name, "severity": level, "figures": {"auroc": figure(0.9 - 0.02 * level * place)}}
        for place, (name, _) in enumerate(corruptions)
        for level in range(1, 6)
    ]
    case = {"corruption": "speckle", "severity": 5, "auroc": figure(0.61), "auroc_change": figure(-0.29)}
    flips = {"all": figure(0.1), "positive": figure(0.123), "negative": figure(0.05)}
    marked = {"corruption": "calipers", "control": "off", "flips": flips, "control_flips": {"all": figure(0.023)}}
    marked |= {"difference": {"all": figure(0.077)}, "sentence": "Calipers <b>do</b>."}
    return {
        "format": 2,
        "created": "2026-01-01 00:00 UTC",
        "medsharp": "0.1.0",
        "corruptions": [{"name": name, "family": family} for name, family in corruptions],
        "datasets": [
            {
                "name": "there",
                "simulated": False,
                "images": 300,
                "apart": {"crop": "unknown"},
                "models": [
                    {
                        "name": model,
                        "threshold": 0.4,
                        "clean": {"auroc": figure(0.9)},
                        "cells": cells,
                        "summary": {
                            **means(-0.08),
                            "families": {"ultrasound": means(-0.05), "annotation": means(-0.11)},
                            "worst": [case | {"sensitivity": figure(0.3), "specificity": figure(0.9)}],
                        },
                        "annotations": [marked, marked | {"corruption": "text", "control": None}],
                        "medmnist_c": {"be": figure(0.7), "rbe": figure(1.4)},
                    }
                ],
            }
        ],
    }


def written(folder: Path, values: Any, bundle: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    (folder / "robustness.json").write_text(json.dumps(values), encoding="utf-8")
    scores = np.linspace(0.05, 0.95, 60)
    rows = pd.DataFrame({"image": [f"{n}.png" for n in range(60)], "p_benign": 1 - scores, "p_malignant": scores})
    rows["label"] = ["malignant" if n % 3 == 0 else "benign" for n in range(60)]
    classes = ["benign", "malignant"]
    evaluation = evaluate_predictions(
        rows, classes=classes, positive="malignant", threshold=0.4, name="n", resamples=20
    )
    robustness = read_robustness(None, folder)
    write_evaluation(folder, [evaluation], bundle, formats=("html", "md", "json"), robustness=robustness)
    document = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    texts = [(folder / name).read_text(encoding="utf-8") for name in ("report.html", "report.md")]
    return texts[0], texts[1], document


def test_summary_lying_in_the_folder_is_shown_in_every_format(tmp_path: Path) -> None:
    page, markdown, document = written(tmp_path, content(), {"name": "m"})
    assert 'id="robustness"' in page
    assert "AUROC by severity" in page
    for words in (
        "\N{MINUS SIGN}0.080",
        "25.0\N{NO-BREAK SPACE}%",
        "2.3\N{NO-BREAK SPACE}%",
        '<span class="value">+7.7</span> <small class="interval">+6.7 to +8.7</small>',
        "\N{MINUS SIGN}0.300 to \N{MINUS SIGN}0.280",
        "Calipers &lt;b&gt;do&lt;/b&gt;.",
    ):
        assert words in page, words
    assert "300 images, 4 corruptions" in page, "a control is no corruption"
    assert "These figures are of" not in page
    assert "## Robustness\n" in markdown
    assert "### there: 300 images, 4 corruptions\n" in markdown
    markdown = markdown.replace("\\", "")
    assert "\N{MINUS SIGN}0.080 [\N{MINUS SIGN}0.090 to \N{MINUS SIGN}0.070]" in markdown
    assert "| calipers | 10.0\N{NO-BREAK SPACE}% [9.0 to 11.0] |" in markdown
    assert "| Annotation minus control (percentage points) |" in markdown
    assert "| +7.7 [+6.7 to +8.7] |" in markdown
    model = document["robustness"]["datasets"][0]["models"][0]
    assert model["by_severity"]["ultrasound"] == pytest.approx([0.9, 0.89, 0.88, 0.87, 0.86, 0.85])
    assert set(model["by_severity"]) == {"ultrasound", "annotation"}
    assert "cells" not in model
    claim = next(c for c in document["checklists"] if c["guideline"] == "CLAIM 2024")
    assert next(item for item in claim["items"] if item["id"] == "30")["status"] == "in this report"


def test_summary_of_another_model_says_so(tmp_path: Path) -> None:
    page, _, _ = written(tmp_path, content("other <b>"), {"name": "m"})
    assert "These figures are of other &lt;b&gt;, not of m." in page


def test_without_a_file_there_is_no_section(tmp_path: Path) -> None:
    assert read_robustness(None, tmp_path) is None


def test_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*gone\.json"):
        read_robustness(tmp_path / "gone.json", tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ('{"format": 1', "is not JSON"),
        pytest.param("[" * 100_000, "is not JSON", id="nested beyond reading"),
        ("[]", "is not a robustness.json"),
        ('{"format": 1, "corruptions": []}', "is not a robustness.json of format 2.*run it again"),
        ('{"format": 2, "datasets": []}', "is not a robustness.json"),
        ('{"format": 2, "corruptions": [], "datasets": [{"name": "x"}]}', "is damaged .*images"),
        ('{"format": 2, "corruptions": [{"name": "x"}], "datasets": []}', "is damaged .*family"),
        ('{"format": 2, "corruptions": 7, "datasets": []}', "is damaged"),
    ],
)
def test_wrong_file_is_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "robustness.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read_robustness(None, tmp_path)


@pytest.mark.parametrize(
    ("model", "bundle", "own"),
    [
        ({"answers_digest": "a", "digest": "1"}, {"answers_digest": "a", "digest": "2"}, True),
        ({"answers_digest": "a", "digest": "1"}, {"answers_digest": "b", "digest": "1"}, False),
        ({"answers_digest": "", "digest": "1"}, {"answers_digest": "a", "digest": "1"}, True),
        ({"digest": "1"}, {"answers_digest": "a", "digest": "2"}, False),
        ({"digest": ""}, {"answers_digest": "a", "digest": "2"}, True),
        ({}, {"name": "other"}, False),
    ],
)
def test_a_model_is_the_reports_own_by_what_its_answers_depend_on(
    model: dict[str, str], bundle: dict[str, str], own: bool
) -> None:
    assert is_own({"name": "m", **model}, {"name": "m", **bundle}) is own
