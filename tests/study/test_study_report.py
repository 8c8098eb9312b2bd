"""The report of a study whose results are made up: what is missing, failed, unknown or unequal is told as that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.errors import InputError
from medsharp.quantities import signed
from medsharp.runs import Run
from training.side_by_side import keep_error
from training.study import flatness
from training.study.definition import StudyDefinition, validate_study
from training.study.flatness import Measure, Measured
from training.study.folder import StudyFolder, register
from training.study.plan import cell_config, planned_cells
from training.study.reading import EXTERNAL, INTERNAL, TRAIN, reading_name
from training.study.report import write_report

from .conftest import study_values

CLAIMS = [
    {"name": "SAM helps", "says": "improves", "optimizer": "sam"},
    {"name": "ASAM is inconsistent", "says": "inconsistent", "optimizer": "asam"},
]
COMMITS = ("a" * 40, "b" * 40)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here depends on where intervals of correlations end."""
    monkeypatch.setattr(flatness, "_RESAMPLES", 50)


def images_of(hospital: str) -> pd.DataFrame:
    """North knows nobody's patient, and two of its images are near-duplicates; Porto's patients have two images."""
    names = [f"{hospital}-{number}" for number in range(48)]
    labels = np.arange(48) // 2 % 3 == 0
    return pd.DataFrame(
        {
            "image": names,
            "patient": [f"p{number // 2}" for number in range(48)] if hospital == "porto" else "",
            "site": hospital,
            "group": ["twins" if hospital == "north" and number < 2 else "" for number in range(48)],
            "label": np.where(labels, "malignant", "benign"),
        }
    )


