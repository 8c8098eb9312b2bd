"""`medsharp study` from its file to its report, as a user types it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.evaluation.report.blocks import Heading, Page, Table, Text
from medsharp.evaluation.report.markdown import as_markdown
from training.study.flatness import Measure, Measured, measure_runs
from training.study.folder import StudyFolder
from training.study.latex import as_latex, latex_text
from training.study.report import write_report

from .conftest import study_values

CLAIMS = [
    {"name": "SAM improves generalization", "says": "improves", "optimizer": "sam"},
    {"name": "SAM is inconsistent", "says": "inconsistent", "optimizer": "sam", "networks": ["cnn"]},
]


@pytest.fixture(scope="module")
def typed(hospitals: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A study that was run and reported; its file, its folder, and what was printed."""
    root = tmp_path_factory.mktemp("typed")
    values = study_values(
        ("nowhere",),
        question="Does it help?",
        base={"schedule": {"epochs": 1, "warmup_epochs": 0}},
        robustness={"corruptions": ["gain_down"], "severity": 2},
        budgets=["epochs", "gradients"],
        claims=CLAIMS,
    )
    file = root / "tiny.yaml"
    file.write_text(yaml.safe_dump(values))
    out = root / "study"
    printed = type_in("study", str(file), "--out", str(out), "--data", hospitals[0], "--data", hospitals[1])
    printed += type_in("study", "report", str(out))
    return file, out, printed


def type_in(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "300"})
    assert result.exit_code == code, result.output
    return result.output


def test_the_rule_is_printed_before_training_and_in_the_report(typed: tuple[Path, Path, str]) -> None:
    _, out, printed = typed
    digest = StudyFolder.open(out).study.digest()
    assert printed.count(digest) == 2
    assert digest in (out / "report/report.md").read_text()
    assert digest in (out / "report/report.html").read_text()
    assert "SAM improves generalization: " in printed


def test_status_counts_and_finds_the_folder_by_the_file(typed: tuple[Path, Path, str]) -> None:
    file, out, _ = typed
    for words in ((str(out),), (str(file), "--out", str(out))):
        text = type_in("study", "status", *words)
        assert "16 of 16 cells finished" in text
        assert "left 0 s" in text


def test_figures_of_the_report_are_those_of_the_predictions(typed: tuple[Path, Path, str]) -> None:
    _, out, _ = typed
    results = json.loads((out / "report/results.json").read_text())
    levels = results["budgets"]["epochs"]["levels"]
    records = [json.loads(path.read_text()) for path in (out / "cells/porto/cnn/sam").rglob("epochs-*.json")]
    areas: dict[str, list[float]] = {"internal": [], "external north": []}
    for record in records:
        table = pd.read_csv(next((out / "readings").glob(f"{record['run']}*.csv")))
        for part, found in areas.items():
            rows = table[table["part"] == part]
            found.append(roc_auc_score(rows["label"] == "malignant", rows["p_malignant"]))
        sealed = pd.read_csv(out / "sealed/porto" / f"fold-{record['fold']}" / "manifest.csv")
        assert set(table.loc[table["part"] == "internal", "image"]) == set(sealed["image"])
        assert set(table.loc[table["part"] == "external north", "site"]) == {"North"}
    for part, found in areas.items():
        [entry] = [one for one in levels if (one["hospital"], one["optimizer"], one["part"]) == ("porto", "sam", part)]
        assert entry["value"] == pytest.approx(np.mean(found))
        assert entry["low"] <= entry["value"] <= entry["high"]
    compared = pd.read_csv(out / "report/comparisons.csv")
    assert len(compared) == 2 * 2 * 2
    assert (compared["family"] == 4).all()
    assert (compared["p_holm"].fillna(1) >= compared["p"].fillna(0) - 1e-9).all()
    assert set(results["costs"][0]) >= {"seconds_an_epoch", "images_a_second"}
    assert {one["part"] for one in results["budgets"]["epochs"]["robustness"]} == {"corrupted gain_down"}


