"""`medsharp evaluate` where the model knows one of the hospitals: it is no hospital of the summary, and is told."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import run

from medsharp.bundle import BundleSpec, digest_of, read_bundle
from medsharp.bundle.folder import write_spec
from medsharp.data.phantom import write_phantom

BUNDLE = Path(__file__).parents[2] / "models" / "busi-resnet18"
LEAKED, CLEAN = "simulated hospital C", ["simulated hospital A", "simulated hospital B", "simulated hospital A 2"]
OUT = f"{LEAKED} (the model knows some of its images)"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hospitals, and a bundle that was trained on images of one of them."""
    root = tmp_path_factory.mktemp("leaked")
    for name, hospital, patients in (("a", "A", 16), ("b", "B", 14), ("c", "C", 12), ("again", "A", 15)):
        write_phantom(root / name, hospital=hospital, patients=patients, size=64, seed=patients)
    folder = Path(shutil.copytree(BUNDLE, root / "bundle"))
    hashes = folder / "training_images.sha256"
    known = {hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted((root / "c" / "images").iterdir())[:5]}
    hashes.write_text("\n".join(sorted(known)) + "\n")
    resealed(folder, {hashes.name: hashlib.sha256(hashes.read_bytes()).hexdigest()})
    return root


def resealed(folder: Path, files: dict[str, str]) -> BundleSpec:
    spec = read_bundle(folder, verify=False)
    spec = spec.model_copy(update={"files": spec.files | files})
    write_spec(folder, spec)
    return spec


@pytest.fixture(scope="module")
def robustness(root: Path) -> Path:
    options = ["--corruptions", "gain_up", "--resamples", "100", "--images", "12", "--out", root / "robustness"]
    result = run("robustness", root / "bundle", "--data", root / "c", *options)
    assert result.exit_code == 0, result.output
    return root / "robustness" / "robustness.json"


def evaluated(root: Path, out: Path, *hospitals: str, options: tuple[object, ...] = ()) -> tuple[dict[str, Any], str]:
    data = [part for name in hospitals for part in ("--data", root / name)]
    command = ["evaluate", root / "bundle", *data, "--out", out, "--resamples", "100", "--format", "md,html,json"]
    result = run(*command, *options)
    assert result.exit_code == 0, result.output
    document = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    return document, (out / "report.md").read_text(encoding="utf-8").replace("\\", "")


def answer(document: dict[str, Any], word: str) -> str:
    """What the checklists say of an item, whichever of them asks."""
    answers = [a["text"] for c in document["checklists"] for item in c["items"] for a in item["answers"]]
    return next(text for text in answers if word in text)


def test_a_leaked_hospital_is_not_in_the_summary_and_named(root: Path, tmp_path: Path) -> None:
    document, report = evaluated(root, tmp_path / "with", "a", "c", "b", "again")
    without, _ = evaluated(root, tmp_path / "without", "a", "b", "again")
    summary = document["site_summary"]
    assert summary["left_out"] == [{"name": LEAKED, "reason": "the model knows some of its images"}]
    assert [site["name"] for site in summary["sites"]] == CLEAN
    assert without["site_summary"]["left_out"] == []
    found, expected = (one["site_summary"]["figures"]["sensitivity"] for one in (document, without))
    assert found["value"] is not None
    keys = ("value", "low", "high", "prediction_low", "prediction_high", "tau2")
    assert [found[key] for key in keys] == pytest.approx([expected[key] for key in keys])
    assert f"Not in it: {OUT}" in report
    text = answer(document, "random-effects summary over the data sets")
    assert f"Not in it: {OUT}" in text
    assert "Not in it" not in answer(without, "random-effects summary over the data sets")
    # It is no hospital to rank, and no verdict is on it.
    assert "Of 3 data sets from elsewhere the model ranks worst on" in report
    ranks = {e["name"]: e["figures"]["auroc"]["value"] for e in document["datasets"] if e["name"] in CLEAN}
    assert f"ranks worst on **{min(ranks, key=lambda name: ranks[name])}**" in report


def test_too_few_hospitals_besides_a_leaked_one_are_not_said_to_be_summarised(root: Path, tmp_path: Path) -> None:
    document, report = evaluated(root, tmp_path, "c", "a")
    summary = document["site_summary"]
    assert [site["name"] for site in summary["sites"]] == CLEAN[:1]
    assert summary["figures"]["auroc"]["value"] is None
    assert f"a summary needs at least 3. Not in it: {OUT}." in report
    assert not [text for text in json.dumps(document["checklists"]).split('"') if "random-effects summary" in text]
    assert OUT in answer(document, "figures by data set and site")


def test_a_leak_of_the_robustness_run_is_an_alarm(root: Path, robustness: Path, tmp_path: Path) -> None:
    document, report = evaluated(root, tmp_path, "a", options=("--robustness", robustness))
    (model,) = document["robustness"]["datasets"][0]["models"]
    (leak,) = model["notes"]
    assert leak.startswith("LEAK: the model was trained on ")
    assert model["digest"] == document["bundle"]["digest"] == digest_of(read_bundle(root / "bundle"))
    assert report.count("LEAK: the model was trained on") >= 2  # at the top, and in its section
    assert f"Robustness on {LEAKED}:" in report[: report.index("## Headline")]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count('class="notice alarm"') == 2
    assert answer(document, "LEAK").startswith(f"robustness on {LEAKED}: LEAK")
    assert "These figures are of" not in report


def test_robustness_of_another_bundle_of_the_same_name_is_foreign(root: Path, robustness: Path, tmp_path: Path) -> None:
    content = json.loads(robustness.read_text(encoding="utf-8"))
    own = content["datasets"][0]["models"][0]
    other = own | {"digest": "0123456789abcdef", "answers_digest": "fedcba9876543210", "threshold": 0.9}
    name = own["name"]
    content["datasets"][0]["models"] = [other]
    (tmp_path / "robustness.json").write_text(json.dumps(content), encoding="utf-8")
    _, report = evaluated(root, tmp_path, "a")
    words = f"These figures are of another bundle of the name {name} (digest 0123456789ab), not of this one"
    assert f"{words} ({own['digest'][:12]})." in report
    # Of two by one name the own one is shown, whatever it is called there.
    content["datasets"][0]["models"] = [other, own | {"name": f"{name} 2"}]
    (tmp_path / "robustness.json").write_text(json.dumps(content), encoding="utf-8")
    _, report = evaluated(root, tmp_path, "a")
    assert "These figures are of" not in report
