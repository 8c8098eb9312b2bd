"""The threshold of `medsharp compare` and `medsharp score`: given, the table's or the bundle's, and never made up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import refused, run

from medsharp.bundle import default_bundle, read_bundle
from medsharp.data.phantom.simulate import simulate_image

ADVICE = "give the operating point that was fixed before these images were seen as --threshold"


def table(seed: int, images: int = 80) -> pd.DataFrame:
    labels = np.random.default_rng(0).random(images) < 0.4
    scores = 1 / (1 + np.exp(-(2 * labels - 1 + np.random.default_rng(seed).normal(size=images))))
    return pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(images)],
            "patient": [f"P{number // 2}" for number in range(images)],
            "label": np.where(labels, "malignant", "benign"),
            "p_benign": 1 - scores,
            "p_malignant": scores,
            "error": "",
        }
    )


def written(path: Path, frame: pd.DataFrame) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    return path


def scored(out: Path, *arguments: str | Path) -> dict:
    result = run("score", *arguments, "--out", out, "--resamples", "100")
    assert result.exit_code == 0, result.output
    return json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["datasets"][0]


def sensitivity(frame: pd.DataFrame, thresholds: float | np.ndarray) -> float:
    return float((frame["p_malignant"] >= thresholds)[frame["label"] == "malignant"].mean())


def test_without_any_threshold_both_refuse_and_say_what_to_do(tmp_path: Path) -> None:
    a, b = (written(tmp_path / f"{name}.csv", table(seed)) for name, seed in (("a", 1), ("b", 2)))
    refused(run("compare", a, b, "--out", tmp_path / "out"), ADVICE)
    refused(run("score", a, "--out", tmp_path / "out"), ADVICE)
    written(b, table(2).assign(threshold=0.3))
    refused(run("compare", b, a), f"{a} has no column threshold")
    written(a, table(1).assign(threshold=""))
    refused(run("compare", a, b), ADVICE)
    assert not (tmp_path / "out").exists()


def test_given_comes_before_the_column_and_the_column_before_the_bundle(tmp_path: Path) -> None:
    bundle, frame = read_bundle(default_bundle(), verify=False), table(1)
    folder = tmp_path / "bundle"
    shutil.copytree(default_bundle(), folder)
    file = written(folder / "predictions.csv", frame)
    frozen = bundle.operating_point.threshold
    found = scored(tmp_path / "out", file)
    assert found["threshold"] == frozen
    assert found["figures"]["sensitivity"]["value"] == pytest.approx(sensitivity(frame, frozen))
    assert "frozen in bundle, the bundle beside it" in found["notes"][0]
    written(file, frame.assign(threshold=0.61, threshold_from="sealed beforehand"))
    found = scored(tmp_path / "out", file)
    assert found["threshold"] == 0.61
    assert found["figures"]["sensitivity"]["value"] == pytest.approx(sensitivity(frame, 0.61))
    assert "column threshold of predictions.csv: sealed beforehand" in found["notes"][0]
    found = scored(tmp_path / "out", file, "--threshold", "0.8")
    assert found["threshold"] == 0.8
    assert "0.8000, given as --threshold" in found["notes"][0]
    other = written(tmp_path / "away" / "predictions.csv", table(2).assign(threshold=0.2))
    result = run("compare", file, other, "--out", tmp_path / "out", "--resamples", "100")
    assert result.exit_code == 0, result.output
    groups = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))["groups"]
    assert [model["threshold"] for group in groups for model in group["models"]] == [0.61, 0.2]


def test_score_decides_each_image_at_its_own_threshold(tmp_path: Path) -> None:
    frame = table(1)
    own = np.where(np.arange(len(frame)) % 4 == 0, 0.1, 0.7)
    found = scored(tmp_path / "out", written(tmp_path / "a.csv", frame.assign(threshold=own)))
    assert found["figures"]["sensitivity"]["value"] == pytest.approx(sensitivity(frame, own))
    assert "2 from 0.1000 to 0.7000" in " ".join(found["notes"])
    # Images that failed have no say in it.
    failed = frame.assign(threshold=0.3)
    failed.loc[3, ["p_benign", "p_malignant", "error", "threshold"]] = [np.nan, np.nan, "unreadable", np.nan]
    assert scored(tmp_path / "out", written(tmp_path / "b.csv", failed))["threshold"] == 0.3


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "row 7: the threshold is missing"),
        ("1.5", "row 7: the threshold is '1.5', which is no probability"),
        ("-0.1", "row 7: the threshold is '-0.1', which is no probability"),
        ("high", "row 7: the threshold is 'high', which is no probability"),
    ],
)
def test_wrong_threshold_is_named_by_its_row(tmp_path: Path, value: str, words: str) -> None:
    column = ["0.3"] * 80
    column[5] = value
    file = written(tmp_path / "a.csv", table(1).assign(threshold=column))
    refused(run("score", file), words)
    refused(run("compare", file, written(tmp_path / "b.csv", table(2).assign(threshold=0.3))), words)


def test_threshold_of_another_class_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", table(1).assign(threshold=0.3, threshold_class="malignant"))
    other = written(tmp_path / "b.csv", table(2).assign(threshold=0.3))
    words = "is of the probability of malignant, and says nothing of benign: give one as --threshold"
    refused(run("score", file, "--positive", "benign"), words)
    refused(run("compare", file, other, "--positive", "benign"), words)
    shutil.copytree(default_bundle(), tmp_path / "bundle")
    beside = written(tmp_path / "bundle" / "a.csv", table(1))
    refused(run("score", beside, "--positive", "benign"), words)


def test_predict_writes_the_threshold_and_where_it_comes_from(tmp_path: Path) -> None:
    from PIL import Image

    bundle = read_bundle(default_bundle(), verify=False)
    folder = tmp_path / "hospital"
    for label in ("benign", "malignant"):
        (folder / label).mkdir(parents=True)
        pixels = simulate_image("A", label, np.random.default_rng(len(label)), size=128).pixels
        Image.fromarray(pixels).save(folder / label / "one.png")
    for images in (folder, folder / "benign" / "one.png"):
        result = run("predict", default_bundle(), images, "--out", tmp_path / "predictions.csv")
        assert result.exit_code == 0, result.output
        found = pd.read_csv(tmp_path / "predictions.csv")
        assert set(found["threshold"]) == {bundle.operating_point.threshold}
        assert set(found["threshold_class"]) == {bundle.positive}
        (origin,) = set(found["threshold_from"])
        assert origin.startswith(f"frozen in the bundle {bundle.name} (")
    # The side that stands in the table is that of the threshold beside it.
    assert list(found["threshold_side"] == "above") == list(found["p_malignant"] >= found["threshold"])


def with_undecided_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """An excluded row, a failed one and a refused one without an answer, each of another model than the rest."""
    frame = frame.assign(
        threshold=0.3, threshold_class="malignant", threshold_from="of this model", exclude="", status="answered"
    )
    others = ["threshold", "threshold_class", "threshold_from"]
    frame.loc[4, ["exclude", *others]] = ["duplicate", 0.9, "benign", "of another"]
    frame.loc[11, ["p_benign", "p_malignant", "error", *others]] = [np.nan, np.nan, "cut", 0.8, "normal", "of a third"]
    frame.loc[23, ["p_benign", "p_malignant", "status", "threshold"]] = [np.nan, np.nan, "refused", 0.7]
    return frame


@pytest.mark.parametrize("passes", [(), ("--stream",)])
def test_rows_that_nothing_is_decided_of_bring_no_threshold(tmp_path: Path, passes: tuple[str, ...]) -> None:
    frame = with_undecided_rows(table(1))
    found = scored(tmp_path / "out", written(tmp_path / "a.csv", frame), *passes)
    assert found["threshold"] == found["operating_point"]["threshold"] == 0.3
    assert found["thresholds"] == {"count": 1, "least": 0.3, "greatest": 0.3}
    kept = frame.drop(index=[4, 11, 23])
    assert found["figures"]["sensitivity"]["value"] == pytest.approx(sensitivity(kept, 0.3))
    assert found["figures"]["net_benefit_at_threshold"]["value"] is not None
    assert found["notes"][0] == "Threshold 0.3000, column threshold of a.csv: of this model."
    # A refused image that was answered anyway is decided, and its threshold counts.
    frame.loc[23, ["p_benign", "p_malignant"]] = [0.25, 0.75]
    file = written(tmp_path / "b.csv", frame)
    if passes:
        refused(run("score", file, *passes), "0.3 and 0.7 among them")
    else:
        assert scored(tmp_path / "more", file)["thresholds"] == {"count": 2, "least": 0.3, "greatest": 0.7}


def test_plan_takes_the_threshold_of_the_rows_that_are_decided(tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", with_undecided_rows(table(1, images=500)))
    result = run("plan", "--from", file, "--net-benefit-width", "0.3", "--out", tmp_path / "plan")
    assert result.exit_code == 0, result.output
    assumed = json.loads((tmp_path / "plan" / "plan.json").read_text(encoding="utf-8"))["assumptions"]
    assert assumed["threshold"] == 0.3


@pytest.mark.parametrize("passes", [(), ("--stream",)])
def test_threshold_of_a_probability_decides_no_other_scale(tmp_path: Path, passes: tuple[str, ...]) -> None:
    frame = table(1).assign(risk=lambda rows: 100 * rows["p_malignant"], threshold=0.1, threshold_class="malignant")
    file = written(tmp_path / "a.csv", frame)
    words = "is of the probability of malignant, and says nothing of scores on another scale"
    refused(run("score", file, "--score", "risk", "--out", tmp_path / "out", *passes), words, "--threshold")
    assert not (tmp_path / "out").exists()
    found = scored(tmp_path / "out", file, "--score", "risk", "--threshold", "40", *passes)
    assert found["figures"]["sensitivity"]["value"] == pytest.approx(sensitivity(frame, 0.4))
    # A table of scores may have a threshold of theirs.
    plain = written(tmp_path / "b.csv", frame.assign(threshold=60).drop(columns="threshold_class"))
    found = scored(tmp_path / "own", plain, "--score", "risk", *passes)
    assert found["figures"]["sensitivity"]["value"] == pytest.approx(sensitivity(frame, 0.6))


def test_several_thresholds_are_told_as_several_and_not_as_their_median(tmp_path: Path) -> None:
    frame = table(1, images=150).assign(birads=lambda rows: np.where(rows["p_malignant"] > 0.6, "4", "3"))
    own = np.where(np.arange(len(frame)) % 3 == 0, 0.13, 0.61)  # the median, 0.37, is no image's
    file = written(tmp_path / "a.csv", frame.assign(threshold=own))
    found = scored(tmp_path / "out", file, "--format", "md,html,json")
    assert found["thresholds"] == {"count": 2, "least": 0.13, "greatest": 0.61}
    each = "each at the threshold of its own model"
    for name in ("report.md", "report.html"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if "0.3700" in line or "0.37 " in line or "37.0" in line]
        assert all("median of the thresholds" in line for line in lines), lines
        assert f"With all images decided, {each}, it finds" in text
        assert f"a probability of at least its threshold, {each} (2 from 0.1300 to 0.6100)" in text
        assert f"Images called malignant, {each} (2 from 0.1300 to 0.6100)" in text
        assert f"of the model {each}, less the reader" in text
        assert f"probability from a threshold on, {each} (2 from 0.1300 to 0.6100)" in text
    # One threshold is told as ever.
    found = scored(tmp_path / "one", written(tmp_path / "b.csv", frame.assign(threshold=0.37)), "--format", "md,json")
    text = (tmp_path / "one" / "report.md").read_text(encoding="utf-8")
    assert found["thresholds"]["count"] == 1
    assert each not in text
    assert text.count("0.3700") > 3


def test_several_thresholds_leave_the_most_probable_class_as_it_is(tmp_path: Path) -> None:
    rng, classes = np.random.default_rng(4), ["benign", "malignant", "normal"]
    place = rng.choice(3, 180, p=[0.5, 0.3, 0.2])
    odds = rng.normal(size=(180, 3))
    odds[np.arange(180), place] += 1.2
    shares = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
    frame = pd.DataFrame({"image": [f"{n}.png" for n in range(180)], "label": np.array(classes)[place]}).assign(
        patient=[f"P{n // 3}" for n in range(180)], **{f"p_{name}": shares[:, k] for k, name in enumerate(classes)}
    )
    own = np.where(np.arange(180) // 3 % 2 == 0, 0.05, 0.4)  # a patient's images are of one model
    found = scored(tmp_path / "out", written(tmp_path / "a.csv", frame.assign(threshold=own)))
    chosen = shares.argmax(axis=1)
    overall, each = found["multiclass"]["overall"], found["multiclass"]["one_vs_rest"]
    assert overall["accuracy"]["value"] == pytest.approx((chosen == place).mean())
    recalls = [(chosen == k)[place == k].mean() for k in range(3)]
    assert overall["macro_sensitivity"]["value"] == pytest.approx(np.mean(recalls))
    for k, name in enumerate(classes):
        assert each[name]["sensitivity"]["value"] == pytest.approx(recalls[k])
        assert each[name]["specificity"]["value"] == pytest.approx((chosen != k)[place != k].mean())
        assert each[name]["ppv"]["value"] == pytest.approx((place == k)[chosen == k].mean())
        assert found["confusion"][name][name] == ((chosen == k) & (place == k)).sum()
    # Decisions are at each image's own threshold, and by patient the mean probability meets that of its images.
    flagged = shares[:, 1] >= own
    assert found["figures"]["sensitivity"]["value"] == pytest.approx(flagged[place == 1].mean())
    ill = (place == 1).reshape(60, 3).any(axis=1)
    called = {
        "mean": shares[:, 1].reshape(60, 3).mean(axis=1) >= own[::3],
        "maximum": flagged.reshape(60, 3).any(axis=1),
        "any": flagged.reshape(60, 3).any(axis=1),
    }
    for rule, calls in called.items():
        figures = found["by_patient"]["rules"][rule]
        assert figures["sensitivity"]["value"] == pytest.approx(calls[ill].mean()), rule
        assert figures["specificity"]["value"] == pytest.approx((~calls[~ill]).mean()), rule
    scores, plain = {}, frame.assign(threshold=0.2)
    for name, one in (("own", found), ("one", scored(tmp_path / "plain", written(tmp_path / "b.csv", plain)))):
        scores[name] = one["by_patient"]["rules"]["mean"]["auroc"]["value"]
    assert scores["own"] == scores["one"]