def make_up(root: Path, **changes: Any) -> StudyFolder:
    """A finished study without a single training."""
    study = validate_study(
        study_values(
            ("nowhere",),
            base={"schedule": {"epochs": 3}},
            optimizers=[{"name": "adam"}, {"name": "sam"}, {"name": "asam"}],
            budgets=["epochs", "gradients"],
            folds=3,
            use_folds=3,
            claims=CLAIMS,
            **changes,
        ),
        "study",
    )
    sources = {"name": "x", "citation": "Gómez-Flores, 2024"}
    data = {
        f"{hospital.name}/fold-{fold}": f"{hospital.name}{fold}" for hospital in study.hospitals for fold in (0, 1, 2)
    }
    about = {"begun": "then", "git_commit": COMMITS[0], "sources": sources}
    folder = register(root, study, data, about)
    rng = np.random.default_rng(0)
    for number, cell in enumerate(planned_cells(study)):
        config = cell_config(study, cell, {})
        run = folder.run_folder(cell, {})
        record = {"hospital": cell.chain.hospital.name, "optimizer": cell.chain.optimizer.name}
        record |= {"network": cell.chain.network.name}
        record |= {"fold": cell.chain.fold, "budget": cell.budget, "seed": 0, "run": run.name, "images": 32}
        seconds = 300.0 if number % 9 == 0 else 1.0 + number % 3
        more = {"seconds": 3 * seconds, "seconds_an_epoch": seconds, "git_commit": COMMITS[number % 2]}
        folder.keep_record(cell, {**record, **more, "epochs": config.schedule.epochs})
        if not run.is_dir():
            run.mkdir(parents=True)
            (run / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
            (run / "predictions.csv").touch()
            write_reading(study, folder.root, record, rng)
    return folder


def write_reading(study: StudyDefinition, root: Path, record: dict[str, Any], rng: np.random.Generator) -> None:
    own, other = (images_of(name) for name in sorted(("north", "porto"), key=lambda name: name != record["hospital"]))
    fold = np.arange(48) // 2 % 8 // 2 % 3 == record["fold"]  # both classes in each
    tables = []
    for part, rows in ((TRAIN, own[~fold]), (INTERNAL, own[fold]), (EXTERNAL + other["site"][0], other)):
        malignant = (rows["label"] == "malignant").to_numpy()
        shares = 1 / (1 + np.exp(-(2 * malignant - 1 + rng.standard_normal(len(rows)))))
        tables.append(rows.assign(p_benign=1 - shares, p_malignant=shares))
        tables[-1].insert(0, "part", part)
    path = root / "readings" / reading_name(record["run"], study)
    path.parent.mkdir(exist_ok=True)
    pd.concat(tables).to_csv(path, index=False)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Not to be changed."""
    return make_up(tmp_path_factory.mktemp("made-up") / "study")


@pytest.fixture(scope="module")
def whole(made_up: StudyFolder) -> tuple[dict[str, Any], str]:
    results, written = write_report(made_up)
    return results, next(path for path in written if path.suffix == ".md").read_text()


@pytest.fixture
def copy(made_up: StudyFolder, tmp_path: Path) -> StudyFolder:
    return StudyFolder.open(shutil.copytree(made_up.root, tmp_path / "study"))


def drop(folder: StudyFolder, name: str, reason: str = "") -> None:
    """Take a cell away, or let it have failed."""
    (folder.root / "cells" / f"{name}.json").unlink()
    if reason:
        keep_error(folder.root, name, f"Traceback\n{reason}\n")


def spectrum(run: Run) -> Measured:
    return Measured({"top eigenvalue, plain": float(int(run.folder.name, 16) % 97)})


def test_a_run_that_cannot_be_measured_costs_no_other(copy: StudyFolder, tmp_path: Path) -> None:
    names = sorted(path.name for path in (copy.root / "runs").iterdir())
    faults = {names[1]: InputError("too few images"), names[2]: RuntimeError("out of memory\nmore of it")}
    asked = []

    def measure(run: Run) -> Measured:
        asked.append(run.folder.name)
        if run.folder.name in faults:
            raise faults[run.folder.name]
        if run.folder.name == names[3]:
            return Measured({"top eigenvalue, plain": float("nan")})
        return Measured(spectrum(run).values, ("top eigenvalue, plain",) if run.folder.name in names[4:6] else ())

    results, written = write_report(copy, measure=Measure("m", measure), out=tmp_path / "out")
    found = results["sharpness"]
    assert set(found["measures"]) == set(names) - set(names[1:4])
    assert found["missing"] == {
        names[1]: "too few images",
        names[2]: "out of memory",
        names[3]: "top eigenvalue, plain is not finite",
    }
    assert sorted(found["not_converged"]) == names[4:6]
    page = next(path for path in written if path.suffix == ".md").read_text()
    assert f"3 of {len(names)} runs could not be measured and are left out" in page
    assert f"of {len(names) - 3} runs: top eigenvalue, plain 2." in page
    assert "Top eigenvalue of the minima, times adam's" in page
    budgets = {"epochs": "equal epochs", "gradients": "equal gradient computations, to whole epochs"}
    ratios = {(one["optimizer"], one["budget"]): one for one in found["ratios"]}
    assert ratios["sam", "epochs"]["value"] != ratios["sam", "gradients"]["value"]
    for (optimizer, budget), one in ratios.items():
        limits = "" if one["low"] is None else f" ({one['low']:.3f} to {one['high']:.3f})"
        where = f"{optimizer}, {budgets[budget]} ({', '.join(one['hospitals'])})"
        assert f"| {where} | {one['value']:.3f}{limits} |" in page
    # What was measured is not measured again, and still known not to have converged; what was not is tried again.
    asked.clear()
    faults.clear()
    again, _ = write_report(copy, measure=Measure("m", measure), out=tmp_path / "out")
    assert sorted(asked) == names[1:4]
    assert sorted(again["sharpness"]["not_converged"]) == names[4:6]
    assert set(again["sharpness"]["missing"]) == {names[3]}


def test_eigenvalues_that_did_not_converge_are_in_no_correlation(copy: StudyFolder, tmp_path: Path) -> None:
    loose = sorted(path.name for path in (copy.root / "runs").iterdir())[:3]
    other = "gradient norm, plain"

    def measure(run: Run) -> Measured:
        name = run.folder.name
        values = {**spectrum(run).values, other: float(int(name, 16) % 89)}
        if name not in loose:
            return Measured(values)
        return Measured({**values, "top eigenvalue, plain": 1e6}, ("top eigenvalue, plain",))

    def without(run: Run) -> Measured:
        values = measure(run).values
        return Measured({key: value for key, value in values.items() if value < 1e6})

    found, _ = write_report(copy, measure=Measure("m", measure), out=tmp_path / "out")
    expected, _ = write_report(copy, measure=Measure("n", without), out=tmp_path / "other")
    assert found["sharpness"]["correlations"] == expected["sharpness"]["correlations"]
    assert found["sharpness"]["ratios"] == expected["sharpness"]["ratios"]
    assert found["sharpness"]["measures"][loose[0]]["top eigenvalue, plain"] == 1e6


def test_a_stop_while_sharpness_is_measured_leaves_a_report_and_what_was_measured(
    copy: StudyFolder, tmp_path: Path
) -> None:
    def stopping(run: Run) -> Measured:
        if len(list(copy.root.glob("sharpness/m/*.json"))) == 2:
            raise KeyboardInterrupt
        return spectrum(run)

    with pytest.raises(KeyboardInterrupt):
        write_report(copy, measure=Measure("m", stopping), out=tmp_path / "out")
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert "reason" in results["sharpness"]
    assert results["claims"][0]["difference"] is not None
    assert "before it was measured" in (tmp_path / "out/report.md").read_text()
    finished, _ = write_report(copy, measure=Measure("m", spectrum), out=tmp_path / "out")
    assert finished["sharpness"]["correlations"]


def test_a_cell_that_failed_withholds_the_claims_that_rest_on_it_alone(copy: StudyFolder, tmp_path: Path) -> None:
    drop(copy, "porto/cnn/sam/fold-1/epochs-seed-0", "RuntimeError: the card fell out")
    result = CliRunner().invoke(app, ["study", "report", str(copy.root), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "out/results.json").read_text())
    helps, inconsistent = results["claims"]
    assert helps["verdict"] == "withheld"
    assert helps["reason"] == "it lacks 1 of its 12 cells, 1 of which failed"
    assert inconsistent["verdict"] != "withheld"
    assert inconsistent["difference"] is not None
    assert results["cells"]["failed"] == {"porto/cnn/sam/fold-1/epochs-seed-0": "RuntimeError: the card fell out"}
    page = (tmp_path / "out/report.md").read_text()
    assert "1 cell of 36 failed" in page
    assert "porto/cnn/sam/fold-1/epochs-seed-0 (RuntimeError: the card fell out)" in page
    assert "INTERIM" not in page


def test_a_failed_cell_of_another_budget_withholds_nothing(copy: StudyFolder, tmp_path: Path) -> None:
    drop(copy, "porto/cnn/sam/fold-1/gradients-seed-0", "RuntimeError: no")
    results, _ = write_report(copy, out=tmp_path / "out")
    assert [claim["verdict"] == "withheld" for claim in results["claims"]] == [False, False]
    # Trials that all failed are an end of all cells of their chain.
    for path in (copy.root / "cells/north/cnn/asam/fold-2").iterdir():
        path.unlink()
    keep_error(copy.root, "north/cnn/asam/fold-2", "every trial diverged")
    results, _ = write_report(copy, out=tmp_path / "out")
    assert [claim["verdict"] == "withheld" for claim in results["claims"]] == [False, True]
    assert len(results["cells"]["failed"]) == 3


def test_what_is_withheld_shows_no_number(copy: StudyFolder, tmp_path: Path) -> None:
    drop(copy, "porto/cnn/sam/fold-1/epochs-seed-0")
    with pytest.raises(InputError, match="1 of 36 cells are not finished"):
        write_report(copy, out=tmp_path / "out")
    results, written = write_report(copy, interim=True, out=tmp_path / "out")
    withheld, other = results["claims"]
    assert withheld["verdict"] == "withheld"
    figures = set(other) - {"name", "says", "optimizer", "networks", "verdict", "reason"}
    assert {withheld[key] for key in figures} == {None}
    page = next(path for path in written if path.suffix == ".md").read_text()
    assert "INTERIM: 35 of 36 cells are finished" in page
    assert "| SAM helps | withheld | - | - | - |" in page
    assert "SAM helps: withheld, it lacks 1 of its 12 cells." in page


def test_claims_show_what_decides_them(whole: tuple[dict[str, Any], str]) -> None:
    results, page = whole
    helps, apart = results["claims"]
    row = next(line for line in page.splitlines() if line.startswith("| ASAM is inconsistent"))
    assert f"{apart['better_places']} better, {apart['worse_places']} worse of 4 places, each at 0.988" in row
    low, high = apart["smallest_seen"]
    assert f"| {low:.3f} to {high:.3f} |" in row
    row = next(line for line in page.splitlines() if line.startswith("| SAM helps"))
    assert f"| {helps['difference']['smallest_seen']:.3f} |" in row
    shares = helps["difference"]["probabilities"]
    assert " / ".join(f"{shares[side]:.2f}" for side in ("worse", "equivalent", "better")) in row


def test_lengths_say_how_unequal_equal_gradients_are(whole: tuple[dict[str, Any], str]) -> None:
    results, page = whole
    found = {(one["optimizer"], one["budget"]): one for one in results["lengths"] if one["hospital"] == "north"}
    # Of 3 epochs, half are 2: a third more than Adam has.
    assert (found["sam", "gradients"]["epochs"], found["sam", "gradients"]["passes"]) == (2, 4)
    assert found["sam", "gradients"]["of_reference"] == pytest.approx(4 / 3)
    assert "| sam, cnn, north | 3 | 6 | 2.00 | 2 | 4 | 1.33 |" in page
    assert "Results at equal gradient computations, to whole epochs" in page


def test_costs_are_medians_that_a_busy_hour_does_not_move(
    whole: tuple[dict[str, Any], str], made_up: StudyFolder
) -> None:
    results, page = whole
    rows = pd.DataFrame(results["runs"]).drop_duplicates("run")
    for one in results["costs"]:
        own = rows[(rows["hospital"] == one["hospital"]) & (rows["optimizer"] == one["optimizer"])]["seconds_an_epoch"]
        assert one["runs"] == len(own) == (3 if one["optimizer"] == "adam" else 6)
        assert one["seconds_an_epoch"] == own.median() < 10
        assert (one["low"], one["high"]) == (own.quantile(0.25), own.quantile(0.75))
    assert rows["seconds_an_epoch"].max() == 300
    assert "Wall time" in page
    assert "had a share of the machine" in page


def test_unknown_patients_are_told_and_not_called_patients(whole: tuple[dict[str, Any], str]) -> None:
    results, page = whole
    north, porto = results["resampled"]
    assert (porto["unit"], porto["images"], porto["clusters"], porto["known"]) == ("patients", 48, 24, 48)
    assert (north["unit"], north["clusters"], north["known"]) == ("patients or groups of near-duplicates", 47, 0)
    assert "The patient of no image (48) at north is known." in page
    assert "| north | images, or groups of near-duplicates, as patients are unknown | 48 | 0 | 47 |" in page
    assert "at porto is" not in page
    assert "for new patients" not in page


def test_sentences_that_must_stand_beneath_tables(whole: tuple[dict[str, Any], str], made_up: StudyFolder) -> None:
    results, page = whole
    assert page.count("at another hospital are conservative") == 4  # of each hospital, at each budget
    assert page.count("No verdict rests on this model") == 4
    runs = {one["run"]: one["git_commit"] for one in results["runs"]}
    counts = sorted(((list(runs.values()).count(commit), commit) for commit in COMMITS), reverse=True)
    assert min(counts)[0] > 0
    said = ", ".join(f"{commit} ({count} runs)" for count, commit in counts)
    assert f"Registered at commit {COMMITS[0]}; finished runs are of commits {said}." in page
    assert "Gómez-Flores" in (made_up.root / "report/report.tex").read_text()


def test_whether_gains_depend_on_the_start_is_told_where_networks_begin_differently(
    whole: tuple[dict[str, Any], str], tmp_path: Path
) -> None:
    assert "More from scratch" not in whole[1]
    network = {"name": "resnet10_w16"}
    networks = [
        {"name": "fresh", "kind": "cnn", "settings": {"network": network}},
        {"name": "tuned", "kind": "cnn", "settings": {"network": network | {"checkpoint": "weights.pt"}}},
    ]
    folder = make_up(tmp_path / "study", networks=networks)
    results, written = write_report(folder)
    page = next(path for path in written if path.suffix == ".md").read_text()
    for budget, title in (("epochs", "equal epochs"), ("gradients", "equal gradient computations, to whole epochs")):
        found = results["budgets"][budget]
        entries = found["starts"]
        assert "From scratch: fresh. Pretrained: tuned. They are the same networks" in page
        assert len(entries) == 8  # two optimizers, two hospitals, two parts
        own = {(one["network"], one["hospital"], one["part"], one["optimizer"]): one for one in found["comparisons"]}
        for one in entries:
            place = (one["hospital"], one["part"], one["optimizer"])
            fresh, tuned = own["fresh", *place], own["tuned", *place]
            assert one["scratch"]["value"] == pytest.approx(fresh["value"])
            assert one["pretrained"]["value"] == pytest.approx(tuned["value"])
            assert one["more"]["value"] == pytest.approx(fresh["value"] - tuned["value"])
            assert one["more"]["family"] == 8
            assert one["more"]["p_holm"] >= one["more"]["p"]
        assert max(one["more"]["p_holm"] - one["more"]["p"] for one in entries) > 0
        assert f"AUROC less that of adam, {title}, averaged over the networks that begin from random weights" in page
        first = entries[0]
        intervals = [
            f"{signed(one['value'])} ({signed(one['low'])} to {signed(one['high'])})"
            for one in (first["scratch"], first["pretrained"], first["more"])
        ]
        assert " | ".join([f"{first['optimizer']}, {first['hospital']}, {first['part']}", *intervals]) in page