def test_runs_too_short_to_be_timed_are_reported(typed: tuple[Path, Path, str], tmp_path: Path) -> None:
    out = tmp_path / "study"
    shutil.copytree(typed[1], out)
    for path in (out / "cells").rglob("*-seed-*.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"seconds": 0.0, "seconds_an_epoch": 0.0}))
    type_in("study", "report", str(out))
    page = (out / "report/report.md").read_text()
    rows = re.findall(
        r"^\|[^|]*\| 2 \| 0\.0 \| 0\.0 to 0\.0 \| (\S+) \|$", page[page.index("Seconds an epoch") :], re.MULTILINE
    )
    assert rows == ["-"] * 4
    assert "left 0 s" in type_in("study", "status", str(out))


def test_what_is_tested_is_predicted_once(typed: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    import training.study.reading as reading_module

    _, out, _ = typed
    first = json.loads((out / "readings/opened.json").read_text())
    assert first["finished_cells"] == 16

    def refuse(*arguments: Any) -> None:
        raise AssertionError("read a second time")

    monkeypatch.setattr(reading_module, "_predict", refuse)
    monkeypatch.setattr(reading_module, "unseal", refuse)
    write_report(StudyFolder.open(out), out=out / "again")
    one, two = (json.loads((out / name / "results.json").read_text()) for name in ("report", "again"))
    assert one | {"created": ""} == two | {"created": ""}


def test_sharpness_is_measured_once_a_run_and_correlated(typed: tuple[Path, Path, str]) -> None:
    _, out, _ = typed
    calls = []

    def measure(run: Any) -> Measured:
        calls.append(run.folder.name)
        return Measured({"top eigenvalue": float(int(run.folder.name, 16) % 97)})

    for _ in range(2):
        results, _ = write_report(StudyFolder.open(out), out=out / "sharp", measure=Measure("made-up", measure))
    assert len(calls) == len(set(calls)) == 8  # of one epoch, half the epochs are one, and the same run
    assert {one["scope"] for one in results["sharpness"]["correlations"]} == {
        "overall",
        "within networks and hospitals",
        "within networks, hospitals and budgets",
    }
    assert "top eigenvalue, overall" in (out / "sharp/report.md").read_text()


def test_sharpness_is_that_of_the_command_of_that_name(typed: tuple[Path, Path, str], tmp_path: Path) -> None:
    from training.study.sharpness import measure_with

    _, out, _ = typed
    folder = StudyFolder.open(out)
    record = json.loads((out / "cells/porto/cnn/sam/fold-1/epochs-seed-0.json").read_text())
    rows = pd.DataFrame([{key: record[key] for key in ("hospital", "fold", "run")}])
    measured, missing = measure_runs(folder, rows, measure_with(8))
    assert not missing
    found = measured[record["run"]].values
    words = ("--split", "train", "--images", "8", "--eigenvalues", "1", "--tolerance", "0.05", "--max-products", "10")
    rest = ("--draws", "0", "--density", "0", "--steps", "0", "--out", str(tmp_path), "--device", "cpu")
    type_in("sharpness", str(out / "runs" / record["run"]), *words, *rest)
    measures = json.loads((tmp_path / "sharpness.json").read_text())["runs"][0]["splits"][0]["measures"]
    assert found["top eigenvalue, adaptive"] == pytest.approx(
        measures["eigenvalues"]["adaptive"]["largest"][0]["value"]
    )
    assert found["gradient norm, plain"] == pytest.approx(measures["gradient_norm"]["plain"])
    ends = {name: each["largest"][0]["converged"] for name, each in measures["eigenvalues"].items()}
    loose = tuple(f"top eigenvalue, {name}" for name, converged in ends.items() if not converged)
    assert measured[record["run"]].not_converged == loose
    assert found["surrogate gap, l2"] == pytest.approx(measures["surrogate_gap"]["l2"]["value"])


def test_an_unfinished_study_is_reported_as_interim_without_verdicts(
    typed: tuple[Path, Path, str], tmp_path: Path
) -> None:
    import shutil

    _, out, _ = typed
    copy = Path(shutil.copytree(out, tmp_path / "study"))
    next((copy / "cells/north/cnn/sam/fold-1").glob("epochs-*.json")).unlink()
    assert "1 of 16 cells are not finished" in type_in("study", "report", str(copy), code=2)
    text = type_in("study", "report", str(copy), "--interim", "--out", str(tmp_path / "report"))
    assert "SAM improves generalization: withheld" in text
    assert "INTERIM: 15 of 16 cells" in (tmp_path / "report/report.md").read_text()


def test_wrong_words_end_in_a_sentence(typed: tuple[Path, Path, str], tmp_path: Path) -> None:
    file, out, _ = typed
    assert "is not the folder of a study" in type_in("study", "status", str(tmp_path), code=2)
    assert "cannot read" in type_in("study", str(tmp_path / "none.yaml"), code=2)
    assert "is of another study" in type_in("study", str(_changed(file, tmp_path)), "--out", str(out), code=2)


def _changed(file: Path, folder: Path) -> Path:
    values = yaml.safe_load(file.read_text())
    values["rule"] = {"equivalence": 0.03}
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_latex_is_balanced_and_every_row_has_its_columns(typed: tuple[Path, Path, str]) -> None:
    _, out, _ = typed
    text = (out / "report/report.tex").read_text()
    open_environments: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert not open_environments
    for columns, body in re.findall(r"\\begin\{longtable\}\{(\w+)\}(.*?)\\end\{longtable\}", text, re.DOTALL):
        rows = [line for line in body.splitlines() if line.endswith(r" \\")]
        assert len(rows) > 1
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(columns) - 1}
    bare = re.sub(r"\\[&%$#_{}]|\$[^$]*\$", "", text)
    assert not re.search(r"[%#_^~]", bare)
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")


def test_text_of_any_signs_is_escaped_in_every_format() -> None:
    blocks = [Heading("a & b"), Text("50 % of $x_1$"), Table("c|d", ["k|l", "n"], [["<&>", "1"]])]
    page = Page("t_1", blocks)
    latex = as_latex(page)
    assert r"a \& b" in latex
    assert r"50 \% of \$x\_1\$" in latex
    assert latex_text("Gómez-Flores, Łódź, Straße") == "Gómez-Flores, Łódź, Straße"
    assert latex_text("Go\N{COMBINING ACUTE ACCENT}mez") == "Gómez"
    assert latex_text("Nguyễn 漢 1\u202f000 \u2013 ≥") == r"Nguyen ? 1\,000 -- $\geq$"
    assert latex_text("\\ ~^") == r"\textbackslash{} \textasciitilde{}\textasciicircum{}"
    assert "| k\\|l | n |" in as_markdown(page)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="LaTeX is not installed")
def test_latex_compiles_and_no_line_is_too_wide(tmp_path: Path) -> None:
    header = [
        "Optimizer, network, hospital",
        *(f"{name} (equal epochs)" for name in ("Epochs", "Passes", "Of adam's") * 2),
    ]
    rows = [["looksam, lite0, busbra", *["0.123 (\N{MINUS SIGN}0.456 to +0.789)"] * 3, "-", "1", "5 %"]] * 90
    page = Page(
        "t_1 ~ 50 %",
        [
            Heading("a & b #1 {c} \\ ^"),
            Text(" ".join(chr(code) for code in range(0x180)) + " \N{GREATER-THAN OR EQUAL TO} 漢"),
            Text("commits " + ", ".join(["0123456789" * 4 + " (71 runs)"] * 9)),
            Table("Wide | and long", header, rows),
        ],
    )
    (tmp_path / "report.tex").write_text(as_latex(page), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=120)
    log = (tmp_path / "report.log").read_text(encoding="latin-1")
    assert made.returncode == 0, log[-2000:]
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert "Overfull" not in log
    assert "Missing character" not in log
