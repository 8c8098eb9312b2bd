"""`medsharp recalibrate` from end to end, against arithmetic written apart.

Each test is there for a wrong joint: an intercept of the other sign, a slope upside down, figures of the part that
decided, a threshold of the old scale on new probabilities, an update that one of the consumers does not get.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import run
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.metrics import roc_auc_score
from starlette.testclient import TestClient

from medsharp.bundle import BundleSpec, digest_of, read_bundle
from medsharp.data.manifest import read_manifest
from medsharp.evaluation.statistics.operating_point import threshold_interval
from medsharp.inference import Predictor
from medsharp.inference.checks import Finding
from medsharp.inference.external import evaluate_internal
from serve import create_app

CHANGED = ("intercept", "slope")


def log_odds(probabilities: pd.Series) -> np.ndarray:
    values = probabilities.to_numpy(dtype=float)
    return np.log(values) - np.log1p(-values)


@pytest.fixture(scope="module")
def update(parent: Path, hospital: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Updates the bundle by a method, once; gives the new bundle, beside which its record lies."""
    root, made = tmp_path_factory.mktemp("updated"), {}

    def make(method: str) -> Path:
        if method not in made:
            options = ["--update", method, "--share", "0.4", "--seed", "3", "--resamples", "200"]
            result = run("recalibrate", parent, "--data", hospital, "--out", root / method, *options)
            assert result.exit_code == 0, result.output
            made[method] = root / method
        return made[method]

    return make


