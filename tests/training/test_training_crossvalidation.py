"""Cross-validation: what each member leaves out, what is pooled, what decides, and going on after whatever happened."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

import training.crossvalidation.members as members_module
import training.processes
from medsharp.config import TrainConfig, validate_config
from medsharp.data.manifest import DatasetInfo, Manifest, make_table, write_manifest
from medsharp.data.parts import Part
from medsharp.errors import InputError
from medsharp.evaluation.statistics.operating_point import choose_operating_point
from medsharp.export.calibration import fit_temperature
from medsharp.files import only_writer
from medsharp.keys import clusters_of
from training import Interrupted, Run
from training.crossvalidation import Crossvalidation, Member, crossvalidate, plan_members
from training.crossvalidation.evaluation import evaluate_units
from training.crossvalidation.plan import settled_config
from training.crossvalidation.pooling import make_units
from training.crossvalidation.worker import main as work
from training.reproducibility import select_device
from training.side_by_side import Failure, PieceEvents

from .conftest import make_manifest

CLASSES = ("benign", "malignant")


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Two data sets; the second has more images, and names its site itself."""
    paths = []
    for name, count in (("north", 16), ("south", 24)):
        folder = tmp_path_factory.mktemp("hospitals") / name
        folder.mkdir()
        manifest = make_manifest(folder, {"": count})
        if name == "south":  # the same squares as in the north would be duplicates
            for file in manifest.table["image"]:
                pixels = np.asarray(Image.open(folder / file))
                Image.fromarray(np.ascontiguousarray(pixels.T[::-1])).save(folder / file)
        table = manifest.table.assign(site="Porto" if name == "south" else "")
        info = dataclasses.replace(manifest.info, name=name)
        write_manifest(dataclasses.replace(manifest, table=table, info=info), folder)
        paths.append(str(folder))
    return tuple(paths)


Configured = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def several(hospitals: tuple[str, ...]) -> Configured:
    """Make the configuration of a small network on both; keywords are settings of the data."""

    def build(**data: Any) -> TrainConfig:
        images = {"image_size": 32, "crop": "none", "augmentation": "light", "cache": "memory"}
        return validate_config(
            {
                "data": {"path": list(hospitals), **images, **data},
                "network": {"name": "resnet10_w16"},
                "optimizer": {"name": "adamw", "lr": 2e-3},
                "schedule": {"epochs": 1, "warmup_epochs": 0, "batch_size": 8},
                "run": {"device": "cpu", "precision": "fp32"},
            }
        )

    return build


@pytest.fixture(scope="module")
def whole(several: Configured, tmp_path_factory: pytest.TempPathFactory) -> Crossvalidation:
    """Each hospital left out by two members; not to be changed."""
    return by_site(several(), tmp_path_factory.mktemp("whole") / "cv")


@pytest.fixture
def copy(whole: Crossvalidation, tmp_path: Path) -> Path:
    """The folder of the same, to be changed."""
    return Path(shutil.copytree(whole.folder, tmp_path / "cv"))


def by_site(config: TrainConfig, out: Path, **options: Any) -> Crossvalidation:
    return crossvalidate(config, out=out, by="site", folds=2, **options)


