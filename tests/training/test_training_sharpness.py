"""`medsharp sharpness`: what it measures is the run's own loss on the run's own images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from medsharp.cli import app
from medsharp.config import TrainConfig, validate_config
from medsharp.data.manifest import DatasetInfo, Manifest, make_table, write_manifest
from medsharp.runs import Run
from medsharp.sharpness import Problem
from training import train
from training.sharpness import problem_of

QUICK = ("--eigenvalues", "0", "--draws", "0", "--density", "0", "--steps", "0")


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Grey squares, bright or dark; 12 benign and 5 malignant ones are learned from."""
    folder = tmp_path_factory.mktemp("uneven")
    rng = np.random.default_rng(0)
    rows = []
    for split, benign, malignant in (("train", 12, 5), ("val", 4, 3)):
        for number in range(benign + malignant):
            label = "benign" if number < benign else "malignant"
            pixels = rng.integers(90, 160, size=(32, 32))
            pixels[8:20, 8:20] = 30 if label == "benign" else 220
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{split}-{number}.png")
            rows.append(
                {"image": f"{split}-{number}.png", "label": label, "split": split, "patient": f"{split}{number}"}
            )
    manifest = Manifest(make_table(rows), DatasetInfo("uneven", ("benign", "malignant")), folder)
    write_manifest(manifest, folder)
    return manifest


def config_of(**sections: dict[str, Any]) -> TrainConfig:
    values: dict[str, Any] = {
        "data": {"image_size": 32, "crop": "none", "augmentation": "ultrasound", "cache": "memory"},
        "network": {"name": "resnet10_w16", "drop_rate": 0.3},
        "optimizer": {"name": "sam", "base": "sgd", "lr": 1e-2},
        "schedule": {"epochs": 1, "warmup_epochs": 0, "batch_size": 6},
        "loss": {"label_smoothing": 0.2},
        "run": {"device": "cpu", "precision": "fp32"},
    }
    return validate_config({key: value | sections.get(key, {}) for key, value in values.items()})


