"""Images that an input check refuses or marks, through the commands that predict: a stub stands for the checks."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import refused, run
from PIL import Image
from sklearn.metrics import roc_auc_score

from medsharp.data.phantom import simulate_image
from medsharp.inference import Predictor
from medsharp.inference.external import evaluate_manifest, open_external

pytestmark = pytest.mark.usefixtures("stub_checks")


@pytest.fixture(scope="module")
def bundle(speckle_bundle: Path) -> Path:
    return speckle_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images in folders by class: seven benign and two malignant ones are refused, eleven are marked."""
    root, rng = tmp_path_factory.mktemp("hospital"), np.random.default_rng(5)
    refuse = {"benign": 7, "malignant": 2}
    mark = {"benign": 8, "malignant": 3}
    for label, count in (("benign", 36), ("malignant", 24)):
        (root / label).mkdir()
        for number in range(count):
            kind = "refuse" if number < refuse[label] else "mark" if number < refuse[label] + mark[label] else "plain"
            pixels = simulate_image("A", label, rng, size=96).pixels
            Image.fromarray(pixels).save(root / label / f"{kind}-{label}-{number:02d}.png")
    return root


def picture(folder: Path, *names: str) -> list[Path]:
    """Copies of one image under these names."""
    source = folder / "benign" / "plain-benign-20.png"
    return [shutil.copy(source, folder.parent / name) for name in names]


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"reasons": str, "checks": str, "error": str}, keep_default_na=False, na_values="")


def test_refused_image_has_a_row_with_its_reason_and_no_number(bundle: Path, folder: Path, tmp_path: Path) -> None:
    images = picture(folder, "plain.png", "refuse-marked.png", "mark.png")
    result = run("predict", bundle, *images, "--out", tmp_path / "p.csv", "--heatmaps", tmp_path / "maps")
    assert result.exit_code == 1
    rows = read(tmp_path / "p.csv").set_index(pd.Index(["plain", "refused", "marked"]))
    assert list(rows["status"]) == ["answered", "refused", "cautioned"]
    for column in ("p_benign", "p_malignant", "threshold_side", "threshold_margin"):
        assert pd.isna(rows.at["refused", column]), column
        assert not pd.isna(rows.at["marked", column]), column
    # Refusals stand first, however the checks were asked.
    assert rows.at["refused", "reasons"] == "a photograph in a test; very dark for a test"
    assert rows.at["refused", "checks"] == "refusal:stub_photograph; caution:stub_dark"
    assert rows.at["marked", "checks"] == "caution:stub_dark"
    assert "refused: " in result.stderr
    assert "refuse-marked.png: a photograph in a test" in " ".join(result.stderr.split())
    assert "caution: very dark for a test" in result.output
    assert sorted(file.name[6:] for file in (tmp_path / "maps").iterdir()) == ["mark.png", "plain.png"]


def test_exit_code_tells_refused_from_failed(bundle: Path, folder: Path, tmp_path: Path) -> None:
    plain, refuse = picture(folder, "plain.png", "refuse.png")
    words = tmp_path / "words.png"
    words.write_text("no image")
    out = ["--out", tmp_path / "p.csv"]
    assert run("predict", bundle, plain, *out).exit_code == 0
    assert run("predict", bundle, refuse, *out).exit_code == 1
    assert {"p_benign", "p_malignant", "threshold"} <= set(read(tmp_path / "p.csv").columns)
    assert run("predict", bundle, refuse, words).exit_code == 1
    assert run("predict", bundle, words, words).exit_code == 2
    assert run("predict", bundle, refuse, "--answer-anyway").exit_code == 0


def test_answer_anyway_gives_the_number_that_a_plain_image_has_and_marks_it(
    bundle: Path, folder: Path, tmp_path: Path
) -> None:
    images = picture(folder, "plain.png", "refuse.png")
    options = ["--answer-anyway", "--out", tmp_path / "p.csv", "--heatmaps", tmp_path / "maps"]
    result = run("predict", bundle, *images, *options)
    rows = read(tmp_path / "p.csv")
    assert list(rows["status"]) == ["answered", "refused"]
    assert rows["p_malignant"].nunique() == 1
    assert not math.isnan(rows["p_malignant"][0])
    assert "answered against a refusal: a photograph in a test" in result.output
    assert len(list((tmp_path / "maps").iterdir())) == 2


