"""Several runs as one bundle: what decides its temperature and threshold, and what it says of its members."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from medsharp.bundle import Average, BundleSpec, read_bundle
from medsharp.cli import app
from medsharp.config import dump_config, load_config
from medsharp.data.manifest import Manifest, read_manifest, write_manifest
from medsharp.evaluation.statistics.operating_point import threshold_interval
from medsharp.export import export_runs
from medsharp.inference import Predictor
from medsharp.keys import clusters_of
from medsharp.preprocess import preprocess
from medsharp.runs import WEIGHTS, Run
from medsharp.weights_origin import WeightsOrigin

from .runs import FOLDS, copy_run, fold_splits, folds_of, member_network, speckle_manifest, write_run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return speckle_manifest(tmp_path_factory.mktemp("speckle"))


@pytest.fixture(scope="module")
def folds(data: Manifest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return folds_of(tmp_path_factory.mktemp("folds"), data)


@pytest.fixture(scope="module")
def inputs(data: Manifest) -> np.ndarray:
    """The networks' inputs of all images, uint8 [60, 64, 64]."""
    spec = load_config(overrides=["data.image_size=64"]).data.preprocessing()
    return np.stack([preprocess(data.read(row).pixels, spec) for row in data.table.to_dict("records")])


def shares_of(run: Path, inputs: np.ndarray, *, flip: bool = False) -> np.ndarray:
    """Uncalibrated probabilities of a run's network [N, 2], perhaps over both views."""
    network = Run.load(run).load_network()
    views = [inputs, inputs[:, :, ::-1]] if flip else [inputs]
    with torch.inference_mode():
        logits = [network(torch.from_numpy(np.ascontiguousarray(view)[:, None])).double() for view in views]
    return torch.stack(logits).softmax(dim=-1).mean(dim=0).numpy()