@pytest.fixture(scope="module")
def run(uneven: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(config_of(), uneven, out=tmp_path_factory.mktemp("runs") / "one")


def sharpness(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["sharpness", *map(str, arguments)], env={"COLUMNS": "200"})


def test_loss_is_the_runs_own_over_its_images_without_augmentation(run: Run, uneven: Manifest) -> None:
    network = run.load_network()
    for split, counts in (("train", (12, 5)), ("val", (4, 3))):
        rows = uneven.of_split(split)
        pixels = np.stack([np.asarray(Image.open(uneven.path(name))) for name in rows["image"]])
        labels = torch.from_numpy((rows["label"] == "malignant").to_numpy(dtype=np.int64))
        assert tuple(torch.bincount(labels).tolist()) == counts
        weights = torch.tensor([17 / 24, 17 / 10])  # of the images that are learned from, whatever the split
        with torch.no_grad():
            logits = network(torch.from_numpy(pixels[:, None]))
        expected = (F.cross_entropy(logits, labels, label_smoothing=0.2, reduction="none") * weights[labels]).mean()
        opened = problem_of(run, split, batch=4)
        assert opened.problem.loss() == pytest.approx(float(expected), rel=1e-5)
        assert opened.images == opened.available == sum(counts)
        assert opened.loss["class_weights"] == {"benign": pytest.approx(17 / 24), "malignant": pytest.approx(1.7)}


def test_the_batch_size_changes_no_figure(run: Run) -> None:
    values = []
    for batch in (17, 5, 1):
        problem = problem_of(run, batch=batch, dtype=torch.float64).problem
        vector = torch.linspace(-1, 1, problem.size, dtype=torch.float64)
        loss, gradient = problem.gradient()
        values.append((loss, float(gradient.norm()), float(problem.product(vector) @ vector)))
    assert values[1] == pytest.approx(values[0], rel=1e-9)
    assert values[2] == pytest.approx(values[0], rel=1e-9)


def test_a_subset_holds_each_class_in_its_share_in_a_random_order(run: Run) -> None:
    batches = problem_of(run, images=10, batch=10).problem.batches
    labels = batches[0]["label"].tolist()
    assert sorted(labels) == [0] * 7 + [1] * 3
    assert labels != sorted(labels)
    other = problem_of(run, images=10, batch=10, seed=1).problem.batches[0]["label"].tolist()
    assert other != labels


def test_command_writes_every_measure_of_every_run(run: Run, uneven: Manifest, tmp_path: Path) -> None:
    second = train(config_of(optimizer={"name": "adamw"}), uneven, out=tmp_path / "two")
    result = sharpness(
        *(run.folder, second.folder, "--out", tmp_path / "out", "--images", "7", "--m", "3"),
        *("--rho", "l2=0.2", "--rho", "adaptive-linf=0.01", "--eigenvalues", "2", "--tolerance", "0.2"),
        *("--draws", "2", "--density-steps", "3", "--steps", "2", "--rescale", "100"),
    )
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "out" / "sharpness.json").read_text())
    assert [entry["name"] for entry in document["runs"]] == ["one", "two"]
    assert [entry["optimizer"]["name"] for entry in document["runs"]] == ["sam", "adamw"]
    balls = document["settings"]["balls"]
    assert (balls["l2"]["rho"], balls["adaptive-l2"]["rho"], balls["adaptive-linf"]["rho"]) == (0.2, 0.5, 0.01)
    for entry in document["runs"]:
        assert [(part["split"], part["images"], part["available"]) for part in entry["splits"]] == [
            ("train", 7, 17),
            ("val", 7, 7),
        ]
        for part in entry["splits"]:
            measured = part["measures"]
            assert measured["cost"]["units"] > 10
            assert set(measured["trace"]) == set(measured["eigenvalues"]) == {"plain", "adaptive", "filter"}
            plain = measured["eigenvalues"]["plain"]
            assert (len(plain["largest"]), len(plain["smallest"])) == (2, 1)
            assert measured["density"]["steps"] == 3
            for ball, rises in measured["worst_case"].items():
                assert [(rise["m"], rise["steps"], rise["rho"]) for rise in rises] == [
                    (7, 2, balls[ball]["rho"]),
                    (3, 2, balls[ball]["rho"]),
                ]
                # Each micro-batch has a displacement of its own, so that theirs are the worse.
                assert 0 < rises[0]["rise"] <= rises[1]["rise"] * 1.001
            assert set(measured["average_case"]) == {"l2", "adaptive-l2", "filter-l2"}
            assert measured["worst_case"]["l2"][0]["rise"] >= measured["surrogate_gap"]["l2"]["value"] - 1e-6
        ratios = entry["splits"][0]["rescaled"]["ratios"]
        assert entry["splits"][0]["rescaled"]["pairs"]
        assert ratios["loss"] == pytest.approx(1, rel=1e-4)
        assert ratios["gradient norm, plain"] > 1.1
        for measure in ("gradient norm", "top eigenvalue"):
            assert ratios[f"{measure}, adaptive"] == pytest.approx(1, rel=0.02)
            assert ratios[f"{measure}, filter"] == pytest.approx(1, rel=0.02)
        assert "rescaled" not in entry["splits"][1]
    assert "label smoothing 0.2, no augmentation" in result.stdout
    assert "forward and backward passes over 7 images" in result.stdout


def test_landscapes_are_drawn_on_one_scale_and_lines_end_at_the_runs(
    run: Run, uneven: Manifest, tmp_path: Path
) -> None:
    others = [
        train(config_of().model_copy(update={"seed": seed}), uneven, out=tmp_path / f"seed{seed}") for seed in (1, 2)
    ]
    runs = [run, *others]
    result = sharpness(
        *(each.folder for each in runs),
        "--out",
        tmp_path / "out",
        "--split",
        "train",
        "--landscape",
        "4",
        "--between",
        *("--eigenvalues", "0", "--draws", "0", "--density", "1", "--density-steps", "2", "--steps", "0"),
        *("--max-products", "6"),
    )
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "out" / "sharpness.json").read_text())
    for entry in document["runs"]:
        own, loss = entry["landscape"], entry["splits"][0]["measures"]["loss"]
        assert own["steps"] == [-1, -0.5, 0, 0.5, 1]
        for kind in ("random", "eigenvectors"):
            assert own["lines"][kind][2] == own["planes"][kind][2][2] == pytest.approx(loss, rel=1e-6)
            assert own["lines"][kind] == own["planes"][kind][2]
    between = document["between"]
    assert between["steps"] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    first = problem_of(run).problem
    ends = []
    for each in runs:  # by the images and the loss of the first run
        objective = problem_of(each).problem.network
        ends.append(float(first.losses(objective, {**first.batches[0]}).mean().detach()))
    pairs = {(path["first"], path["second"]): path for path in between["paths"]}
    assert list(pairs) == [("one", "seed1"), ("one", "seed2"), ("seed1", "seed2")]
    for (one, other), path in zip(((0, 1), (0, 2), (1, 2)), pairs.values(), strict=True):
        assert path["loss"][0] == pytest.approx(ends[one], rel=1e-5)
        assert path["loss"][-1] == pytest.approx(ends[other], rel=1e-5)
        assert path["barrier"] >= 0
    assert between["triangle"]["names"] == ["one", "seed1", "seed2"]
    assert np.array(between["triangle"]["loss"]).shape == (4, 4)
    figures = ["density", "lines", "contours-random", "surfaces-random", "paths", "triangle"]
    figures += ["contours-eigenvectors", "surfaces-eigenvectors"]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {f"{name}.{kind}" for name in figures for kind in ("png", "svg")} | {
        "sharpness.json",
        "sharpness.html",
    }
    page = (tmp_path / "out" / "sharpness.html").read_text()
    assert page.count("<svg") == 8
    assert "Not for diagnostic use" in page
    assert "batch norm by its running statistics" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_landscape_comes_after_the_rescaled_network(run: Run, tmp_path: Path) -> None:
    """Whose search changes weights, of which the problem keeps graphs."""
    quick = ("--density", "0", "--steps", "0", "--draws", "0", "--split", "val", "--eigenvalues", "1")
    result = sharpness(run.folder, "--out", tmp_path, *quick, "--rescale", "2", "--landscape", "3", "--batch", "64")
    assert result.exit_code == 0, result.output
    (entry,) = json.loads((tmp_path / "sharpness.json").read_text())["runs"]
    assert entry["splits"][0]["rescaled"]["pairs"]
    assert entry["landscape"] is not None