def test_evaluation_counts_refused_images_and_gives_figures_with_and_without(
    bundle: Path, folder: Path, tmp_path: Path
) -> None:
    options = ["--data", folder, "--resamples", "200", "--format", "json,md"]
    result = run("evaluate", bundle, *options, "--out", tmp_path / "plain")
    assert result.exit_code == 0, result.output
    assert "9 more were refused by the input checks" in " ".join(result.output.split())
    (entry,) = [e for e in json.loads((tmp_path / "plain" / "evaluation.json").read_text())["datasets"] if
                e["role"] == "external"]  # fmt: skip
    assert (entry["counts"]["images"], entry["counts"]["refused"], entry["counts"]["submitted"]) == (51, 9, 60)
    found = entry["abstention"]
    assert found["refused"]["labels"] == {"benign": 7, "malignant": 2}
    assert found["cautioned"]["labels"] == {"benign": 8, "malignant": 3}
    assert entry["figures"]["sensitivity"]["n"] == 22
    assert found["anyway"]["figures"]["sensitivity"]["n"] == 24
    assert found["risk_coverage"] is not None
    table = read(next((tmp_path / "plain").glob("predictions-*.csv")))
    assert (
        table.loc[table["status"] == "refused", ["p_benign", "threshold_margin", "threshold_side"]]
        .isna()
        .to_numpy()
        .all()
    )
    assert "9 images refused by the input checks" in (tmp_path / "plain" / "report.md").read_text()

    result = run("evaluate", bundle, *options, "--out", tmp_path / "anyway", "--answer-anyway")
    assert result.exit_code == 0, result.output
    again = json.loads((tmp_path / "anyway" / "evaluation.json").read_text())["datasets"][-1]
    assert again["figures"] == entry["figures"]
    table = read(next((tmp_path / "anyway").glob("predictions-*.csv")))
    assert table["p_malignant"].notna().all()
    assert (table["status"] == "refused").sum() == 9


def test_scoring_what_evaluate_wrote_gives_its_figures(bundle: Path, folder: Path, tmp_path: Path) -> None:
    for extra, known in (([], False), (["--answer-anyway"], True)):
        out = tmp_path / str(known)
        run("evaluate", bundle, "--data", folder, "--resamples", "200", "--out", out, *extra)
        predictions = next(out.glob("predictions-*.csv"))
        result = run("score", predictions, "--resamples", "200", "--out", out / "scored")
        assert result.exit_code == 0, result.output
        evaluated = json.loads((out / "evaluation.json").read_text())["datasets"][-1]
        scored = json.loads((out / "scored" / "evaluation.json").read_text())["datasets"][0]
        for key in ("auroc", "sensitivity", "specificity", "brier"):
            assert scored["figures"][key]["value"] == evaluated["figures"][key]["value"]
        assert scored["abstention"]["refused"]["labels"] == evaluated["abstention"]["refused"]["labels"]
        assert ("figures" in scored["abstention"]["anyway"]) is known


def test_comparison_leaves_out_what_either_model_refuses_and_says_so(
    bundle: Path, folder: Path, tmp_path: Path
) -> None:
    run("evaluate", bundle, "--data", folder, "--resamples", "200", "--out", tmp_path / "e", "--answer-anyway")
    one = read(next((tmp_path / "e").glob("predictions-*.csv")))
    other = one.sample(frac=1, random_state=1)
    other["status"] = np.where(other["image"].str.contains("benign-3[0-4]"), "refused", "answered")
    other["p_malignant"] = 1 - other["p_malignant"]
    other["p_benign"] = 1 - other["p_malignant"]
    one.to_csv(tmp_path / "one.csv", index=False)
    other.to_csv(tmp_path / "other.csv", index=False)
    options = ["--threshold", "0.5", "--resamples", "200", "--out", tmp_path / "compared"]
    result = run("compare", tmp_path / "one.csv", tmp_path / "other.csv", *options)
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "compared" / "comparison.json").read_text())
    assert document["counts"]["images"] == 60 - 9 - 5
    assert document["counts"]["refused"] == {"one": 9, "other": 5}
    assert document["counts"]["left_out"] == 14
    kept = one[(one["status"] != "refused") & ~one["image"].str.contains("benign-3[0-4]")]
    area = roc_auc_score(kept["label"] == "malignant", kept["p_malignant"])
    values = [group["figures"]["auroc"]["value"] for group in document["groups"]]
    assert values == pytest.approx([area, 1 - area])
    assert abs(area - 0.5) > 0.01
    assert any("14 further images that the checks of a model refused (9 by one and 5 by other)" in sentence
               for sentence in document["limits"])  # fmt: skip


def test_table_of_refused_images_alone_cannot_be_scored(tmp_path: Path) -> None:
    table = pd.DataFrame({"image": ["a", "b"], "label": ["benign", "malignant"], "status": "refused"})
    table.assign(p_malignant="", p_benign="").to_csv(tmp_path / "t.csv", index=False)
    refused(run("score", tmp_path / "t.csv", "--threshold", "0.5"), "no answered image", "2 are refused by the checks")


def test_refused_row_has_all_its_numbers_or_none(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "image": ["a", "b", "c"],
            "label": ["benign", "malignant", "malignant"],
            "status": ["answered", "Refused", "answered"],
            "p_benign": ["0.3", "", "0.2"],
            "p_malignant": ["0.7", "0.4", "0.8"],
        }
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    sentence = refused(run("score", tmp_path / "t.csv", "--threshold", "0.5"), "row 3", "missing or not finite")
    assert "b has a probability" in sentence


def test_images_that_were_not_kept_when_they_were_read_are_answered_anyway_too(
    bundle: Path, folder: Path, tmp_path: Path
) -> None:
    predictor = Predictor.load(bundle, device="cpu")
    manifest = open_external(folder, predictor)
    evaluation, _ = evaluate_manifest(predictor, manifest, out=tmp_path, resamples=200)
    assert evaluation.as_dict()["abstention"]["anyway"]["figures"]["sensitivity"]["n"] == 24
    assert not predictor.answer_anyway
