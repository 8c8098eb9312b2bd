"""Several hospitals at the command line: trained on together, and each left out once."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from command_line import run
from scipy.special import expit
from typer.testing import Result

from medsharp.bundle import read_bundle
from medsharp.data.phantom import write_phantom
from medsharp.evaluation.statistics.operating_point import choose_operating_point

CONFIG = """
data: {image_size: 32, crop: none, augmentation: light, cache: memory}
network: {name: resnet10_w16}
optimizer: {name: adamw}
schedule: {epochs: 1, warmup_epochs: 0, batch_size: 16}
run: {device: cpu, precision: fp32}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated hospitals and a configuration."""
    root = tmp_path_factory.mktemp("hospitals")
    for name in ("A", "B"):
        write_phantom(root / name, hospital=name, patients=24, size=64)
    (root / "small.yaml").write_text(CONFIG)
    return root


def both(folder: Path) -> list[str | Path]:
    return ["--data", folder / "A", "--data", folder / "B"]


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[Result, Path]:
    out = folder / "run"
    options = ["--set", "data.sampling=sites", "--set", "data.leave_site=simulated hospital b", "--set", "data.folds=2"]
    return run("train", *both(folder), "--config", folder / "small.yaml", *options, "--out", out), out


def test_hospitals_are_trained_on_together_and_one_is_left_out(trained: tuple[Result, Path], folder: Path) -> None:
    result, out = trained
    assert result.exit_code == 0, result.output
    assert yaml.safe_load((out / "config.yaml").read_text())["data"]["path"] == [str(folder / "A"), str(folder / "B")]
    table = pd.read_csv(out / "manifest.csv")
    assert set(table.loc[table["split"] == "test", "site"]) == {"simulated hospital B"}
    assert table["image"].str.startswith(("simulated hospital A/images/", "simulated hospital B/images/")).all()


def test_run_on_several_hospitals_resumes_and_is_exported(trained: tuple[Result, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(trained[1], tmp_path / "elsewhere" / "run"))
    before = (copy / "predictions.csv").read_bytes()
    (copy / "predictions.csv").unlink()
    assert run("train", "--resume", copy).exit_code == 0
    assert (copy / "predictions.csv").read_bytes() == before
    result = run("export", copy, "--out", tmp_path / "bundle")
    assert result.exit_code == 0, result.output
    card = (tmp_path / "bundle/MODEL_CARD.md").read_text()
    assert "medsharp train --data DATA1 --data DATA2 --config settings.yaml" in card
    assert "DATA1 and DATA2 are the folders of simulated hospital A and simulated hospital B" in " ".join(card.split())
    assert "path: [DATA1, DATA2]" in card
    (site,) = read_bundle(tmp_path / "bundle").held_out
    tested = pd.read_csv(copy / "predictions.csv")["split"] == "test"
    assert (site.site, site.images) == ("simulated hospital b", tested.sum())
    assert set(pd.read_csv(tmp_path / "bundle/internal.csv")["site"]) == {"simulated hospital A"}
    assert "medsharp export RUN --out bundle" in card


@pytest.fixture(scope="module")
def left_out(folder: Path) -> tuple[list[str | Path], Result, Path]:
    out = folder / "cv"
    command = ["crossvalidate", folder / "small.yaml", *both(folder), "--by", "site", "--out", out]
    return command, run(*command), out


def test_table_shows_each_hospital_and_all(left_out: tuple[list[str | Path], Result, Path]) -> None:
    _, result, out = left_out
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    (heading,) = (line for line in lines if "figure (95 %" in line)
    assert heading.index("hospital A") < heading.index("hospital B") < heading.index("all left-out hospitals pooled")
    for row in ("AUROC", "mean AUROC of single members", "calibration slope", "sensitivity", "specificity"):
        assert any(row in line for line in lines)
    assert "2/2  leave-simulated-hospital-b  validation AUROC" in result.output
    document = json.loads((out / "evaluation.json").read_text())
    assert [entry.get("pooled", False) for entry in document["datasets"]] == [False, False, True]
    assert document["site_summary"]["left_out"] == [
        {"name": "all left-out hospitals pooled", "reason": "it has the images of others"}
    ]
    assert len(document["site_summary"]["sites"]) == 2
    assert document["site_summary"]["figures"]["sensitivity"]["value"] is None, "two hospitals, and not three"
    assert re.search(r"Of 2.data sets from elsewhere the model ranks worst", (out / "report.html").read_text())


def test_sensitivity_that_is_asked_for_decides_the_thresholds(
    left_out: tuple[list[str | Path], Result, Path], tmp_path: Path
) -> None:
    command, _, out = left_out
    copy = Path(shutil.copytree(out, tmp_path / "cv"))
    command = [*command[:-1], copy, "--sensitivity", "0.6"]
    refused = run(*command)
    assert refused.exit_code == 2
    assert "other settings (sensitivity: 0.95 there, 0.6 here)" in " ".join(refused.output.split())
    request = copy / "crossvalidation.yaml"
    request.write_text(request.read_text().replace("sensitivity: 0.95", "sensitivity: 0.6"))
    for path in copy.glob("leave-*/predictions.csv"):  # of so few images both would choose the same
        table = pd.read_csv(path)
        chosen = table["split"] == "val"
        more = [
            table[chosen].assign(image=table["image"] + f"-{n}", logit_malignant=table["logit_malignant"] + n / 4)
            for n in range(8)
        ]
        pd.concat([table[~chosen], *more]).to_csv(path, index=False)
    assert run(*command).exit_code == 0  # every member is trained already
    summary, decided = (pd.read_csv(copy / name) for name in ("summary.csv", "out_of_fold.csv"))
    for unit in decided["unit"].unique():
        own = decided[decided["unit"] == unit]
        row = summary[summary["left_out"] == own["left_out"].iloc[0]].iloc[0]
        scores = expit((own["logit_malignant"] - own["logit_benign"]) / row["temperature"]).to_numpy()
        positive = (own["label"] == "malignant").to_numpy()
        asked, default = (choose_operating_point(scores, positive, value).threshold for value in (0.6, 0.95))
        assert row["threshold"] == pytest.approx(asked, abs=1e-6)
        assert asked > default + 1e-3


def test_failed_member_is_listed_and_the_exit_code_tells(
    left_out: tuple[list[str | Path], Result, Path], tmp_path: Path
) -> None:
    command, _, out = left_out
    copy = Path(shutil.copytree(out, tmp_path / "cv"))
    (copy / "leave-simulated-hospital-a/predictions.csv").unlink()
    (copy / "leave-simulated-hospital-a/checkpoints/last.pt").write_bytes(b"damaged")
    result = run(*command[:-1], copy)
    assert result.exit_code == 2
    assert "1 of 2 members are finished already" in result.output
    assert "1 of 2 members failed; nothing is pooled yet" in result.output
    assert "leave-simulated-hospital-a: " in result.output


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--by", "site", "--data", "A"], "names 'simulated hospital A' alone; --by site needs two hospitals"),
        (["--by", "site", "--data", "A", "--data", "nowhere"], "nowhere does not exist"),
        (["--by", "fold", "--data", "A", "--devices", "cuda:77"], "run.device = 'cuda:77': PyTorch finds"),
        (["--by", "fold", "--data", "A", "--source", "auto", "--source", "auto"], "2 times --source for 1 data sets"),
        (["--by", "fold", "--data", "A", "--set", "data.leave_site=B"], "data.leave_site is of one run"),
        (["--by", "fold", "--data", "A", "--set", "network.checkpoint=A"], "checkpoint A is a folder; give the file"),
        (
            ["--by", "fold", "--data", "A", "--set", "schedule.batch_size=1"],
            "schedule.batch_size = 1: network resnet10",
        ),
    ],
)
def test_wrong_input_is_a_sentence_and_leaves_nothing(
    options: list[str], sentence: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    result = run("crossvalidate", "small.yaml", *options, "--out", tmp_path / "cv")
    assert result.exit_code == 2
    assert sentence in result.output
    assert not (tmp_path / "cv").exists()


def test_training_on_hospitals_that_do_not_fit_is_a_sentence(folder: Path, tmp_path: Path) -> None:
    for options, sentence in (
        (["--data", folder / "A", "--data", folder / "A"], "two data sets are called simulated hospital A"),
        ([*both(folder), "--set", "data.leave_site=C"], "has no site 'C'; choose from simulated hospital A, "),
        ([*both(folder), "--source", "auto", "--source", "auto", "--source", "auto"], "3 times --source for 2 data"),
    ):
        result = run("train", "--config", folder / "small.yaml", *options, "--out", tmp_path / "run")
        assert result.exit_code == 2
        assert sentence in result.output
        assert not (tmp_path / "run").exists()


def test_rules_for_thresholds_are_compared_on_the_hospital_left_out(
    left_out: tuple[list[str | Path], Result, Path], tmp_path: Path
) -> None:
    """Each hospital's own rows decide and are decided: both tables are replaced by known scores, A's unlike B's."""
    copy = Path(shutil.copytree(left_out[2], tmp_path / "cv"))
    temperature = {"simulated hospital A": 2.0, "simulated hospital B": 0.5}
    summary = pd.read_csv(copy / "summary.csv")
    summary["temperature"] = summary["left_out"].map(temperature)
    summary.to_csv(copy / "summary.csv", index=False)
    decided, predicted = (pd.read_csv(copy / name) for name in ("out_of_fold.csv", "predictions.csv"))
    malignant = decided["label"] == "malignant"
    # Scores of positives from 1 up, of negatives below: what misses none of few positives lies half way between both.
    below = {"simulated hospital A": -3.0, "simulated hospital B": -2.0}
    odds = np.where(malignant, 1.0 + decided.groupby(["left_out", "label"]).cumcount(), decided["left_out"].map(below))
    decided["logit_benign"] = 0.5
    decided["logit_malignant"] = 0.5 + odds * decided["left_out"].map(temperature)
    above = {"simulated hospital A": -0.2, "simulated hospital B": -0.5}
    predicted["p_malignant"] = expit(
        np.where(predicted["label"] == "malignant", predicted["left_out"].map(above), -4.0)
    )
    predicted["p_benign"] = 1 - predicted["p_malignant"]
    decided.to_csv(copy / "out_of_fold.csv", index=False)
    predicted.to_csv(copy / "predictions.csv", index=False)
    result = run("bench", "thresholds", copy, "--sensitivity", "0.95", "--json", tmp_path / "found.json")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "found.json").read_text())
    rows = {site: {row["rule"]: row for row in rules} for site, rules in found.items()}
    for site, sensitivity in (("simulated hospital A", 1.0), ("simulated hospital B", 0.0)):
        row = rows[site]["out of fold"]
        assert row["threshold"] == pytest.approx((expit(1.0) + expit(below[site])) / 2, abs=1e-9)
        assert row["sensitivity"][0] == sensitivity
        assert row["specificity"] == [1, 1, 1]
        assert rows[site]["half"]["sensitivity"][0] == 0
    lower = run("bench", "thresholds", copy, "--sensitivity", "0.5", "--json", tmp_path / "lower.json")
    assert lower.exit_code == 0, lower.output
    half = {row["rule"]: row for row in json.loads((tmp_path / "lower.json").read_text())["simulated hospital A"]}
    assert half["out of fold"]["threshold"] > expit(1.0)


def test_rules_for_thresholds_need_a_finished_cross_validation_by_site(
    left_out: tuple[list[str | Path], Result, Path], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(left_out[2], tmp_path / "cv"))
    (copy / "out_of_fold.csv").unlink()
    for folder, sentence in ((copy, "has no out_of_fold.csv"), (tmp_path, "crossvalidation.yaml: No such file")):
        result = run("bench", "thresholds", folder)
        assert result.exit_code == 2
        assert sentence in " ".join(result.output.split())