def test_rises_that_may_be_rounding_are_told_and_not_compared(run: Run, tmp_path: Path) -> None:
    quick = ("--eigenvalues", "0", "--density", "0", "--steps", "0", "--draws", "2", "--split", "val")
    radii = ("--rho", "l2=1e-6", "--rho", "adaptive-l2=40")
    result = sharpness(run.folder, "--out", tmp_path, *quick, *radii, "--rescale", "10")
    assert result.exit_code == 0, result.output
    (part,) = json.loads((tmp_path / "sharpness.json").read_text())["runs"][0]["splits"]
    average = part["measures"]["average_case"]
    assert (average["l2"]["above_rounding"], average["adaptive-l2"]["above_rounding"]) == (False, True)
    assert "the average case (l2" in result.stdout
    assert "average case, l2" not in part["rescaled"]["ratios"]
    assert "average case, adaptive-l2" in part["rescaled"]["ratios"]


def test_options_arrive_where_they_are_used(run: Run, tmp_path: Path) -> None:
    """Each option that no other test sees at work."""

    def measured(name: str, *options: str) -> tuple[dict[str, Any], dict[str, Any]]:
        given = ("--split", "train", "--images", "9", "--m", "9", "--density", "0", "--landscape", "3", *options)
        result = sharpness(run.folder, "--out", tmp_path / name, *given)
        assert result.exit_code == 0, result.output
        (entry,) = json.loads((tmp_path / name / "sharpness.json").read_text())["runs"]
        return entry["splits"][0]["measures"], entry["landscape"]

    usual = ("--eigenvalues", "1", "--draws", "0", "--steps", "0")
    one, drawn = measured("one", *usual, "--tolerance", "0.5", "--max-products", "30")
    other, shifted = measured("other", *usual, "--tolerance", "1e-6", "--max-products", "5", "--span", "0.25")
    seeded, redrawn = measured("seeded", "--eigenvalues", "0", "--draws", "3", "--steps", "2", "--seed", "4")
    assert one["eigenvalues"]["plain"]["products"] == 4  # as many as show a gap to judge by
    assert other["eigenvalues"]["plain"]["products"] == 5
    assert (drawn["steps"], shifted["steps"]) == ([-1, 0, 1], [-0.25, 0, 0.25])
    assert one["loss"] == other["loss"] != seeded["loss"]
    assert drawn["lines"]["random"][0] != redrawn["lines"]["random"][0]
    assert (one["trace"], one["average_case"], one["worst_case"]) == ({}, {}, {})
    assert seeded["trace"]["plain"]["draws"] == seeded["average_case"]["l2"]["draws"] == 3
    assert seeded["eigenvalues"] == {}
    assert [rise["steps"] for rise in seeded["worst_case"]["l2"]] == [2]


def test_m_beyond_the_images_that_are_taken_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.sharpness.run_problem.MOST_IMAGES", 6)
    assert problem_of(run).images == 6
    result = sharpness(run.folder, "--out", tmp_path / "out", "--m", "7", *QUICK)
    assert result.exit_code == 2
    assert "--m 7: 6 images of" in result.stderr


def test_runs_on_a_line_are_told_before_anything_is_computed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = [tmp_path / "a", tmp_path / "b"]
    for copy in copies:
        shutil.copytree(run.folder, copy)
    monkeypatch.delattr("training.sharpness.runs.problem_of")
    result = sharpness(run.folder, *copies, "--out", tmp_path / "out", "--between", *QUICK)
    assert result.exit_code == 2, result.output
    assert "--between: the three networks lie on a line" in result.stderr
    assert not (tmp_path / "out").exists()


