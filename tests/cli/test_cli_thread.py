"""The thread through the house in small: train, export, predict, evaluate; and what goes wrong on the way."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from command_line import run
from PIL import Image


@pytest.fixture(scope="module")
def trained(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("thread")
    settings = {"network.name": "resnet10_w16", "data.image_size": 64, "schedule.epochs": 2, "loss.mask_weight": 0.5}
    options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    busi = workspace / "Dataset_BUSI_with_GT"
    result = run("train", "--data", busi, "--optimizer", "sam", "--out", folder / "run", *options)
    assert result.exit_code == 0, result.output
    assert "2 images of class normal are not used" in result.output
    result = run("export", folder / "run", "--out", folder / "bundle")
    assert result.exit_code == 0, result.output
    told = " ".join((result.output + result.stderr).split())
    assert "not calibrated (the temperature is 1): 7 validation images are too few" in told
    assert "the operating point stands on" in told
    return folder


def test_resuming_a_finished_run_says_so_and_changes_nothing(trained: Path) -> None:
    weights = trained / "run" / "checkpoints" / "last.safetensors"
    before = weights.read_bytes()
    result = run("train", "--resume", trained / "run")
    assert result.exit_code == 0, result.output
    assert "finished already" in result.output
    assert weights.read_bytes() == before


def test_training_into_the_same_folder_is_refused(trained: Path, workspace: Path) -> None:
    result = run("train", "--data", workspace / "Dataset_BUSI_with_GT", "--out", trained / "run")
    assert result.exit_code == 2
    assert "--resume" in " ".join(result.stderr.split())


def test_export_does_not_overwrite_unasked(trained: Path) -> None:
    result = run("export", trained / "run", "--out", trained / "bundle")
    assert result.exit_code == 2
    assert "exists already" in result.stderr


def test_one_bad_file_does_not_stop_the_others_and_the_exit_code_says_so(
    trained: Path, workspace: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "words.png"
    bad.write_text("not an image")
    out = tmp_path / "predictions.csv"
    arguments = ["predict", trained / "bundle", workspace / "image.png", bad, workspace / "scan.dcm", "--out", out]
    result = run(*arguments, "--heatmaps", tmp_path / "maps")
    assert result.exit_code == 1, result.output
    assert "words.png is not a PNG" in " ".join(result.stderr.split())
    table = pd.read_csv(out, keep_default_na=False)
    assert (table["error"] != "").tolist() == [False, True, False]
    assert sorted(file.name for file in (tmp_path / "maps").iterdir()) == ["00001-image.png", "00003-scan.png"]
    with Image.open(tmp_path / "maps" / "00001-image.png") as picture:
        assert picture.size == (256, 256)


_LOADED = """
import sys
from medsharp.cli import main
try:
    main()
finally:
    heavy = "sklearn scipy statsmodels pandas matplotlib pydicom torch monai timm onnx gradio fastapi".split()
    print("loaded:", *[name for name in heavy if name in sys.modules], file=sys.stderr)
