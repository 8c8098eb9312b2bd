"""Tables with refused rows, in every shape that commands read: no number of a refused image gets into a figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import run

THRESHOLDS = {"A": 0.2, "B": 0.7}


def predictions() -> pd.DataFrame:
    """Two sites whose models decide at thresholds of their own; refused rows, more of them benign, err always."""
    rng = np.random.default_rng(9)
    count = 150
    site = np.where(rng.random(count) < 0.6, "A", "B")
    ill = rng.random(count) < 0.35
    odds = np.where(site == "A", -1.2, 0.9) + np.where(ill, 1.1, -1.1) + rng.normal(size=count)
    refused = rng.random(count) < np.where(ill, 0.08, 0.2)
    odds[refused] = np.where(ill[refused], -5, 5) + rng.normal(scale=0.1, size=refused.sum())
    p = 1 / (1 + np.exp(-odds))
    return pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(count)],
            "patient": [str(number // 2) for number in range(count)],
            "site": site,
            "label": np.where(ill, "malignant", "benign"),
            "p_benign": 1 - p,
            "p_malignant": p,
            "threshold": [THRESHOLDS[where] for where in site],
            "status": np.where(refused, "refused", "answered"),
            "reasons": np.where(refused, "no ultrasound image", ""),
        }
    )


def silent(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Take the numbers of refused rows out."""
    table = table.copy()
    table.loc[table["status"] == "refused", list(columns or ("p_benign", "p_malignant"))] = np.nan
    return table


def score(table: pd.DataFrame, folder: Path, name: str, *options: object) -> dict[str, Any]:
    table.to_csv(folder / f"{name}.csv", index=False)
    result = run("score", folder / f"{name}.csv", "--resamples", "200", "--out", folder / name, *options)
    assert result.exit_code == 0, result.output
    assert ("refused by the input checks" in result.output) == ("refused" in set(table.get("status", ())))
    return dict(json.loads((folder / name / "evaluation.json").read_text())["datasets"][0])


def kept(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["status"] != "refused"]


def test_each_image_at_its_own_threshold_with_and_without_numbers(tmp_path: Path) -> None:
    table = predictions()
    rows, ill = kept(table), kept(table)["label"] == "malignant"
    called = rows["p_malignant"] >= rows["threshold"]
    every, all_ill = table["p_malignant"] >= table["threshold"], table["label"] == "malignant"
    for name, given in (("anyway", table), ("silent", silent(table))):
        entry = score(given, tmp_path, name)
        assert entry["figures"]["sensitivity"]["value"] == pytest.approx(called[ill].mean()), name
        assert entry["figures"]["specificity"]["value"] == pytest.approx(1 - called[~ill].mean()), name
        found = entry["abstention"]
        worst = found["intention_to_diagnose"]
        assert worst["sensitivity"]["value"] == pytest.approx((called & ill).sum() / all_ill.sum())
        assert worst["specificity"]["value"] == pytest.approx((~called & ~ill).sum() / (~all_ill).sum())
        if name == "anyway":
            figures = found["anyway"]["figures"]
            assert figures["sensitivity"]["value"] == pytest.approx(every[all_ill].mean())
            (check,) = found["checks"]
            assert check["error_rate"]["value"] == 1
            assert found["policies"][-1]["risk"]["value"] == pytest.approx((every != all_ill).mean())
        else:
            assert "figures" not in found["anyway"]
            assert found["checks"][0]["error_rate"]["value"] is None
            assert found["policies"][-1]["risk"]["value"] is None
            assert found["risk_coverage"] is None


def test_scores_that_are_no_probabilities(tmp_path: Path) -> None:
    table = predictions().drop(columns=["p_benign", "threshold"]).rename(columns={"p_malignant": "score"})
    table["score"] = 100 * table["score"]
    rows, ill = kept(table), kept(table)["label"] == "malignant"
    for name, given in (("anyway", table), ("silent", silent(table, "score"))):
        entry = score(given, tmp_path, name, "--threshold", "40")
        assert entry["figures"]["sensitivity"]["value"] == pytest.approx((rows["score"] >= 40)[ill].mean())
        found = entry["abstention"]
        assert found["refused"]["images"] == len(table) - len(rows)
        assert found["risk_coverage"] is None
        if name == "anyway":
            assert found["anyway"]["figures"]["brier"]["value"] is None
            assert found["anyway"]["figures"]["auroc"]["value"] < entry["figures"]["auroc"]["value"]


def test_calibration_images_that_were_refused_calibrate_nothing(tmp_path: Path) -> None:
    table = predictions().drop(columns="threshold")
    other = table.assign(image="other-" + table["image"])
    other.to_csv(tmp_path / "calibration.csv", index=False)
    options = ["--threshold", "0.4", "--calibration", tmp_path / "calibration.csv"]
    entry = score(table, tmp_path, "scored", *options)
    assert entry["conformal"]["calibration"]["images"] == len(kept(table))
    kept(other).to_csv(tmp_path / "calibration.csv", index=False)
    again = score(table, tmp_path, "scored", *options)
    assert again["conformal"]["marginal"]["quantiles"] == entry["conformal"]["marginal"]["quantiles"]


def test_plan_is_made_from_answered_images(tmp_path: Path) -> None:
    table = predictions().drop(columns="threshold")
    out = []
    for name, given in (("silent", silent(table)), ("kept", kept(table))):
        given.to_csv(tmp_path / f"{name}.csv", index=False)
        result = run("plan", "--from", tmp_path / f"{name}.csv", "--threshold", "0.4", "--auroc-width", "0.1")
        assert result.exit_code == 0, result.output
        out.append(result.output.replace(name, ""))
    assert out[0] == out[1]


def test_status_of_another_tool_refuses_nothing(tmp_path: Path) -> None:
    table = predictions().drop(columns="threshold")
    others = table.assign(status=np.where(table["status"] == "refused", "archived", "signed"))
    entry = score(others, tmp_path, "others", "--threshold", "0.4")
    assert entry["counts"]["images"] == len(table)
    assert entry["abstention"]["refused"]["images"] == 0
    assert "share" in entry["abstention"]["refused"]
    page = (tmp_path / "others" / "report.html").read_text()
    assert "refused none of 150 images" in page
    table = table.drop(columns=["status", "reasons"])
    assert score(table, tmp_path, "plain", "--threshold", "0.4")["abstention"] is None


def test_several_sentences_without_checks_each_count_once_an_image(tmp_path: Path) -> None:
    table = predictions().drop(columns="threshold")
    table.loc[table["status"] == "refused", "reasons"] = "blank; too small ; blank"
    entry = score(table, tmp_path, "table", "--threshold", "0.4")
    found = {check["check"]: check["images"] for check in entry["abstention"]["checks"]}
    assert found == dict.fromkeys(("blank", "too small"), entry["abstention"]["refused"]["images"])
    assert {check["outcome"] for check in entry["abstention"]["checks"]} == {"refusal"}