def tempered(shares: np.ndarray, temperature: float) -> np.ndarray:
    powers = shares ** (1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def bundle(folds: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BundleSpec]:
    out = tmp_path_factory.mktemp("bundles") / "three"
    arguments = ["export", *map(str, folds), "--out", str(out), "--flip", "--weights", "fp16", "--sensitivity", "0.8"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "the mean of the probabilities that 3 networks give of the image and its mirror image" in words
    assert "on 60 images out of the folds" in words
    assert "not measured on a hospital left out" in words
    return out, read_bundle(out)


def test_another_input_size_is_that_of_everything(folds: list[Path], data: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "large"
    result = CliRunner().invoke(app, ["export", *map(str, folds), "--out", str(out), "--image-size", "96"])
    assert result.exit_code == 0, result.output
    spec = read_bundle(out)
    assert spec.preprocess.size == 96
    place = load_config(overrides=["data.image_size=96"]).data.preprocessing()
    large = np.stack([preprocess(data.read(row).pixels, place) for row in data.table.to_dict("records")])
    shares = [shares_of(run, large) for run in folds]
    predictions = Predictor.load(out, device="cpu").predict([data.path(name) for name in data.table["image"]])
    expected = tempered(np.mean(shares, axis=0), spec.temperature)[:, 1]
    np.testing.assert_allclose([one.positive_probability for one in predictions], expected, atol=1e-4)
    own = np.stack([tempered(share, spec.temperature)[:, 1] for share in shares], axis=1)
    decided = [own[row, [split == "val" for split in splits].index(True)] for row, splits in by_image(data)]
    written = pd.read_csv(out / "validation.csv")["p_malignant"]
    np.testing.assert_allclose(np.sort(written), np.sort(decided), atol=1e-4)
    card = " ".join((out / "MODEL_CARD.md").read_text().split())
    assert "input 96 x 96 pixels (letterbox, crop scan), trained at 64 x 64." in card
    assert "medsharp export RUN0 RUN1 RUN2 --image-size 96 --out large" in card


def test_several_sizes_are_views_of_one_input(folds: list[Path], data: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "sizes"
    options = ["--image-size", "64", "--image-size", "96", "--image-size", "64", "--average", "logits"]
    result = CliRunner().invoke(app, ["export", *map(str, folds), "--out", str(out), *options])
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "the mean of the logits that 3 networks give of the image at 96 and 64 pixels" in words
    spec = read_bundle(out)
    assert spec.preprocess.size == 96
    assert spec.combination is not None
    assert spec.combination.sizes == (96, 64)
    assert spec.exact_map
    place = load_config(overrides=["data.image_size=96"]).data.preprocessing()
    large = np.stack([preprocess(data.read(row).pixels, place) for row in data.table.to_dict("records")])
    small = np.stack([np.asarray(Image.fromarray(one).resize((64, 64), Image.Resampling.BILINEAR)) for one in large])
    logits = [np.log(shares_of(run, pixels)) for run in folds for pixels in (large, small)]
    predictions = Predictor.load(out, device="cpu").predict([data.path(name) for name in data.table["image"]])
    mean = np.exp(np.mean(logits, axis=0))
    expected = tempered(mean / mean.sum(axis=1, keepdims=True), spec.temperature)[:, 1]
    np.testing.assert_allclose([one.positive_probability for one in predictions], expected, atol=0.015)
    card = " ".join((out / "MODEL_CARD.md").read_text().split())
    assert "medsharp export RUN0 RUN1 RUN2 --image-size 96 --image-size 64 --average logits --out sizes" in card


def test_size_of_training_and_smaller_ones_stand_on_the_card(folds: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "smaller"
    options = ["--image-size", "48", "--image-size", "64"]
    assert CliRunner().invoke(app, ["export", *map(str, folds), "--out", str(out), *options]).exit_code == 0
    card = " ".join((out / "MODEL_CARD.md").read_text().split())
    assert "medsharp export RUN0 RUN1 RUN2 --image-size 64 --image-size 48 --out smaller" in card
    assert "trained at" not in card


def test_smaller_size_is_refused_before_images_are_read(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "vit", data, fold_splits(data, 0), ["network.name=test_vit"])
    monkeypatch.setattr("medsharp.export.from_runs.load_inputs", lambda *arguments: pytest.fail("images were read"))
    options = ["--image-size", "64", "--image-size", "50"]
    result = CliRunner().invoke(app, ["export", str(run), "--out", str(tmp_path / "b"), *options])
    assert result.exit_code == 2, result.output
    assert "a network does not take images of 50 x 50 pixels: " in " ".join(result.output.split())


@pytest.mark.parametrize(("setting", "words"), [("null", "those"), ("0.9", "the moving average")])
def test_card_says_whether_the_last_weights_are_averaged(
    data: Manifest, tmp_path: Path, setting: str, words: str
) -> None:
    run = write_run(tmp_path / "run", data, fold_splits(data, 0), ["schedule.keep=last", f"run.ema_decay={setting}"])
    (run / "checkpoints" / "best.safetensors").rename(run / "checkpoints" / WEIGHTS["last"].split("/")[-1])
    export_runs([run], tmp_path / "b")
    assert f"The weights are {words} of the last epoch." in (tmp_path / "b" / "MODEL_CARD.md").read_text()


def by_image(data: Manifest) -> list[tuple[int, tuple[str, ...]]]:
    """The split of each image in each of three folds."""
    return list(enumerate(zip(*(fold_splits(data, fold) for fold in range(FOLDS)), strict=True)))


def test_network_of_one_size_only_is_not_served_at_another(data: Manifest, tmp_path: Path) -> None:
    run = write_run(tmp_path / "vit", data, fold_splits(data, 0), ["network.name=test_vit"])
    result = CliRunner().invoke(app, ["export", str(run), "--out", str(tmp_path / "b"), "--image-size", "96"])
    assert result.exit_code == 2, result.output
    assert "test_vit was trained at 64 x 64 and does not take 96 x 96: " in " ".join(result.output.split())
    assert not (tmp_path / "b").exists()


def test_bundle_answers_by_the_mean_of_all_members_and_views(
    bundle: tuple[Path, BundleSpec], folds: list[Path], data: Manifest, inputs: np.ndarray
) -> None:
    out, spec = bundle
    expected = tempered(np.mean([shares_of(run, inputs, flip=True) for run in folds], axis=0), spec.temperature)
    predictions = Predictor.load(out, device="cpu").predict([data.path(name) for name in data.table["image"]])
    np.testing.assert_allclose([one.positive_probability for one in predictions], expected[:, 1], atol=5e-3)
    assert {one.heatmap_method for one in predictions} == {"mean class activation map"}
    assert (spec.weights, spec.exact_map) == ("fp16", False)
    assert spec.combination is not None
    assert spec.combination.model_dump() == {"members": 3, "average": "probabilities", "flip": True}


def test_each_image_decides_by_the_member_that_did_not_learn_from_it(
    bundle: tuple[Path, BundleSpec], folds: list[Path], data: Manifest, inputs: np.ndarray
) -> None:
    out, spec = bundle
    of_members = np.stack([shares_of(run, inputs, flip=True) for run in folds])  # [members, N, 2]
    fold = np.array([fold_splits(data, number) for number in range(FOLDS)]).T == "val"  # [N, members]
    own = of_members[fold.argmax(axis=1), np.arange(len(fold))]
    validation = pd.read_csv(out / "validation.csv")
    expected = tempered(own, spec.temperature)[:, 1]
    np.testing.assert_allclose(validation["p_malignant"], expected, atol=5e-3)
    assert list(validation["label"]) == list(data.table["label"])
    everyone = tempered(of_members.mean(axis=0), spec.temperature)[:, 1]
    assert np.abs(everyone - expected).max() > 0.05

    point = spec.operating_point
    positive = (data.table["label"] == "malignant").to_numpy()
    found = validation["p_malignant"].to_numpy() >= point.threshold
    assert (point.images, point.positives) == (60, 20)
    assert (point.sensitivity, point.specificity) == (found[positive].mean(), (~found[~positive]).mean())
    assert point.sensitivity == 0.8
    assert "pooled out-of-fold predictions" in point.rule
    assert point.interval is not None
    assert point.interval[0] < point.threshold < point.interval[1]
    # How far it strays is over patients, who have two images each; the table's probabilities are rounded.
    scores = validation["p_malignant"].to_numpy()
    patients = threshold_interval(scores, positive, 0.8, clusters_of(data.table))
    assert point.interval == pytest.approx(patients, abs=1e-4)
    assert threshold_interval(scores, positive, 0.8) != pytest.approx(patients, abs=1e-3)

    internal = pd.read_csv(out / "internal.csv")
    np.testing.assert_allclose(internal["p_malignant"], validation["p_malignant"], atol=1e-6)
    assert set(internal["split"]) == {"out-of-fold"}
    assert internal["patient"].nunique() == 30


def test_record_tells_the_members_apart(bundle: tuple[Path, BundleSpec], folds: list[Path]) -> None:
    out, spec = bundle
    members = spec.training.members
    assert [(one.seed, one.fold, one.out_of_fold) for one in members] == [
        (n, f"{n} of 3", m) for n, m in zip(range(3), (24, 18, 18))
    ]
    assert members[1].differences == {"seed": 1, "data.fold": 1}
    assert members[0].differences == {}
    assert len({one.weights for one in members}) == 3
    assert spec.training.images == {"train": 60, "val": 0, "test": 0}
    digests = set((out / "training_images.sha256").read_text().split())
    assert digests == set(read_manifest(folds[0]).table["sha256"])
    looks = [line.split()[1] for line in (out / "training_images.dhash").read_text().splitlines()]
    assert set(looks) == {"train"}
    record = json.loads((out / "parity.json").read_text())
    assert {f"probabilities of member {number}" for number in range(3)} <= record["graphs"]["fp32"][
        "largest_difference"
    ].keys()
    card = (out / "MODEL_CARD.md").read_text()
    assert "Not measured on a hospital left out" in card
    assert f"| 2 | 2 | 2 of 3 | - | 42, 18, 0 | 18 images | `{members[2].weights[:12]}` | - |" in card
    assert "RUN1 --set seed=1 --set data.fold=1\n" in card
    assert "medsharp export RUN0 RUN1 RUN2 --sensitivity 0.8 --weights fp16 --flip --out three" in card
    for file in out.iterdir():
        content = file.read_bytes()
        assert b"Doe" not in content
        assert b"MRN" not in content


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_seeds_of_a_fold_decide_by_their_mean(
    data: Manifest, folds: list[Path], inputs: np.ndarray, tmp_path: Path, average: Average
) -> None:
    again = write_run(
        tmp_path / "again", data, fold_splits(data, 0), ["data.folds=3", "data.fold=0", "data.fold_role=val"], seed=3
    )
    origin = WeightsOrigin(kind="file", name="theirs.pth", sha256="ab" * 32)
    (again / "weights.json").write_text(origin.model_dump_json())
    runs = [again, folds[1], folds[0]]
    spec = export_runs(runs, tmp_path / "b", average=average)
    assert spec.training.weights == origin  # of the first, as all that is told of several
    of_members = np.stack([shares_of(run, inputs) for run in runs])
    first, second = (np.array(fold_splits(data, fold)) == "val" for fold in (0, 1))
    # Of the third fold every member learned: its images decide nothing.
    both = of_members[[0, 2]]
    # Shares from the mean of logits: the geometric mean, normalised.
    mean = both.mean(axis=0) if average == "probabilities" else np.sqrt(both.prod(axis=0))
    expected = np.where(first[:, None], mean / mean.sum(axis=1, keepdims=True), of_members[1])[first | second]
    validation = pd.read_csv(tmp_path / "b" / "validation.csv")
    np.testing.assert_allclose(validation["p_malignant"], tempered(expected, spec.temperature)[:, 1], atol=1e-4)
    assert [member.out_of_fold for member in spec.training.members] == [24, 18, 24]


def test_seeds_of_one_split_decide_as_they_are_served(
    data: Manifest, folds: list[Path], inputs: np.ndarray, tmp_path: Path
) -> None:
    splits = [{"val": "test", "train": "train"}[name] for name in fold_splits(data, 2)]
    splits = ["val" if chosen == "val" else name for name, chosen in zip(splits, fold_splits(data, 1), strict=True)]
    runs = [write_run(tmp_path / f"seed{seed}", data, splits, seed=seed) for seed in (0, 1)]
    arguments = ["export", *map(str, runs), "--out", str(tmp_path / "b"), "--average", "logits"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    spec = read_bundle(tmp_path / "b")
    assert not spec.pooled
    assert spec.exact_map
    assert spec.training.images == {"train": 24, "val": 18, "test": 18}
    told = Predictor.load(tmp_path / "b", device="cpu").predict_pixels(list(inputs))
    chosen = np.array(splits) == "val"
    validation = pd.read_csv(tmp_path / "b" / "validation.csv")["p_malignant"]
    # Inputs are placed already, and placing them again changes them little.
    by_hand = [shares_of(run, inputs) for run in runs]
    odds = np.mean([np.log(shares[:, 1] / shares[:, 0]) for shares in by_hand], axis=0) / spec.temperature
    np.testing.assert_allclose(validation, 1 / (1 + np.exp(-odds[chosen])), atol=1e-4)
    assert len(told) == 60
    internal = pd.read_csv(tmp_path / "b" / "internal.csv")
    assert set(internal["split"]) == {"test"}
    np.testing.assert_allclose(internal["p_malignant"], 1 / (1 + np.exp(-odds[np.array(splits) == "test"])), atol=1e-4)


def test_where_a_fold_is_tested_it_decides_and_not_the_one_that_validated(
    data: Manifest, inputs: np.ndarray, tmp_path: Path
) -> None:
    runs = folds_of(tmp_path, data, role="test")[:2]
    spec = export_runs(runs, tmp_path / "b")
    first, second = (np.array(fold_splits(data, fold)) == "val" for fold in (0, 1))
    shares = [shares_of(run, inputs) for run in runs]
    expected = np.where(first[:, None], shares[0], shares[1])[first | second]
    validation = pd.read_csv(tmp_path / "b" / "validation.csv")
    np.testing.assert_allclose(validation["p_malignant"], tempered(expected, spec.temperature)[:, 1], atol=1e-4)


def test_hospital_that_all_members_left_out_is_told_beside_the_others(data: Manifest, tmp_path: Path) -> None:
    elsewhere = (data.table["site"] == "B").to_numpy()
    runs = [
        write_run(
            tmp_path / f"fold{fold}",
            data,
            list(np.where(elsewhere, "test", fold_splits(data, fold))),
            ["data.leave_site=B", f"data.folds={FOLDS}", f"data.fold={fold}"],
            seed=fold,
        )
        for fold in range(FOLDS)
    ]
    spec = export_runs(runs, tmp_path / "b")
    assert spec.operating_point.images == int((~elsewhere).sum())
    internal = pd.read_csv(tmp_path / "b" / "internal.csv")
    assert set(internal["site"]) == {"A"}
    (site,) = spec.held_out
    assert (site.site, site.images, site.patients) == ("B", int(elsewhere.sum()), int(elsewhere.sum()) // 2)
    assert site.threshold == spec.operating_point.threshold
    rows = data.table[elsewhere]
    told = Predictor.load(tmp_path / "b", device="cpu").predict([data.path(name) for name in rows["image"]])
    above = np.array([one.positive_probability for one in told]) >= spec.operating_point.threshold
    positive = (rows["label"] == "malignant").to_numpy()
    assert site.figures["sensitivity"].value == pytest.approx(above[positive].mean())
    assert site.figures["specificity"].value == pytest.approx((~above[~positive]).mean())
    assert site.figures["auroc"].low is not None
    card = (tmp_path / "b" / "MODEL_CARD.md").read_text()
    assert card.index("**B, left out**") < card.index("## Data")
    assert "Not measured" not in card


@pytest.mark.parametrize(("shared", "decide"), [(1, True), (2, True), (3, False)])
def test_a_handful_of_images_that_several_splits_test_is_no_internal_test(
    data: Manifest, tmp_path: Path, shared: int, decide: bool
) -> None:
    """Two runs with splits of their own test six patients each, of two images, and a few of them both."""
    patients = pd.factorize(data.table["patient"])[0]
    runs = []
    for number, first in enumerate((0, 6 - shared)):
        splits = np.full(len(patients), "train", dtype=object)
        splits[(patients >= first) & (patients < first + 6)] = "test"
        splits[(patients >= first + 12) & (patients < first + 18)] = "val"
        settings = [f"data.split_seed={number}"]
        runs.append(write_run(tmp_path / f"run{number}", data, list(splits), settings, seed=number))
    result = CliRunner().invoke(app, ["export", *map(str, runs), "--out", str(tmp_path / "b")])
    assert result.exit_code == 0, result.output
    spec = read_bundle(tmp_path / "b")
    internal = pd.read_csv(tmp_path / "b" / "internal.csv")
    deciding = 2 * (12 - shared)  # those that either run validates by
    if decide:
        assert spec.operating_point.images == deciding + 2 * shared
        assert set(internal["split"]) == {"out-of-fold"}
        assert len(internal) == spec.operating_point.images
        assert [member.out_of_fold for member in spec.training.members] == [12 + 2 * shared] * 2
        assert spec.training.images["test"] == 0
    else:
        assert spec.operating_point.images == deciding
        assert set(internal["split"]) == {"test"}
        assert len(internal) == spec.training.images["test"] == 2 * shared


def changed(run: Path, to: Path, *settings: str) -> Path:
    copy = copy_run(run, to)
    (copy / "config.yaml").write_text(dump_config(load_config(copy / "config.yaml", list(settings))))
    return copy


def other_images(run: Path, to: Path, change: str) -> Path:
    copy = copy_run(run, to)
    manifest = read_manifest(copy)
    table = manifest.table.copy()
    if change == "missing":
        table = table.iloc[:-1]
    elif change == "label":
        table.loc[5, "label"] = "malignant"
    else:
        table.loc[3, "sha256"] = "ab" * 32
    write_manifest(manifest.replace(table=table), copy)
    return copy


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (["data.classes=[malignant, benign]"], "has another classes than"),
        (["data.positive=benign"], "has another positive class than"),
        (["data.image_size=96"], "has another image size than .* 96, not 64"),
        (["data.crop=region"], "has another crop than .* region, not scan"),
        (["data.inpaint=true"], "has another inpainting than"),
        ("unfinished", "is not trained to its end; continue it: medsharp train --resume"),
        ("twice", "hold the same weights; give each run once"),
        ("missing", "is of other data than .*: 1 images are in one of them only"),
        ("label", "images/Doe-5.png has another label there"),
        ("sha256", "images/Doe-3.png has another SHA-256 there"),
        (["data.leave_site=B"], "leaves out site 'B' and .* no site"),
        ("learned", "the 2 runs learned from every image"),
    ],
    ids=str,
)
def test_members_that_do_not_belong_together_are_one_sentence(
    folds: list[Path], data: Manifest, tmp_path: Path, kind: str | list[str], words: str
) -> None:
    first, other = folds[0], tmp_path / "other"
    if kind == "unfinished":
        (copy_run(folds[1], other) / "predictions.csv").unlink()
    elif kind == "twice":
        copy_run(folds[0], other)
    elif kind == "learned":
        first = write_run(tmp_path / "first", data, ["train"] * 60, seed=0)
        write_run(other, data, ["train"] * 60, seed=1)
    elif isinstance(kind, str):
        other_images(folds[1], other, kind)
    else:
        changed(folds[1], other, *kind)
    result = CliRunner().invoke(app, ["export", str(first), str(other), "--out", str(tmp_path / "b")])
    assert result.exit_code == 2, result.output
    sentence = " ".join(result.output.split())
    assert pd.Series([sentence.replace(" ", "")]).str.contains(words.replace(" ", "")).all(), sentence
    assert not (tmp_path / "b").exists()
    assert not list(tmp_path.glob(".b*"))


def test_one_run_that_is_not_trained_to_its_end_is_no_bundle(folds: list[Path], tmp_path: Path) -> None:
    """With `schedule.keep: last` its last weights are there from the first epoch on."""
    run = changed(folds[1], tmp_path / "begun", "schedule.keep=last")
    (run / "checkpoints" / "best.safetensors").rename(run / "checkpoints" / "last.safetensors")
    (run / "predictions.csv").unlink()
    result = CliRunner().invoke(app, ["export", str(run), "--out", str(tmp_path / "b")], env={"COLUMNS": "400"})
    assert result.exit_code == 2, result.output
    sentence = f"is not trained to its end; continue it: medsharp train --resume {run}"
    assert sentence.replace(" ", "") in "".join(result.output.split())
    assert not (tmp_path / "b").exists()


def test_temperature_is_that_of_the_members_that_answer(
    export: Callable[..., BundleSpec], inputs: np.ndarray, tmp_path: Path
) -> None:
    members = [member_network(seed, spread=3.0) for seed in (0, 2)]
    answered = np.array([[number % 2 == 0, number % 2 == 1] for number in range(60)])
    with torch.inference_mode():
        odds = np.stack([np.diff(one(torch.from_numpy(inputs[:, None])).double().numpy())[:, 0] for one in members])
    own = np.where(answered[:, 0], odds[0], odds[1])
    chance = 1 / (1 + np.exp(-own / 2.5))
    labels = (np.random.default_rng(0).random(60) < chance).astype(int)
    spec = export(
        members, tmp_path / "b", validation_images=inputs, validation_labels=labels, answered_by=answered, internal=None
    )
    both = np.log(np.mean(1 / (1 + np.exp(-odds)), axis=0) / np.mean(1 / (1 + np.exp(odds)), axis=0))
    grid = np.exp(np.linspace(np.log(0.3), np.log(20), 5000))
    best = [grid[np.argmin([np.logaddexp(0, (1 - 2 * labels) * z / t).mean() for t in grid])] for z in (own, both)]
    assert abs(best[0] - best[1]) > 0.1
    assert spec.temperature == pytest.approx(best[0], rel=0.01)
    assert spec.uncalibrated == ""
