"""The conformal set of an image: from the validation predictions of a bundle to the tables."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import run
from PIL import Image

from medsharp.bundle import default_bundle, read_bundle, write_spec
from medsharp.bundle.prediction_sets import conformal_quantile, read_prediction_sets
from medsharp.data.phantom import simulate_image
from medsharp.errors import InputError
from medsharp.evaluation import calibrate, evaluate_predictions, read_predictions
from medsharp.files import sha256_file
from medsharp.inference import Predictor

MODEL = default_bundle().parent / "busi-resnet18"


def with_validation(out: Path, text: str | None) -> Path:
    """A copy of a shipped bundle with other validation predictions, or without any."""
    shutil.copytree(MODEL, out)
    spec = read_bundle(out)
    files = {name: digest for name, digest in spec.files.items() if name != "validation.csv"}
    (out / "validation.csv").unlink()
    if text is not None:
        (out / "validation.csv").write_text(text, encoding="utf-8")
        files["validation.csv"] = sha256_file(out / "validation.csv")
    write_spec(out, spec.model_copy(update={"files": files}))
    return out


def validation(benign: list[float], malignant: list[float]) -> str:
    """Write what each label's images were given for their own class."""
    rows = [f"b{n},benign,{p:.6f},{1 - p:.6f}" for n, p in enumerate(benign)]
    rows += [f"m{n},malignant,{1 - p:.6f},{p:.6f}" for n, p in enumerate(malignant)]
    return "\n".join(["image,label,p_benign,p_malignant", *rows, ""])


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(3)
    for number in range(8):
        label = ("benign", "malignant")[number % 2]
        Image.fromarray(simulate_image("A", label, rng).pixels).save(folder / f"{number}.png")
    Image.fromarray(np.zeros((200, 200), dtype=np.uint8)).save(folder / "black.png")
    return folder


def predicted(bundle: Path, scans: Path, out: Path) -> pd.DataFrame:
    result = run("predict", bundle, scans, "--out", out)
    assert result.exit_code == 1, result.output  # the black one is refused
    return pd.read_csv(out, keep_default_na=False, na_values={"p_malignant": "", "p_benign": ""})


def test_the_quantile_is_a_ranked_score() -> None:
    scores = np.array([0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6])
    assert conformal_quantile(scores, 0.1) == 0.9  # the ninth of ten ranks
    assert conformal_quantile(scores, 0.2) == 0.8
    assert conformal_quantile(scores, 0.5) == 0.5
    assert conformal_quantile(scores[:8], 0.1) == np.inf  # nine would be needed


def test_no_set_is_empty_because_a_table_was_rounded(tmp_path: Path) -> None:
    """Of separated classes, tables with six digits say 1 of every image, which no probability of the network's is."""
    sure = 1 - 4e-7
    bundle = with_validation(tmp_path / "b", validation([sure] * 30, [sure] * 30))
    made = read_prediction_sets(bundle, ("benign", "malignant"))
    assert made is not None
    assert set(made.quantiles.values()) == {0.0}
    assert made.of([sure, 1 - sure]) == ("benign",)
    assert made.of([1 - sure, sure]) == ("malignant",)
    assert made.of([1 - 6e-7, 6e-7]) == ()
    calibration = read_predictions(bundle / "validation.csv")
    conformal = calibrate(calibration, ("benign", "malignant"), "validation")
    fresh = calibration.assign(
        image=[f"fresh {n}" for n in range(60)],
        p_benign=np.repeat([sure, 1 - sure], 30),
        p_malignant=np.repeat([1 - sure, sure], 30),
    )
    options = {"classes": ("benign", "malignant"), "positive": "malignant", "threshold": 0.5, "resamples": 20}
    found = evaluate_predictions(fresh, name="fresh", conformal=conformal, **options).as_dict()["conformal"]
    for kind in ("marginal", "label_conditional"):
        assert found[kind]["coverage"]["value"] == 1
        assert found[kind]["empty"]["value"] == 0
        assert found[kind]["set_size"]["value"] == 1


@pytest.mark.parametrize("name", ["busi-resnet18", "bus-lite0"])
def test_quantiles_are_those_that_an_evaluation_measures_the_coverage_of(name: str) -> None:
    bundle = MODEL.parent / name
    classes = read_bundle(bundle).classes
    made = read_prediction_sets(bundle, classes)
    expected = calibrate(read_predictions(bundle / "validation.csv"), classes, "validation")
    assert made is not None
    assert tuple(made.quantiles) == classes
    assert tuple(made.quantiles.values()) == expected.label_conditional
    assert made.alpha == expected.alpha
    assert len(set(made.quantiles.values())) == 2  # a swapped pair would show


def test_a_class_is_in_the_set_where_its_own_quantile_allows_it(scans: Path, tmp_path: Path) -> None:
    shares = predicted(MODEL, scans, tmp_path / "shares.csv")["p_malignant"].dropna().sort_values().tolist()
    low, high = (shares[1] + shares[2]) / 2, (shares[-3] + shares[-2]) / 2
    for kind, least_benign, least_malignant in (("gap", 1 - low, high), ("overlap", 1 - high, low)):
        text = validation([0.999] * 40 + [least_benign] * 10, [0.9999] * 60 + [least_malignant] * 15)
        rows = predicted(with_validation(tmp_path / kind, text), scans, tmp_path / f"{kind}.csv")
        share = rows["p_malignant"]
        benign, malignant = 1 - share >= least_benign, share >= least_malignant
        both = {"gap": "no class", "overlap": "benign; malignant"}[kind]
        expected = np.where(
            share.isna(), "", np.where(benign == malignant, both, np.where(benign, "benign", "malignant"))
        )
        assert rows["prediction_set"].tolist() == expected.tolist()
        assert set(expected) == {"", both, "benign", "malignant"}
        printed = run("predict", tmp_path / kind, scans).output
        assert printed.count("90 % set: ") == (rows["prediction_set"] == both).sum()


def test_too_few_images_of_a_label_leave_it_in_every_set(scans: Path, tmp_path: Path) -> None:
    bundle = with_validation(tmp_path / "few", validation([0.9] * 40, [0.99999] * 8))
    rows = predicted(bundle, scans, tmp_path / "p.csv")
    assert rows["prediction_set"][rows["status"] != "refused"].str.contains("malignant").all()


def test_without_validation_predictions_there_is_no_set(scans: Path, tmp_path: Path) -> None:
    bundle = with_validation(tmp_path / "none", None)
    assert set(predicted(bundle, scans, tmp_path / "p.csv")["prediction_set"]) == {""}
    assert Predictor.load(bundle).predict([scans / "1.png"])[0].prediction_set is None


def test_damaged_validation_predictions_are_named(scans: Path, tmp_path: Path) -> None:
    bundle = with_validation(tmp_path / "odd", "image,label,p_benign\nb1,benign,much\n")
    with pytest.raises(InputError, match=r"validation\.csv is not a table of label and p_<class>"):
        Predictor.load(bundle).predict([scans / "1.png"])
