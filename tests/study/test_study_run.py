"""Running a study: what is sealed, what is skipped, what goes on, what fails by itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import training.study.chains as chains_module
import training.study.study as study_module
from medsharp.data.manifest import read_manifest
from medsharp.data.prepare import open_tied
from medsharp.errors import InputError
from medsharp.files import only_writer
from medsharp.runs import Run
from training.run_folder import Interrupted
from training.study import Outcome, StudyDefinition, run_study
from training.study.dealing import data_config, deal
from training.study.folder import LOCK, StudyFolder
from training.study.forecast import forecast
from training.study.plan import plan_cells, plan_chains
from training.study.report import write_report
from training.study.worker import main as work

from .conftest import own_copy, replaced

Define = Callable[..., StudyDefinition]


@pytest.fixture(scope="module")
def whole(hospitals: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A study with two trials and both budgets; not to be changed."""
    from training.study.definition import validate_study

    from .conftest import study_values

    values = study_values(
        hospitals,
        base={"schedule": {"epochs": 2}},
        search={"trials": 2, "lr": {"low": 0.5, "high": 2, "times": True}},
        budgets=["epochs", "gradients"],
        claims=[{"name": "it helps", "says": "improves", "optimizer": "sam"}],
        hospitals=[
            {"name": "north", "site": "North"},
            {"name": "porto", "site": "Porto", "settings": {"schedule": {"batch_size": 6}}},
        ],
    )
    return run_study(validate_study(values, "study.yaml"), out=tmp_path_factory.mktemp("whole") / "study")


@pytest.fixture
def copy(whole: Outcome, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole.folder.root, tmp_path / "study"))


def images_of(folder: Path) -> set[str]:
    return set(read_manifest(folder).table["image"])


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("nothing is to be trained")

    monkeypatch.setattr(chains_module, "train", refuse)


def test_what_is_tested_is_in_no_manifest_that_training_or_the_search_is_given(whole: Outcome) -> None:
    root = whole.folder.root
    for name, size in (("north", 24), ("porto", 36)):
        tested = [images_of(root / "sealed" / name / f"fold-{fold}") for fold in range(2)]
        assert not tested[0] & tested[1]
        for fold in range(2):
            learned = read_manifest(root / "open" / name / f"fold-{fold}")
            assert not set(learned.table["image"]) & tested[fold]
            assert len(learned.table) + len(tested[fold]) == size
            assert set(learned.table["split"]) == {"train", "val"}
    external = read_manifest(root / "sealed" / "north" / "external-porto")
    assert set(external.table["site"]) == {"Porto"}
    assert len(external.table) == 36
    for folder in (root / "runs").iterdir():
        run = Run.load(folder)
        assert len(set(run.manifest.table["site"])) == 1
        assert set(run.predictions()["split"]) == {"val"}