def test_m_is_the_runs_batch_size_where_none_is_given(run: Run, tmp_path: Path) -> None:
    quick = [*QUICK]
    quick[-1] = "1"
    assert sharpness(run.folder, "--out", tmp_path, "--split", "train", *quick).exit_code == 0
    (part,) = json.loads((tmp_path / "sharpness.json").read_text())["runs"][0]["splits"]
    assert [rise["m"] for rise in part["measures"]["worst_case"]["l2"]] == [17, 6]


def test_weights_in_double_precision_and_the_same_twice(run: Run, tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        options = ("--eigenvalues", "1", "--max-products", "5", "--density", "0", "--steps", "0", "--split", "val")
        assert sharpness(run.folder, "--out", tmp_path / name, "--precision", "fp64", *options).exit_code == 0
        document = json.loads((tmp_path / name / "sharpness.json").read_text())
        del document["created"]
        measured = document["runs"][0]["splits"][0]["measures"]
        assert measured["loss"] != float(np.float32(measured["loss"]))
        del measured["cost"]["seconds"]
        texts.append(json.dumps(document))
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "run folder nowhere does not exist"),
        (("{tmp}",), "is not a run folder: it has no config.yaml"),
        (("{run}", "{unfinished}"), "is not trained to its end; medsharp train --resume"),
        (("{run}", "{run}"), "is given twice"),
        (("{run}", "--images", "8"), "--images 8: split 'val' of"),
        (("{run}", "--split", "test"), "has no images in split 'test'"),
        (("{run}", "--m", "8"), "--m 8: 7 images of"),
        (("{run}", "--rho", "l3=1"), "--rho l3=1: unknown ball 'l3'; choose from adaptive-l2"),
        (("{run}", "--rho", "l2=x"), "--rho l2=x: 'x' is not a number"),
        (("{run}", "--rho", "l2=0"), "--rho l2=0: must be more than 0"),
        (("{run}", "--rescale", "1"), "--rescale 1.0: must be more than 0, and not 1"),
        (("{run}", "--between"), "--between: give two runs or more"),
        (("{run}", "{other}", "--between"), "--between: network.name of"),
        (("{run}", "{each}", "--between"), "--between: network.normalization of"),
        (("{run}", "--device", "gpu"), "device 'gpu' is not one of auto, cpu, cuda"),
    ],
)
def test_wrong_input_ends_in_one_sentence_and_leaves_nothing(
    arguments: tuple[str, ...], words: str, run: Run, tmp_path: Path
) -> None:
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    for name in ("config.yaml", "manifest.csv", "manifest.yaml"):
        if (run.folder / name).exists():
            (unfinished / name).write_bytes((run.folder / name).read_bytes())
    other = tmp_path / "other"
    shutil.copytree(run.folder, other)
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("resnet10_w16", "resnet18"))
    each = tmp_path / "each"  # its images, by their own statistics
    shutil.copytree(run.folder, each)
    written = yaml.safe_load(config)
    written["network"]["normalization"] = "image"
    (each / "config.yaml").write_text(yaml.safe_dump(written))
    named = {"run": run.folder, "other": other, "each": each, "unfinished": unfinished, "tmp": tmp_path}
    filled = [part.format(**named) for part in arguments]
    result = sharpness(*filled, "--out", tmp_path / "out", *QUICK)
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_an_absent_gpu_is_told(run: Run, tmp_path: Path) -> None:
    result = sharpness(run.folder, "--out", tmp_path / "out", "--device", "cuda")
    assert result.exit_code == 2
    assert "--device 'cuda': PyTorch finds no CUDA device here" in result.stderr


def test_weights_that_are_not_finite_are_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Run.load_network

    def broken(self: Run) -> torch.nn.Module:
        network = load(self)
        with torch.no_grad():
            next(network.parameters()).fill_(float("nan"))
        return network

    monkeypatch.setattr(Run, "load_network", broken)
    result = sharpness(run.folder, "--out", tmp_path / "out", *QUICK)
    assert result.exit_code == 2
    assert "split 'train': the loss is not finite" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_hessian_that_is_not_finite_is_told_by_a_landscape(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Problem, "product", lambda self, vector: vector * float("nan"))
    result = sharpness(run.folder, "--out", tmp_path / "out", "--landscape", "3", *QUICK)
    assert result.exit_code == 2
    assert "split 'train': the product with the Hessian is not finite" in result.stderr
    assert not (tmp_path / "out").exists()