"""


def test_prediction_of_one_image_loads_no_library_that_it_does_not_need(
    trained: Path, workspace: Path, tmp_path: Path
) -> None:
    arguments = ["predict", trained / "bundle", workspace / "image.png", "--heatmaps", tmp_path]
    ended = subprocess.run([sys.executable, "-c", _LOADED, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "image.png" in ended.stdout
    assert ended.stderr.splitlines()[-1].strip() == "loaded:"


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_only_bad_files_end_with_2(trained: Path, tmp_path: Path, content: bytes | None) -> None:
    bad = tmp_path / "bad.png"
    if content is not None:
        bad.write_bytes(content)
    result = run("predict", trained / "bundle", bad)
    assert result.exit_code == 2
    assert "bad.png" in result.stderr
    assert "Traceback" not in result.output


def test_folders_and_manifests_are_predicted_without_masks(trained: Path, workspace: Path, tmp_path: Path) -> None:
    folder = workspace / "Dataset_BUSI_with_GT" / "normal"
    assert run("predict", trained / "bundle", folder, "--out", tmp_path / "a.csv").exit_code == 0
    assert len(pd.read_csv(tmp_path / "a.csv")) == 2
    manifest = trained / "run" / "manifest.csv"
    assert run("predict", trained / "bundle", manifest, "--out", tmp_path / "b.csv").exit_code == 0
    assert len(pd.read_csv(tmp_path / "b.csv")) == 48


def test_cuda_without_a_device_is_refused(trained: Path, workspace: Path) -> None:
    from medsharp.inference.providers import has_cuda

    if has_cuda():
        pytest.skip("there is a CUDA device")
    result = run("predict", trained / "bundle", workspace / "image.png", "--device", "cuda")
    assert result.exit_code == 2
    assert "cuda" in result.stderr.lower()


def test_changed_byte_is_refused(trained: Path, workspace: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "bundle", tmp_path / "bundle")
    model = tmp_path / "bundle" / "model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(bytes(data))
    result = run("predict", tmp_path / "bundle", workspace / "image.png")
    assert result.exit_code == 2
    assert "model.onnx was changed" in " ".join(result.stderr.split())


def half(busbra: Path, folder: Path, odd: bool) -> Path:
    """Every other patient of a folder in the layout of BUS-BRA, as a data set of its own."""
    lines = (busbra / "bus_data.csv").read_text().splitlines()
    kept = [line for line in lines[1:] if int(line.split(",")[1]) % 2 == odd]
    for name in ("Images", "Masks"):
        (folder / name).mkdir(parents=True)
        for line in kept:
            file = (
                line.split(",")[0] + ".png" if name == "Images" else line.split(",")[0].replace("bus", "mask") + ".png"
            )
            shutil.copy(busbra / name / file, folder / name / file)
    (folder / "bus_data.csv").write_text("\n".join([lines[0], *kept]) + "\n")
    return folder


def test_data_sets_that_share_images_are_refused(trained: Path, workspace: Path, tmp_path: Path) -> None:
    data = ["--data", workspace / "BUSBRA", "--data", half(workspace / "BUSBRA", tmp_path / "half", odd=True)]
    result = run("evaluate", trained / "bundle", *data, "--out", tmp_path / "out", "--resamples", "100")
    assert result.exit_code == 2
    refusal = " ".join(result.stderr.split())
    assert "the same file is in two data sets: " in refusal
    for folder in (workspace / "BUSBRA", tmp_path / "half"):
        assert f"{folder.name}, row " in refusal
    assert refusal.count("(Images/bus_") == 2
    assert not (tmp_path / "out").exists()


def test_evaluation_of_two_data_sets_of_one_name_keeps_both(trained: Path, workspace: Path, tmp_path: Path) -> None:
    halves = [half(workspace / "BUSBRA", tmp_path / f"half-{odd}", odd) for odd in (False, True)]
    data = ["--data", halves[0], "--data", halves[1]]
    result = run("evaluate", trained / "bundle", *data, "--out", tmp_path, "--resamples", "100")
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert [entry["name"] for entry in document["datasets"]] == [
        "Dataset_BUSI_with_GT, test split",
        "BUS-BRA",
        "BUS-BRA 2",
    ]
    external = document["datasets"][1]
    assert external["counts"]["clusters"] == 12
    names = sorted(file.name for file in tmp_path.glob("*.csv"))
    assert names == ["predictions-BUS-BRA-2.csv", "predictions-BUS-BRA.csv"]
    scored = run(
        "score", tmp_path / "predictions-BUS-BRA.csv", "--threshold", external["threshold"], "--resamples", "100"
    )
    assert f"{external['figures']['auroc']['value']:.3f}" in scored.output


def test_evaluation_on_training_images_says_leak(trained: Path, workspace: Path, tmp_path: Path) -> None:
    busi = workspace / "Dataset_BUSI_with_GT"
    result = run("evaluate", trained / "bundle", "--data", busi, "--out", tmp_path, "--resamples", "100")
    assert "LEAK: the model was trained on" in " ".join(result.output.split())
    assert "leaked)" in result.output
    assert "LEAK" in (tmp_path / "report.html").read_text()


def test_card_takes_external_figures_and_the_bundle_stays_whole(trained: Path, workspace: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(trained / "bundle", bundle)
    data = ["--data", workspace / "BUSBRA", "--out", tmp_path / "out", "--resamples", "100"]
    assert run("evaluate", bundle, *data, "--card").exit_code == 0
    assert "BUS-BRA (external)" in (bundle / "MODEL_CARD.md").read_text()
    assert run("predict", bundle, workspace / "image.png").exit_code == 0


def test_demo_with_other_settings_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "demo.yaml").write_text("{epochs: 1, optimizer: sam, patients: 40, seed: 0}\n")
    result = run("demo", "--out", tmp_path / "demo", "--epochs", "2")
    assert result.exit_code == 2
    assert "other settings" in " ".join(result.stderr.split())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    assert run("demo", "--out", tmp_path / "mine").exit_code == 2