def test_trains_and_chooses_where_tested_images_are_gone(
    define: Define, hospitals: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = own_copy(hospitals, tmp_path)
    study = define(
        base={"data": {"path": list(paths)}},
        hospitals=[{"name": "north", "site": "North"}],
        use_folds=2,
        search={"trials": 2, "lr": {"low": 1e-3, "high": 1e-2}},
    )
    real = study_module.deal

    def deal_and_delete(root: Path, *arguments: Any) -> dict[str, str]:
        digests = real(root, *arguments)
        # A fold is trained on by another one: only what no fold learns from can go.
        learned = {name for fold in range(2) for name in images_of(root / "open/north" / f"fold-{fold}")}
        assert Path(paths[1]).name == "porto"
        for file in Path(paths[1]).glob("*.png"):
            file.unlink()
        assert learned
        return digests

    monkeypatch.setattr(study_module, "deal", deal_and_delete)
    outcome = run_study(study, out=tmp_path / "study")
    assert not outcome.failures
    assert outcome.forecast.finished_cells == outcome.forecast.cells == 4


def test_a_sealed_image_may_vanish_while_its_own_fold_is_trained(
    define: Define, hospitals: tuple[str, str], tmp_path: Path
) -> None:
    paths = own_copy(hospitals, tmp_path)
    study = define(base={"data": {"path": list(paths)}}, hospitals=[{"name": "north", "site": "North"}])
    root = tmp_path / "study"

    def vanish(folder: StudyFolder) -> None:
        # Fold 0 is trained with every image of its test fold gone from the disk.
        for name in images_of(root / "sealed/north/fold-0"):
            (Path(paths[0]) / name.split("/")[-1]).unlink()

    outcome = run_study(study, out=root, registered=vanish)
    failed = {failure.name for failure in outcome.failures}
    assert failed == {"north/cnn/adam/fold-1", "north/cnn/sam/fold-1"}  # which learn from them
    assert StudyFolder.open(root).record(plan_cells(study, plan_chains(study)[0])[0]) is not None


def test_every_optimizer_has_as_many_trials_and_the_first_is_as_given(whole: Outcome) -> None:
    folder = whole.folder
    rates = {}
    for chain in plan_chains(folder.study):
        choice = folder.choice(chain)
        assert choice is not None
        assert choice["trials"][0]["settings"]["lr"] == 2e-3
        assert len(choice["trials"]) == 2
        rates[chain.name] = choice["trials"][1]["settings"]["lr"]
        assert 1e-3 <= rates[chain.name] <= 4e-3
        values = [trial["value"] for trial in choice["trials"]]
        best = choice["trials"][values.index(max(values))]
        assert choice["chosen"] == best["settings"]
        record = folder.record(plan_cells(folder.study, chain)[0])
        assert record is not None
        assert record["run"] == best["run"]  # the trial is the cell: it is not trained twice
        assert record["settings"]["lr"] == best["settings"]["lr"]
    assert rates["north/cnn/adam/fold-0"] == rates["north/cnn/sam/fold-0"]
    assert len(set(rates.values())) == 4  # but by hospital and fold


def test_values_of_trials_are_of_validation_images(whole: Outcome) -> None:
    from sklearn.metrics import roc_auc_score

    folder = whole.folder
    choice = folder.choice(plan_chains(folder.study)[0])
    assert choice is not None
    for trial in choice["trials"]:
        table = folder.run_of(trial).predictions()
        assert set(table["split"]) == {"val"}
        assert trial["value"] == pytest.approx(roc_auc_score(table["label"] == "malignant", table["p_malignant"]))


def test_a_finished_study_is_not_trained_again(copy: Path, whole: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file: file.stat().st_mtime_ns for file in (copy / "runs").rglob("*") if file.is_file()}
    forbid_training(monkeypatch)
    outcome = run_study(whole.folder.study, out=copy)
    assert not outcome.failures
    assert {file: file.stat().st_mtime_ns for file in (copy / "runs").rglob("*") if file.is_file()} == before


def test_goes_on_to_the_same_weights_after_a_kill_in_an_epoch(
    define: Define, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = define(
        hospitals=[{"name": "north", "site": "North"}], search={"trials": 2, "lr": {"low": 1e-3, "high": 9e-3}}
    )
    run_study(study, out=tmp_path / "straight")

    stops = iter([1, 3, 5, 8])  # epochs, counted over all starts, at whose end the process dies
    seen = {"epochs": 0, "stop": next(stops)}

    def dying(event: dict[str, Any]) -> None:
        if event["kind"] == "epoch":
            seen["epochs"] += 1
            if seen["epochs"] == seen["stop"]:
                seen["stop"] = next(stops, 10**9)
                raise KeyboardInterrupt

    starts = 0
    while True:
        starts += 1
        try:
            outcome = run_study(study, out=tmp_path / "stopped", events=dying)
            break
        except Interrupted:
            continue
    assert starts == 5
    assert not outcome.failures
    weights = {
        name: {
            str(file.relative_to(tmp_path / name)): file.read_bytes()
            for file in (tmp_path / name).rglob("last.safetensors")
        }
        for name in ("straight", "stopped")
    }
    assert weights["straight"] == weights["stopped"]
    assert len(weights["straight"]) == 4
    # Nothing is trained twice but the epochs in which it was stopped, which were saved at their end.
    assert seen["epochs"] == 4 * 2 * 2
    choices = [(tmp_path / name / "choices/north/cnn/sam/fold-1.json").read_text() for name in ("straight", "stopped")]
    assert choices[0] == choices[1]


@pytest.mark.parametrize("criterion", ["val_auroc", "val_loss"])
def test_trials_that_are_worse_end_early_and_the_same_ones_after_kills(
    define: Define, tmp_path: Path, criterion: str
) -> None:
    search = {"trials": 5, "lr": {"low": 1e-5, "high": 9e-3}, "pruning": "asha", "criterion": criterion}
    study = define(
        base={"schedule": {"epochs": 4, "keep": "last"}},
        hospitals=[{"name": "north", "site": "North"}],
        use_folds=2,
        search=search,
    )
    epochs = {"straight": 0, "stopped": 0}

    def run(name: str, dying: bool) -> None:
        def told(event: dict[str, Any]) -> None:
            if event["kind"] == "epoch":
                epochs[name] += 1
                if dying and epochs[name] in (2, 6, 9):
                    raise KeyboardInterrupt

        assert not run_study(study, out=tmp_path / name, events=told).failures

    run("straight", False)
    for _ in range(3):
        with pytest.raises(Interrupted):
            run("stopped", True)
    run("stopped", True)
    assert epochs["stopped"] == epochs["straight"]
    choices = [
        {
            path.relative_to(tmp_path / name).as_posix(): path.read_text()
            for path in (tmp_path / name).rglob("fold-*.json")
        }
        for name in ("straight", "stopped")
    ]
    assert choices[0] == choices[1]
    folder = StudyFolder.open(tmp_path / "straight")
    lower, pruned, trained = criterion == "val_loss", 0, 0
    for chain in plan_chains(study):
        choice = folder.choice(chain)
        assert choice is not None
        assert not choice["trials"][0].get("pruned")
        reached: list[float] = []
        for trial in choice["trials"]:
            lines = folder.run_of(trial).metrics()
            trained += len(lines)
            first = lines[0][criterion] * (1 if lower else -1)
            # Of fewer than five, the best after the first epoch goes on, the later of equals too.
            goes_on = first <= min([*reached, first])
            if not goes_on or len(reached) < 4:
                assert (len(lines) == 1) == (not goes_on)
            reached.append(first)
            if trial.get("pruned"):
                pruned += 1
                assert trial["value"] is None
                assert trial[
                    "failure"
                ] == f"ended after {len(lines)} epoch{'s' * (len(lines) > 1)}: other trials were " + ("better there")
                assert len(lines) in (1, 3)
                assert not list(folder.run_of(trial).folder.rglob("*.safetensors"))
            else:
                assert len(lines) == 4
        whole = [trial for trial in choice["trials"] if not trial.get("pruned")]
        best = min(whole, key=lambda trial: trial["value"] * (1 if lower else -1))
        assert choice["chosen"] == best["settings"]
    assert 4 <= pruned <= 16
    assert trained == epochs["straight"]
    # A forecast counts what was ended as done.
    assert forecast(folder).finished == forecast(folder).runs
    write_report(folder)
    report = " ".join((tmp_path / "straight/report/report.md").read_text().split())
    assert "the comparisons are biased by it" in report


def test_a_run_that_fails_is_listed_alone_and_tried_again(
    define: Define, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = define(hospitals=[{"name": "north", "site": "North"}], seeds=[0, 1])
    real = chains_module.train

    def failing(config: Any, *arguments: Any, **options: Any) -> Any:
        if config.optimizer.name == "sam" and config.seed == 1:
            raise RuntimeError("the card fell out")
        return real(config, *arguments, **options)

    monkeypatch.setattr(chains_module, "train", failing)
    outcome = run_study(study, out=tmp_path / "study")
    assert [failure.name for failure in outcome.failures] == ["north/cnn/sam/fold-0", "north/cnn/sam/fold-1"]
    assert "seed-1: RuntimeError: the card fell out" in outcome.failures[0].sentence
    assert outcome.forecast.finished_cells == 6
    monkeypatch.setattr(chains_module, "train", real)
    assert len(list((tmp_path / "study/errors").iterdir())) == 2
    again = run_study(study, out=tmp_path / "study")
    assert not again.failures
    assert not list((tmp_path / "study/errors").iterdir())
    assert again.forecast.finished_cells == 8


@pytest.mark.parametrize("criterion", ["val_auroc", "val_loss"])
def test_settings_that_diverge_are_an_answer_and_the_other_trials_choose(
    criterion: str, define: Define, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They end the training, or leave a loss that is not finite, which is written as nothing: JSON does not know it."""
    study = define(
        hospitals=[{"name": "north", "site": "North"}],
        search={"trials": 2, "lr": {"low": 3e-3, "high": 9e-3}, "criterion": criterion},
    )
    real = chains_module.train

    def diverging(config: Any, *arguments: Any, out: Path, **options: Any) -> Any:
        bad = config.optimizer.lr == 2e-3
        if bad and criterion == "val_auroc":
            raise chains_module.DivergedError("not finite")
        done = real(config, *arguments, out=out, **options)
        if bad:
            about = json.loads((out / "environment.json").read_text())
            about["kept"]["loss"] = None
            (out / "environment.json").write_text(json.dumps(about))
        return done

    monkeypatch.setattr(chains_module, "train", diverging)
    outcome = run_study(study, out=tmp_path / "study")
    assert not outcome.failures
    choice = outcome.folder.choice(plan_chains(study)[0])
    assert choice is not None
    assert [trial["value"] is None for trial in choice["trials"]] == [True, False]
    assert choice["chosen"]["lr"] >= 3e-3


def test_who_comes_second_leaves_what_the_first_is_dealing(define: Define, tmp_path: Path) -> None:
    out = tmp_path / "study"
    for name in ("open", "sealed"):
        (out / name).mkdir(parents=True)
        (out / name / "rows.csv").write_text("of the first")
    with (
        only_writer(out / LOCK, "busy"),
        pytest.raises(InputError, match="another process trains the study in"),
    ):
        run_study(define(), out=out)
    assert all((out / name / "rows.csv").exists() for name in ("open", "sealed"))


def test_a_changed_study_or_foreign_folder_is_refused_and_left_alone(
    copy: Path, whole: Outcome, define: Define, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is of another study, or this one was changed"):
        run_study(replaced(whole.folder.study, rule={"equivalence": 0.02}), out=copy)
    text = (copy / "study.yaml").read_text()
    (copy / "study.yaml").write_text(text.replace("equivalence: 0.01", "equivalence: 0.05"))
    with pytest.raises(InputError, match="was changed after the study was registered"):
        StudyFolder.open(copy)
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match="is not the folder of a study; choose another"):
        run_study(define(), out=other)
    assert [file.name for file in other.iterdir()] == ["letter.txt"]


def test_wrong_sites_and_too_few_patients_leave_nothing_behind(define: Define, tmp_path: Path) -> None:
    for changes, sentence in (
        ({"hospitals": [{"name": "north", "site": "Nort"}]}, "has no site 'Nort'; did you mean North"),
        ({"folds": 20, "use_folds": 2}, "too few for 20 folds"),
    ):
        with pytest.raises(InputError, match=sentence):
            run_study(define(**changes), out=tmp_path / "study")
        assert not (tmp_path / "study").exists()


def test_weights_that_are_not_there_are_told_before_the_data_are_read(define: Define, tmp_path: Path) -> None:
    settings = {"network": {"name": "resnet10_w16", "checkpoint": str(tmp_path / "none.pth")}}
    study = define(networks=[{"name": "cnn", "kind": "cnn", "settings": settings}])
    with pytest.raises(InputError, match=r"none\.pth"):
        run_study(study, out=tmp_path / "study", opened=lambda manifest: pytest.fail("the data were opened"))
    assert not (tmp_path / "study").exists()


def test_other_code_is_refused_until_it_is_accepted_and_finished_runs_stay(
    copy: Path, whole: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    import training.study.folder as folder_module

    monkeypatch.setattr(study_module, "code_digest", lambda: "0" * 16)
    monkeypatch.setattr(folder_module, "code_digest", lambda: "0" * 16)
    with pytest.raises(InputError, match="was begun with other code"):
        run_study(whole.folder.study, out=copy)
    missing = plan_cells(whole.folder.study, plan_chains(whole.folder.study)[1])[1]
    record = whole.folder.record(missing)
    assert record is not None
    shutil.rmtree(copy / "runs" / record["run"])
    before = {folder.name for folder in (copy / "runs").iterdir()}
    outcome = run_study(whole.folder.study, out=copy, new_code=True)
    after = {folder.name for folder in (copy / "runs").iterdir()}
    assert len(after - before) == 1
    assert record["run"] not in after
    assert outcome.folder.codes == [*whole.folder.codes, "0" * 16]


def test_processes_side_by_side_train_what_one_process_trains(
    define: Define,
    hospitals: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = define(hospitals=[{"name": "north", "site": "North"}])
    run_study(study, out=tmp_path / "one")
    # Another checkout lies where the command is typed: processes run the code of the one that starts them all the same.
    (tmp_path / "elsewhere/training").mkdir(parents=True)
    (tmp_path / "elsewhere/training/__init__.py").write_text("raise SystemExit('other code')\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    other = run_study(study, out=tmp_path / "two", devices=["cpu", "cpu"])
    assert not other.failures
    for chain in plan_chains(study):
        one, two = (StudyFolder.open(tmp_path / name).record(plan_cells(study, chain)[0]) for name in ("one", "two"))
        assert one is not None
        assert two is not None
        assert (one["run"], one["val_auroc"]) == (two["run"], two["val_auroc"])
    assert work(str(tmp_path / "two"), "north/cnn/adam/fold-0", "cpu") == 0  # finished: nothing to do
    assert all(json.loads(line) for line in capsys.readouterr().out.splitlines())


def test_a_process_of_other_code_trains_nothing(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import training.study.worker as worker_module

    monkeypatch.setattr(worker_module, "code_digest", lambda: "1" * 16)
    assert work(str(copy), "north/cnn/adam/fold-0", "cpu") != 0
    (event,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert event["kind"] == "refused"
    assert "would be trained with other code than the study (1111111111111111 here" in event["sentence"]


def test_a_forecast_counts_trials_and_cells_once_and_knows_seconds(whole: Outcome, copy: Path) -> None:
    seen = forecast(whole.folder)
    # Each of 8 chains: 2 trials, of which one is the cell of equal epochs; SAM has a cell of half the epochs besides.
    assert (seen.cells, seen.finished_cells) == (16, 16)
    assert (seen.runs, seen.finished, seen.remaining) == (20, 20, 0)
    assert len(list((whole.folder.root / "runs").iterdir())) == 20
    record = whole.folder.record(plan_cells(whole.folder.study, plan_chains(whole.folder.study)[1])[1])
    assert record is not None
    assert record["epochs"] == 1
    shutil.rmtree(copy / "runs" / record["run"])
    less = forecast(StudyFolder.open(copy))
    assert (less.finished, less.finished_cells) == (19, 15)
    assert less.remaining is not None
    assert 0 < less.remaining < seen.seconds


def test_images_of_both_hospitals_are_left_out_of_what_is_external(
    define: Define, hospitals: tuple[str, str], tmp_path: Path
) -> None:
    paths = own_copy(hospitals, tmp_path)
    for number in range(6):  # labels agree, as every third image is malignant in both
        shutil.copy(Path(paths[0]) / f"{number}.png", Path(paths[1]) / f"{number}.png")
    study = define(base={"data": {"path": list(paths)}})
    deal(tmp_path / "study", study, open_tied(data_config(study)))
    external = read_manifest(tmp_path / "study/sealed/north/external-porto").table
    assert {name.split("/")[-1] for name in external["image"]} == {f"{number}.png" for number in range(6, 36)}
    for number in range(7, 36, 3):  # every malignant image of Porto is now one of the north
        shutil.copy(Path(paths[0]) / f"{number % 24}.png", Path(paths[1]) / f"{number}.png")
    with pytest.raises(InputError, match="no image of both classes at porto that is new to north"):
        deal(tmp_path / "other", study, open_tied(data_config(study)))


def test_verdicts_stand_on_the_first_budget_and_on_all_places(copy: Path) -> None:
    results, _ = write_report(StudyFolder.open(copy))
    values = {
        budget: [one["value"] for one in found["comparisons"] if one["optimizer"] == "sam"]
        for budget, found in results["budgets"].items()
    }
    assert len(values["epochs"]) == 4
    assert values["epochs"] != values["gradients"]
    [claim] = results["claims"]
    assert claim["difference"]["value"] == pytest.approx(np.mean(values["epochs"]))
    epochs = {(one["optimizer"], one["budget"]): one["epochs"] for one in results["runs"]}
    assert epochs == {
        ("adam", "epochs"): 2,
        ("adam", "gradients"): 2,
        ("sam", "epochs"): 2,
        ("sam", "gradients"): 1,
    }


def test_weights_are_kept_of_what_was_chosen_alone(whole: Outcome) -> None:
    folder = whole.folder
    kept = {file.parent.parent.name for file in folder.root.rglob("last.safetensors")}
    records = [folder.record(cell) for chain in plan_chains(folder.study) for cell in plan_cells(folder.study, chain)]
    assert kept == {record["run"] for record in records if record is not None}
    assert not list(folder.root.rglob("last.pt"))