def tables(bundle: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions before and after, by image, with the part of each."""
    record = bundle.with_name(f"{bundle.name}-record")
    parts = pd.read_csv(record / "parts.csv").set_index("image")["part"]
    before, after = (pd.read_csv(record / f"predictions-{name}.csv").set_index("image") for name in ("before", "after"))
    return before.assign(part=parts), after.assign(part=parts)


def last(bundle: Path) -> BundleSpec:
    return read_bundle(bundle)


def test_parts_are_of_patients_in_their_shares_and_their_list_is_hashed(update: Callable[[str], Path]) -> None:
    bundle = update("slope")
    path = bundle.with_name("slope-record") / "parts.csv"
    parts = pd.read_csv(path)
    assert parts.groupby("patient")["part"].nunique().max() == 1
    assert parts["group"].isna().all() or parts.groupby("group")["part"].nunique().max() == 1
    assert (parts["part"] == "calibration").mean() == pytest.approx(0.4, abs=0.05)
    shares = parts.groupby("part")["label"].agg(lambda labels: (labels == "malignant").mean())
    assert abs(shares["calibration"] - shares["evaluation"]) < 0.06
    told = last(bundle).updates[-1]
    assert told.parts == hashlib.sha256(path.read_bytes()).hexdigest()
    for name, part in (("calibration", told.calibration), ("evaluation", told.evaluation)):
        rows = parts[parts["part"] == name]
        positive = rows[rows["label"] == "malignant"]
        assert (part.images, part.positives) == (len(rows), len(positive))
        assert (part.patients, part.positive_patients) == (rows["patient"].nunique(), positive["patient"].nunique())
    assert (told.share, told.seed) == (0.4, 3)


def test_intercept_and_slope_are_those_of_the_calibration_part(update: Callable[[str], Path]) -> None:
    before, _ = tables(update("slope"))
    rows = before[before["part"] == "calibration"]
    y, odds = (rows["label"] == "malignant").to_numpy(), log_odds(rows["p_malignant"])

    def loss(parameters: np.ndarray) -> float:
        fitted = parameters[0] + parameters[1] * odds
        return float(np.logaddexp(0, fitted).sum() - fitted[y].sum())

    both = minimize(loss, [0.0, 1.0], tol=1e-10).x
    alone = minimize(lambda a: loss(np.array([a[0], 1.0])), [0.0], tol=1e-10).x
    slope, intercept = last(update("slope")).updates[-1], last(update("intercept")).updates[-1]
    assert (slope.intercept, slope.slope) == pytest.approx(tuple(both), abs=1e-4)
    assert (intercept.intercept, intercept.slope) == (pytest.approx(alone[0], abs=1e-4), 1.0)
    assert both[1] < 0.8  # neither is its own inverse or without effect here
    assert abs(alone[0]) > 0.3


def test_extreme_probabilities_are_calibrated_by_the_update(
    make_bundle: Callable[..., Path], hospital: Path, tmp_path: Path
) -> None:
    """Of a network whose logits are twenty times as large, most probabilities lie beyond 1e-7."""
    parent = make_bundle(tmp_path / "sure", scale=5.0, bias=-30.0)
    result = run("recalibrate", parent, "--data", hospital, "--out", tmp_path / "new", "--update", "slope")
    assert result.exit_code == 0, result.output
    before, after = tables(tmp_path / "new")
    chosen = (after["part"] == "calibration").to_numpy()
    y = (after["label"] == "malignant").to_numpy()[chosen]
    assert (before["p_malignant"][chosen] < 1e-7).mean() > 0.3
    odds = (np.log(after["p_malignant"]) - np.log(after["p_benign"])).to_numpy()[chosen]

    def loss(parameters: np.ndarray) -> float:
        fitted = parameters[0] + parameters[1] * odds
        return float(np.logaddexp(0, fitted).sum() - fitted[y].sum())

    assert minimize(loss, [0.0, 1.0], tol=1e-10).x == pytest.approx([0, 1], abs=1e-3)


def test_tables_of_the_record_are_decided_each_at_its_own_threshold(update: Callable[[str], Path]) -> None:
    bundle = update("slope")
    for table, threshold in zip(tables(bundle), (0.11, last(bundle).operating_point.threshold), strict=True):
        assert table["threshold"].to_numpy() == pytest.approx(threshold, abs=1e-12)
        assert (table["threshold_side"] == "above").tolist() == (table["p_malignant"] >= threshold).tolist()
        margins = log_odds(table["p_malignant"]) - np.log(threshold / (1 - threshold))
        assert table["threshold_margin"].to_numpy() == pytest.approx(margins, abs=1e-9)


@pytest.mark.parametrize("method", CHANGED)
def test_every_consumer_gets_the_update(
    method: str, update: Callable[[str], Path], parent: Path, hospital: Path, tmp_path: Path
) -> None:
    bundle = update(method)
    spec, told = last(bundle), last(bundle).updates[-1]
    images = hospital / "images"
    for name, folder in (("old", parent), ("new", bundle)):
        result = run("predict", folder, images, "--out", tmp_path / f"{name}.csv")
        assert result.exit_code == 0, result.output
    old, new = (pd.read_csv(tmp_path / f"{name}.csv").set_index("image") for name in ("old", "new"))
    expected = expit(told.intercept + told.slope * log_odds(old["p_malignant"]))
    assert new["p_malignant"].to_numpy() == pytest.approx(expected, abs=1e-5)
    assert new["p_benign"].to_numpy() == pytest.approx(1 - expected, abs=1e-5)
    assert (new["threshold_side"] == "above").tolist() == (expected >= spec.operating_point.threshold).tolist()
    assert np.abs(new["p_malignant"] - old["p_malignant"]).max() > 0.05

    some = old.index[:3]
    with TestClient(create_app(Predictor.load(bundle, device="cpu"))) as client:
        files = [("files", (Path(name).name, (images / Path(name).name).read_bytes(), "image/png")) for name in some]
        answers = client.post("/predict", files=files).json()
        model = client.get("/model").json()
    served = [entry["positive_probability"] for entry in answers]
    assert served == pytest.approx(expected[:3], abs=1e-4)
    assert model["threshold"] == spec.operating_point.threshold
    assert model["threshold_from"] == "images of simulated hospital B, its calibration part"
    assert model["updates"] == [told.sentence()]

    out = tmp_path / "evaluation"
    result = run("evaluate", bundle, "--data", hospital, "--out", out, "--resamples", "100")
    assert result.exit_code == 0, result.output
    (written,) = out.glob("predictions-*.csv")
    rows = pd.read_csv(written)
    named = dict(zip([Path(name).name for name in old.index], expected, strict=True))
    assert rows["p_malignant"].to_numpy() == pytest.approx([named[Path(name).name] for name in rows["image"]], abs=1e-5)
    entry = next(e for e in json.loads((out / "evaluation.json").read_text())["datasets"] if e["role"] == "external")
    assert entry["threshold"] == spec.operating_point.threshold
    page = (out / "report.html").read_text()
    assert "External data decided nothing" not in page
    assert "was updated on" in page


def test_graph_and_temperature_alone_give_the_answer_to_whoever_reads_a_bundle(
    update: Callable[[str], Path], parent: Path
) -> None:
    """As any runtime does it: the graph's logits, divided by `temperature`, softmax."""
    images = np.random.default_rng(0).integers(0, 255, (6, 64, 64)).astype(np.uint8)
    old, new = Predictor.load(parent, device="cpu"), Predictor.load(update("slope"), device="cpu")
    before, after = old.session.run(images), new.session.run(images)
    told = new.spec.updates[-1]
    assert new.spec.temperature == pytest.approx(old.spec.temperature / told.slope)
    margins = [(out["logits"][:, 1] - out["logits"][:, 0]) for out in (before, after)]
    expected = told.intercept + told.slope * margins[0] / old.spec.temperature
    assert margins[1] / new.spec.temperature == pytest.approx(expected, abs=1e-5)
    for name in ("features", "cam"):
        assert np.array_equal(before[name], after[name])
    answers = [p.predict_pixels(list(images[:1]))[0] for p in (old, new)]
    maps = [saliency.values for one in answers if (saliency := one.saliency()) is not None]
    # Places differ by the slope; the intercept moves all of them alike, so that the map still agrees with the answer.
    centred = [values - values.mean() for values in maps]
    assert centred[1] == pytest.approx(told.slope * centred[0], abs=1e-4)
    assert [values.mean() for values in maps] == pytest.approx([one.margin for one in answers], abs=1e-4)


@pytest.mark.parametrize("method", [*CHANGED, "threshold"])
def test_threshold_is_the_parents_rule_on_the_new_probabilities_of_the_calibration_part(
    method: str, update: Callable[[str], Path]
) -> None:
    bundle = update(method)
    point = last(bundle).operating_point
    _, after = tables(bundle)
    rows = after[after["part"] == "calibration"]
    positives = np.sort(rows.loc[rows["label"] == "malignant", "p_malignant"])[::-1]
    least = positives[int(np.ceil(0.9 * len(positives))) - 1]  # sensitivity 0.9: the parent's, not the default
    below = rows.loc[rows["p_malignant"] < least, "p_malignant"].max()
    assert point.threshold == pytest.approx((least + below) / 2, abs=1e-9)
    assert (point.images, point.positives) == (len(rows), len(positives))
    assert "sensitivity >= 0.9 on the calibration part of simulated hospital B" in point.rule
    assert point.interval is not None
    assert point.interval[0] < point.threshold < point.interval[1]
    given = rows["p_malignant"].to_numpy(), (rows["label"] == "malignant").to_numpy(), 0.9
    assert point.interval == pytest.approx(threshold_interval(*given, pd.factorize(rows["patient"])[0]), abs=1e-9)
    assert point.interval != pytest.approx(threshold_interval(*given), abs=1e-6)  # of images as if all were patients


@pytest.mark.parametrize("method", [*CHANGED, "threshold"])
def test_figures_are_of_the_evaluation_part_each_at_its_own_threshold(
    method: str, update: Callable[[str], Path]
) -> None:
    bundle = update(method)
    spec = last(bundle)
    told = spec.updates[-1]
    for table, figures, threshold in zip(
        tables(bundle), (told.before, told.after), (0.11, spec.operating_point.threshold), strict=True
    ):
        rows = table[table["part"] == "evaluation"]
        y, p = (rows["label"] == "malignant").to_numpy(), rows["p_malignant"].to_numpy()
        assert figures["auroc"].value == pytest.approx(roc_auc_score(y, p))
        assert figures["sensitivity"].value == pytest.approx((p[y] >= threshold).mean())
        assert figures["specificity"].value == pytest.approx((p[~y] < threshold).mean())
        assert figures["brier"].value == pytest.approx(((p - y) ** 2).mean())
        low, high = figures["brier"].low, figures["brier"].high
        assert low is not None
        assert high is not None
        assert low < ((p - y) ** 2).mean() < high
    change = told.change["sensitivity"]
    after, before = told.after["sensitivity"].value, told.before["sensitivity"].value
    assert after is not None
    assert before is not None
    assert change.value == pytest.approx(after - before)
    assert after > before


def test_none_leaves_answers_and_threshold_as_they_were(update: Callable[[str], Path], parent: Path) -> None:
    old, new = last(parent), last(update("none"))
    assert new.files["model.onnx"] == old.files["model.onnx"]
    assert (new.temperature, new.operating_point) == (old.temperature, old.operating_point)
    assert new.held_out == old.held_out
    assert new.updates[-1].method == "none"
    assert new.decided_on == "internal validation images"


def test_closed_test_chooses_the_slope_where_the_scale_is_wrong(update: Callable[[str], Path]) -> None:
    told = last(update("auto")).updates[-1]
    assert (told.method, told.chosen_by) == ("slope", "closed test")
    made = [(test.kept, test.against, test.df) for test in told.tests]
    assert made == [("none", "slope", 2), ("intercept", "slope", 1)]
    assert told.slope == last(update("slope")).updates[-1].slope
    assert last(update("slope")).updates[-1].tests == ()


def test_lineage_is_in_bundle_and_card_and_the_parent_stays(update: Callable[[str], Path], parent: Path) -> None:
    before = digest_of(last(parent))
    spec = last(update("slope"))
    told = spec.updates[-1]
    assert (told.parent, told.parent_digest) == ("parent", before)
    assert told.parent_point == last(parent).operating_point == spec.exported_point
    assert spec.exported_temperature == pytest.approx(1.6)
    assert spec.name == "slope"
    assert spec.held_out == ()
    card = (update("slope") / "MODEL_CARD.md").read_text()
    words = " ".join(card.split())
    assert told.sentence() in words
    assert "medsharp recalibrate parent --data LOCAL --update slope --share 0.4 --seed 3 --out slope" in card
    assert f"probability >= {spec.operating_point.threshold:.4f}" in words
    assert "probability >= 0.1100" in words
    assert f"| Sensitivity | {told.before['sensitivity']} | {told.after['sensitivity']} |" in card
    assert "updates" not in (parent / "bundle.yaml").read_text()


def test_tables_in_the_bundle_are_on_the_new_scale(update: Callable[[str], Path], parent: Path) -> None:
    bundle = update("slope")
    spec, told = last(bundle), last(bundle).updates[-1]
    for name in ("internal.csv", "validation.csv"):
        old, new = pd.read_csv(parent / name), pd.read_csv(bundle / name)
        expected = expit(told.intercept + told.slope * log_odds(old["p_malignant"].clip(1e-7, 1 - 1e-7)))
        assert new["p_malignant"].to_numpy() == pytest.approx(expected, abs=1e-6)
        assert (new["p_malignant"] + new["p_benign"]).to_numpy() == pytest.approx(1, abs=2e-6)
    internal = evaluate_internal(spec, bundle)
    assert internal is not None
    figures = internal.as_dict()["figures"]
    metadata = json.loads((bundle / "metadata.json").read_text())
    assert metadata["eval_metrics"]["internal_sensitivity"]["value"] == figures["sensitivity"]["value"]
    assert told.sentence() in metadata["changelog"][spec.medsharp]


def test_evaluation_of_the_updated_bundle_on_its_calibration_part_is_a_leak(
    update: Callable[[str], Path], parent: Path, hospital: Path, tmp_path: Path
) -> None:
    bundle = update("intercept")
    parts = pd.read_csv(bundle.with_name("intercept-record") / "parts.csv").set_index("image")["part"]

    def notes(folder: Path, part: str) -> list[str]:
        manifest = read_manifest(hospital)
        wanted = manifest.table["image"].map(parts) == part
        table = manifest.table[wanted].copy()
        data = tmp_path / part
        data.mkdir(exist_ok=True)
        table["mask"] = ""
        table["image"] = [Path(name).name for name in table["image"]]
        for name in table["image"]:
            (data / name).write_bytes((hospital / "images" / name).read_bytes())
        table.to_csv(data / "manifest.csv", index=False)
        out = tmp_path / f"{folder.name}-{part}"
        result = run("evaluate", folder, "--data", data, "--out", out, "--resamples", "100", "--format", "json")
        assert result.exit_code == 0, result.output
        (entry,) = (e for e in json.loads((out / "evaluation.json").read_text())["datasets"] if e["role"] == "external")
        return [note for note in entry["notes"] if note.startswith("LEAK")]

    (sentence,) = notes(bundle, "calibration")
    assert f"the model was updated on {(parts == 'calibration').sum()} of these images" in sentence
    assert notes(bundle, "evaluation") == []
    assert notes(parent, "calibration") == []


def test_parts_are_drawn_alike_whatever_the_order_and_written_before_any_prediction(
    parent: Path, hospital: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("medsharp.recalibration.run.predict_manifest", stop)
    lists = []
    for name, order in (("a", 1), ("b", -1)):
        table = pd.read_csv(hospital / "manifest.csv", dtype=str, keep_default_na=False).iloc[::order]
        manifest = hospital / f"{name}.csv"
        table.to_csv(manifest, index=False)
        record = tmp_path / f"r{name}"
        result = run("recalibrate", parent, "--data", manifest, "--out", tmp_path / name, "--record", record)
        manifest.unlink()
        assert result.exit_code == 130
        assert not (tmp_path / name).exists()
        lists.append(pd.read_csv(record / "parts.csv"))
    assert lists[0]["part"].tolist() == lists[1]["part"].tolist()
    assert lists[0]["image"].tolist() == lists[1]["image"].tolist()


def test_refused_images_neither_decide_the_update_nor_measure_it(
    parent: Path, hospital: Path, tmp_path: Path, stub_findings: Callable[[Callable[[str], tuple[Finding, ...]]], None]
) -> None:
    refusal = Finding("stub", "refusal", "a test", 1.0, 0.0)
    stub_findings(lambda name: (refusal,) if sum(name.encode()) % 5 == 0 else ())
    options = ["--update", "intercept", "--share", "0.4", "--seed", "3", "--resamples", "200"]
    result = run("recalibrate", parent, "--data", hospital, "--out", tmp_path / "new", *options)
    assert result.exit_code == 0, result.output
    before, after = tables(tmp_path / "new")
    images = pd.read_csv(tmp_path / "new-record" / "parts.csv")["image"]
    refused = {name for name in images if sum(name.encode()) % 5 == 0}
    record = read_bundle(tmp_path / "new").updates[-1]
    assert refused
    assert set(before.index) == set(images) - refused
    assert len(before) == record.calibration.images + record.evaluation.images
    assert f"{len(refused)} images were refused by the checks" in " ".join(result.output.split())
    decide = after[after["part"] == "calibration"]
    # The intercept is of those that were answered: their mean probability is their share of cancers.
    assert decide["p_malignant"].mean() == pytest.approx((decide["label"] == "malignant").mean(), abs=1e-4)