def weights(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*.safetensors"))}


def test_every_hospital_is_left_out_once_and_its_members_are_averaged(whole: Crossvalidation) -> None:
    result = whole
    assert [member.name for member in result.members] == [
        *(f"leave-north/fold-{fold}" for fold in range(2)),
        *(f"leave-south/fold-{fold}" for fold in range(2)),
    ]
    for member in result.members:
        run = Run.load(result.folder / member.name)
        assert (run.config.data.leave_site, run.config.data.fold) == (member.left_out, member.fold)
        assert set(run.manifest.of_split("test")["site"]) == {member.left_out}
        assert member.left_out not in set(run.manifest.of_split("train")["site"])
    table = pd.read_csv(result.folder / "predictions.csv")
    assert table["image"].is_unique
    assert len(table) == 40
    assert (table["left_out"] == table["site"]).all()
    single = pd.read_csv(result.folder / "member_predictions.csv")
    for unit, site in (("leave-north", "north"), ("leave-south", "Porto")):
        rows = single[single["member"].str.startswith(unit) & (single["split"] == "test")]
        logits = rows[[f"logit_{label}" for label in CLASSES]].to_numpy()
        mean = pd.Series(softmax(logits, axis=1)[:, 1]).groupby(rows["image"].to_numpy()).mean()
        own = table[table["left_out"] == site].set_index("image")
        expected = mean[own.index]
        decides = pd.read_csv(result.folder / "out_of_fold.csv")
        decides = decides[decides["unit"] == unit]
        assert site not in set(decides["site"])
        assert decides["image"].is_unique
        assert len(decides) == 40 - len(own)
        scaled = decides[[f"logit_{label}" for label in CLASSES]].to_numpy()
        positive = (decides["label"] == "malignant").to_numpy()
        temperature = fit_temperature(scaled, positive.astype(int))
        odds = np.log(expected / (1 - expected)) / temperature
        np.testing.assert_allclose(own["p_malignant"], 1 / (1 + np.exp(-odds)), rtol=1e-5)
        point = choose_operating_point(softmax(scaled / temperature, axis=1)[:, 1], positive, 0.95)
        assert own["threshold"].unique() == pytest.approx([point.threshold], rel=1e-6)


def test_figures_of_members_stand_beside_those_of_their_mean(whole: Crossvalidation) -> None:
    result = whole
    summary = pd.read_csv(result.folder / "summary.csv").set_index("left_out")
    single = pd.read_csv(result.folder / "member_predictions.csv")
    tested = single[single["split"] == "test"]
    areas = {
        name: roc_auc_score(rows["label"] == "malignant", rows["logit_malignant"] - rows["logit_benign"])
        for name, rows in tested.groupby("member")
    }
    for unit, site in (("leave-north", "north"), ("leave-south", "Porto")):
        own = [area for name, area in areas.items() if name.startswith(unit)]
        told = summary.loc[site, ["members_auroc_mean", "members_auroc_low", "members_auroc_high"]]
        assert list(told) == pytest.approx([np.mean(own), min(own), max(own)])
        assert min(own) < max(own)
    names = [evaluation.content["name"] for evaluation in result.evaluations]
    assert names == ["north", "Porto", "all left-out hospitals pooled"]
    assert {evaluation.content["role"] for evaluation in result.evaluations} == {"external"}
    assert any("2 members by themselves" in note for note in result.evaluations[0].content["notes"])
    assert (result.folder / "report.html").exists()
    assert (result.folder / "evaluation.json").exists()


def test_second_start_trains_nothing_and_another_one_is_refused(several: Configured, copy: Path) -> None:
    before, table = weights(copy), (copy / "predictions.csv").read_bytes()
    told: list[dict[str, Any]] = []
    by_site(several(), copy, events=told.append)
    assert [event["kind"] for event in told] == ["crossvalidation"]
    assert told[0] == {"kind": "crossvalidation", "members": 4, "finished": 4, "epochs": 0}
    assert (copy / "predictions.csv").read_bytes() == table
    with pytest.raises(InputError, match=r"other settings \(data.image_size: 32 there, 48 here\)"):
        by_site(several(image_size=48), copy)
    with pytest.raises(InputError, match=r"\(by: site there, fold here\)"):
        crossvalidate(several(), out=copy, by="fold", folds=3)
    with pytest.raises(InputError, match=r"\(sensitivity: 0.95 there, 0.9 here\)"):
        by_site(several(), copy, sensitivity=0.9)
    assert weights(copy) == before
    request = copy / "crossvalidation.yaml"
    request.write_text(request.read_text().replace("sensitivity: 0.95", "sensitivity: high"))
    with pytest.raises(InputError, match=r"crossvalidation.yaml: sensitivity 'high' is not a number"):
        by_site(several(), copy)


def test_interrupted_cross_validation_goes_on_to_the_same_result(
    whole: Crossvalidation, several: Configured, tmp_path: Path
) -> None:
    def stop(event: dict[str, Any]) -> None:
        if event["kind"] == "batch" and event["member"] == "leave-north/fold-1":
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="the same command goes on"):
        by_site(several(), tmp_path / "stopped", events=stop)
    by_site(several(), tmp_path / "stopped")
    assert weights(whole.folder) == weights(tmp_path / "stopped")
    for name in ("predictions.csv", "out_of_fold.csv", "summary.csv"):
        assert (whole.folder / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()


def test_what_a_kill_leaves_before_anything_is_trained_is_gone_on_with(several: Configured, copy: Path) -> None:
    before = weights(copy)
    (copy / "manifest.yaml").unlink()  # between the two files of the manifest
    folder = copy / "leave-south/fold-1"
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    (folder / "manifest.csv").write_text("image,label\n")  # between the manifest and the settings
    (folder / ".manifest.yaml.0a1b2c3d.part").write_text("name:")
    by_site(several(), copy)
    assert weights(copy) == before


def test_member_that_fails_is_told_and_does_not_stop_the_others(
    several: Configured, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("leave-north/fold-1", "leave-south/fold-0"):
        shutil.rmtree(copy / name)
    (copy / "predictions.csv").unlink()
    train = members_module.train

    def failing(config: TrainConfig, manifest: Manifest, *, out: Path, **options: Any) -> Run:
        if out.parts[-2:] == ("leave-north", "fold-1"):
            raise RuntimeError("out of memory")
        return train(config, manifest, out=out, **options)

    monkeypatch.setattr(members_module, "train", failing)
    result = by_site(several(), copy)
    ((name, sentence),) = [(failure.name, failure.sentence) for failure in result.failures]
    assert name == "leave-north/fold-1"
    assert sentence.startswith("RuntimeError: out of memory (see ")
    assert "Traceback" in (copy / "errors/leave-north-fold-1.txt").read_text()
    assert not (copy / "predictions.csv").exists()
    monkeypatch.setattr(members_module, "train", train)
    told: list[dict[str, Any]] = []
    again = by_site(several(), copy, events=told.append)
    assert told[0]["finished"] == 3
    assert not again.failures
    assert len(again.evaluations) == 3


def test_processes_train_members_and_tell_what_they_do(several: Configured, copy: Path) -> None:
    before, names = weights(copy), ["leave-north/fold-1", "leave-south/fold-0"]
    for name in names:
        shutil.rmtree(copy / name)
    told: list[dict[str, Any]] = []
    result = by_site(several(), copy, devices=("cpu", "auto"), events=told.append)
    assert not result.failures
    assert {event["member"] for event in told if event["kind"] == "epoch"} == set(names)
    assert sorted(event["member"] for event in told if event["kind"] == "member") == names
    assert weights(copy).keys() == before.keys()
    assert Run.load(copy / names[1]).config.run.device == "cpu"  # where it was trained is no setting of a member


def test_device_that_is_asked_for_goes_before_the_configurations(
    several: Configured, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    select = training.processes.select_device
    monkeypatch.setattr(training.processes, "select_device", lambda name: asked.append(name) or select(name))
    (copy / "leave-south/fold-0/predictions.csv").unlink()
    by_site(several(), copy, devices=("auto",))
    (copy / "leave-south/fold-0/predictions.csv").unlink()
    by_site(several(), copy)
    assert asked == ["auto", "cpu"]


@pytest.mark.parametrize(("name", "index"), [("cuda:1", 1), ("cuda", None), ("auto", None)])
def test_one_gpu_of_several_becomes_the_current_one(
    name: str, index: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert select_device(name) == torch.device("cuda" if index is None else f"cuda:{index}")
    assert current == ([] if index is None else [torch.device("cuda", index)])
    assert select_device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match=r"run\.device = 'cuda:2': PyTorch finds 2 CUDA devices, from 0"):
        select_device("cuda:2")


def test_process_of_a_member_that_is_refused_says_why(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "leave-south/fold-1/config.yaml").unlink()  # and its weights are there: not what a kill leaves
    assert work(str(copy), "leave-south/fold-1", "cpu") == 2
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "refused"
    assert "exists already; choose another folder" in told["sentence"]


def folds_of_one_network(role: str) -> tuple[pd.DataFrame, list[Member], TrainConfig]:
    """Predictions of three folds, whose scales differ so that what decided is seen in the threshold."""
    config = settled_config(TrainConfig.model_validate({"data": {"fold_role": role}}), "fold", 3)
    rng = np.random.default_rng(2)
    rows = []
    for fold in range(3):
        for split, held in (("val", fold if role == "val" else (fold + 1) % 3), ("test", fold)):
            if role == "val" and split == "test":
                continue
            for number in range(40):
                malignant = number % 4 == 0
                logit = (2.0 + fold) * (rng.normal() + (1.5 if malignant else -0.5))
                rows.append(
                    {"member": f"fold-{fold}", "left_out": "", "fold": str(fold), "image": f"{held}-{number}"}
                    | {"split": split, "label": CLASSES[malignant], "site": "A", "patient": f"{held}-{number // 8}"}
                    | {"logit_benign": 0.0, "logit_malignant": logit}
                )
    members = [Member(f"fold-{fold}", f"fold-{fold}", "", fold, config) for fold in range(3)]
    return pd.DataFrame(rows), members, config


@pytest.mark.parametrize("role", ["test", "val"])
def test_threshold_of_a_fold_never_comes_from_itself(role: str) -> None:
    table, members, config = folds_of_one_network(role)
    units = make_units(table, members, config, 0.9)
    for fold, unit in enumerate(units):
        assert set(unit.predictions["image"].str[0]) == {str(fold)}
        assert str(fold) not in set(unit.out_of_fold["image"].str[0])
        decides = table[(table["split"] == "val") & ((table["member"] == unit.name) == (role == "test"))]
        assert unit.out_of_fold["image"].tolist() == decides["image"].tolist()
        logits = decides[["logit_benign", "logit_malignant"]].to_numpy()
        positive = (decides["label"] == "malignant").to_numpy()
        temperature = fit_temperature(logits, positive.astype(int))
        assert temperature != 1
        scores, clusters = softmax(logits / temperature, axis=1)[:, 1], clusters_of(decides)
        point = choose_operating_point(scores, positive, 0.9, clusters=clusters)
        assert unit.point.threshold == point.threshold
        assert unit.point.interval == point.interval  # over patients, who have eight images each
        assert point.interval != choose_operating_point(scores, positive, 0.9).interval
        assert (unit.predictions["threshold"] == point.threshold).all()
        tested = table[(table["member"] == unit.name) & (table["split"] == role)]
        expected = 1 / (1 + np.exp(-tested["logit_malignant"] / temperature))
        np.testing.assert_allclose(unit.predictions["p_malignant"], expected)


def test_epochs_that_the_evaluated_fold_chose_are_told_of_every_hospital() -> None:
    table, members, config = folds_of_one_network("val")
    table["site"] = np.where(np.arange(len(table)) % 3 == 0, "A", "B")
    units = make_units(table, members, config, 0.9)
    info = DatasetInfo("hospitals", CLASSES)
    evaluations = evaluate_units(units, config, "fold", info)
    assert [evaluation.content["name"] for evaluation in evaluations] == ["A", "B", "hospitals, all folds pooled"]
    for evaluation in evaluations:
        assert evaluation.content["role"] == "internal"
        assert any("figures are too good" in note for note in evaluation.content["notes"])
    last = config.model_copy(update={"schedule": config.schedule.model_copy(update={"keep": "last"})})
    for evaluation in evaluate_units(units, last, "fold", info):
        assert not any("figures are too good" in note for note in evaluation.content["notes"])


def test_who_comes_second_leaves_what_the_first_writes(several: Configured, copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}
    with only_writer(copy / ".lock", ""), pytest.raises(InputError, match="another cross-validation is writing to"):
        by_site(several(), copy)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    by_site(several(), copy)


def test_what_a_library_prints_in_a_process_is_no_event(
    several: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "noisy.py").write_text("""print('3\\n{"loss": 1}\\nnull\\n{"kind": "end", "val_auroc": 0.5}')""")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(members_module, "_WORKER", "noisy")
    told: list[dict[str, Any]] = []
    member = Member("fold-0", "fold-0", "", 0, several())
    assert not members_module.train_on_devices(tmp_path, [member], ["cpu", "auto"], told.append)
    assert [(event["kind"], event["member"]) for event in told] == [("end", "fold-0"), ("member", "fold-0")]


def test_members_that_others_train_tell_their_events_and_why_they_failed(
    several: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "worker.py").write_text(
        "import sys\n"
        'print(\'{"kind": "epoch"}\')\n'
        "if sys.argv[2] == 'fold-1':\n"
        '    print(\'{"kind": "refused", "sentence": "no image"}\')\n'
        "    sys.exit(2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(members_module, "_WORKER", "worker")
    members = [Member(name, name, "", fold, several()) for fold, name in enumerate(("fold-0", "fold-1"))]

    def hand_out(names: Sequence[str], work: PieceEvents) -> Iterator[tuple[str, dict[str, Any]]]:
        return ((name, event) for name in names for event in work(name, "cpu"))

    told: list[dict[str, Any]] = []
    failures = members_module.train_elsewhere(tmp_path, members, hand_out, told.append)
    assert failures == [Failure("fold-1", "no image")]
    assert [(event["kind"], event["member"], event.get("failure")) for event in told] == [
        ("epoch", "fold-0", None),
        ("member", "fold-0", ""),
        ("epoch", "fold-1", None),
        ("member", "fold-1", "no image"),
    ]


def test_folds_are_dealt_once_and_each_is_tested_once(several: Configured, tmp_path: Path) -> None:
    result = crossvalidate(several(folds=3), out=tmp_path / "cv", by="fold")
    table = pd.read_csv(result.folder / "predictions.csv")
    assert table["image"].is_unique
    assert len(table) == 40
    assert sorted(table["fold"].unique()) == [0, 1, 2]
    for member in result.members:
        tested = set(Run.load(result.folder / member.name).manifest.of_split("test")["image"])
        assert tested == set(table.loc[table["fold"] == member.fold, "image"])
    names = [evaluation.content["name"] for evaluation in result.evaluations]
    assert names == ["Porto", "north", "north + south, all folds pooled"]


def manifest_of(sites: dict[str, str], patient: str = "{number}") -> Manifest:
    rows = [
        {"image": f"{site}-{number}.png", "label": label, "site": site, "patient": patient.format(number=number)}
        for site, labels in sites.items()
        for number, label in enumerate({"b": "benign", "m": "malignant"}[letter] for letter in labels)
    ]
    return Manifest(make_table(rows), DatasetInfo("hospitals", CLASSES), Path("nowhere"))


@pytest.mark.parametrize(
    ("sites", "patient", "by", "sentence"),
    [
        ({"A": "bmbm"}, "{number}", "site", "hospitals names 'A' alone; --by site needs two hospitals"),
        ({"": "bmbm"}, "{number}", "site", "hospitals names no site; --by site needs two hospitals"),
        ({"A": "bmbm"}, "", "patient", "the patient of 4 of 4 images is not known .*--by fold keeps"),
    ],
)
def test_data_that_cannot_be_left_out_so_are_refused(
    sites: dict[str, str], patient: str, by: Any, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        plan_members(settled_config(TrainConfig(), by, 3), manifest_of(sites, patient), by)


def test_two_data_sets_of_one_site_are_no_two_hospitals() -> None:
    manifest = dataclasses.replace(manifest_of({"A": "bmbm"}), parts=(Part("x", Path("x")), Part("y", Path("y"))))
    with pytest.raises(InputError, match=r"names 'A' alone; .* two hospitals or more, told apart by the column 'site'"):
        plan_members(settled_config(TrainConfig(), "site", None), manifest, "site")


def test_hospital_is_one_in_whatever_spelling_and_names_of_folders_differ() -> None:
    manifest = manifest_of({"St. Ann": "bm", "st. ann": "bmm", "St Ann": "bm"})
    members = plan_members(settled_config(TrainConfig(), "site", None), manifest, "site")
    assert [(member.name, member.left_out) for member in members] == [
        ("leave-st-ann", "st. ann"),
        ("leave-st-ann-2", "St Ann"),
    ]


def test_refusals_leave_nothing_behind(several: Configured, tmp_path: Path, hospitals: tuple[str, ...]) -> None:
    config = several()
    for options, sentence in (
        ({"by": "site", "folds": 20}, "too few for 20 folds"),
        ({"by": "fold", "folds": 2}, "data.folds = 2"),
        ({"by": "fold", "devices": ("gpu",)}, "--devices: device 'gpu' is not one of"),
        ({"by": "fold", "devices": ("cpu", "cpu")}, "names a device twice"),
        ({"by": "fold", "sensitivity": 0.0}, "sensitivity 0 must be above 0"),
    ):
        with pytest.raises(InputError, match=sentence):
            crossvalidate(config, out=tmp_path / "cv", **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"data\.leave_site is of one run"):
        crossvalidate(several(leave_site="north"), out=tmp_path / "cv", by="site")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already and is no cross-validation"):
        crossvalidate(config, out=tmp_path / "thesis", by="site")
    assert [file.name for file in tmp_path.rglob("*")] == ["thesis", "chapter.txt"]
