"""`medsharp evaluate`: the internal images of a bundle and three hospitals, and what changes between them.

What it is for; these fail it: a change is internal minus external, in its value, its resamples or its two intervals;
the bundle's threshold does not reach its internal images; they are pooled with the hospitals; prediction sets are
fixed on the internal test images; what was excluded, or who was submitted, is not counted; the gain of net benefit
forgets treating everyone; a data set stands in the column of another; a row of the CSV has the change of another
hospital.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from brute_force import Images, Replicated, about, auroc, decided, recalibrated, replicated
from cohort import images_of
from reading import change_of, document_of, equal_figure, equal_value, near_limits, rows_of, run

from medsharp.data.phantom import write_phantom

BUNDLE = Path(__file__).parents[3] / "models" / "busi-resnet18"
PREVALENCE = 0.15
HOSPITALS = {"A": 34, "B": 30, "C": 26}
COMPARED = ("auroc", "sensitivity", "specificity")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle on three simulated hospitals; of one some images are left out, and one cannot be read."""
    folder = tmp_path_factory.mktemp("evaluated")
    data: list[str | Path] = []
    for seed, (name, patients) in enumerate(HOSPITALS.items()):
        write_phantom(folder / name, hospital=name, patients=patients, seed=seed, size=96)
        data += ["--data", folder / name]
    file = folder / "A" / "manifest.csv"
    manifest = pd.read_csv(file, keep_default_na=False)
    manifest.loc[[3, 7, 8], "exclude"] = "Doppler"
    manifest.to_csv(file, index=False)
    (folder / "A" / manifest["image"][5]).write_bytes(b"no picture")
    run("evaluate", BUNDLE, *data, "--prevalence", PREVALENCE, "--format", "json,csv,md", "--out", folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def document(out: Path) -> dict[str, Any]:
    return document_of(out)


@pytest.fixture(scope="module")
def tables(out: Path, document: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """The predictions of each data set: the bundle's own, and those that the command wrote."""
    internal, *external = document["datasets"]
    files = {internal["name"]: BUNDLE / "internal.csv"}
    for entry in external:
        files[entry["name"]] = out / f"predictions-{entry['name'].replace(' ', '-')}.csv"
    tables = {name: pd.read_csv(file, keep_default_na=False, dtype=str) for name, file in files.items()}
    return {name: _numbers(table) for name, table in tables.items()}


def _numbers(table: pd.DataFrame) -> pd.DataFrame:
    # A refused or failed image has no number.
    table = table[(table["p_malignant"] != "")].reset_index(drop=True)
    return table.assign(**{name: table[name].astype(float) for name in ("p_benign", "p_malignant")})


@pytest.fixture(scope="module")
def images(tables: dict[str, pd.DataFrame]) -> dict[str, Images]:
    spec = yaml.safe_load((BUNDLE / "bundle.yaml").read_text(encoding="utf-8"))
    return {name: images_of(table, spec["operating_point"]["threshold"]) for name, table in tables.items()}


@pytest.fixture(scope="module")
def found(images: dict[str, Images]) -> dict[str, dict[str, Replicated]]:
    """Figures of each data set, resampled on its own."""

    def measured(part: Images, seed: int) -> dict[str, Replicated]:
        def statistic(w: np.ndarray) -> dict[str, np.ndarray]:
            areas = {"auroc": auroc(part.y, part.p, w), "brier": w @ (part.p - part.y) ** 2 / w.sum(axis=1)}
            slope = recalibrated(part.y, part.p, w)[2]
            return areas | {"calibration_slope": slope} | decided(part, w, PREVALENCE)

        return replicated(part, statistic, seed=seed)

    return {name: measured(part, seed) for seed, (name, part) in enumerate(images.items())}


def test_each_data_set_has_its_role_its_images_and_their_figures(
    document: dict[str, Any], images: dict[str, Images], found: dict[str, dict[str, Replicated]]
) -> None:
    assert [entry["role"] for entry in document["datasets"]] == ["internal", "external", "external", "external"]
    looked_at = 0
    for entry in document["datasets"]:
        part = images[entry["name"]]
        assert entry["threshold"] == pytest.approx(part.threshold, abs=1e-15)
        assert entry["counts"]["images"] == len(part.y)
        assert entry["counts"]["positives"] == part.y.sum()
        assert entry["counts"]["clusters"] == part.patients()
        for name, expected in found[entry["name"]].items():
            figure = entry["figures"][name]
            equal_value(figure, expected.value, f"{entry['name']} {name}")
            if figure["low"] is not None and expected.replicates.std() > 0:
                looked_at += 1
                equal_figure(figure, expected, part, about(part).get(name), f"{entry['name']} {name}")
    assert looked_at > 40


def test_flow_counts_what_was_left_out_and_why(document: dict[str, Any], tables: dict[str, pd.DataFrame]) -> None:
    (entry,) = [entry for entry in document["datasets"] if entry["name"].endswith("A")]
    counts = entry["counts"]
    assert counts["excluded"]["Doppler"] == 3
    left_out = sum(counts["excluded"].values()) + counts["failed"]
    assert left_out == 4
    assert counts["submitted"] == counts["images"] + left_out + counts["refused"]
    assert counts["submitted_patients"] == HOSPITALS["A"]
    assert counts["images"] == len(tables[entry["name"]])


def test_change_is_external_minus_internal_of_independent_patients(
    document: dict[str, Any], found: dict[str, dict[str, Replicated]]
) -> None:
    internal, *external = document["datasets"]
    before = found[internal["name"]]
    methods = set()
    for entry in external:
        after = found[entry["name"]]
        for name in COMPARED:
            figure = change_of(document, entry["name"], name)
            equal_value(figure, after[name].value - before[name].value, f"{entry['name']} {name}")
            methods.add(figure["method"].split(",")[0])
            if figure["method"].startswith("MOVER"):
                here, there = entry["figures"][name], internal["figures"][name]
                value = here["value"] - there["value"]
                low = value - math.hypot(here["value"] - here["low"], there["high"] - there["value"])
                high = value + math.hypot(here["high"] - here["value"], there["value"] - there["low"])
                assert (figure["low"], figure["high"]) == pytest.approx((low, high))
            else:
                change = after[name].replicates - before[name].replicates
                near_limits(figure, change, f"{entry['name']} {name}")
    assert len(methods) > 1, "a data set with a share of 1 is among them"


def test_tables_say_the_change_with_its_sign(out: Path, document: dict[str, Any]) -> None:
    # Rows with `by` are of groups, and of images that were refused.
    rows = {(row["dataset"], row["figure"]): row for row in rows_of(out) if row["by"] == ""}
    text = (out / "report.md").read_text(encoding="utf-8")
    for entry in document["datasets"][1:]:
        for name in COMPARED:
            change = change_of(document, entry["name"], name)
            row = rows[entry["name"], f"change_{name}"]
            read = [float(row[key]) for key in ("value", "low", "high")]
            assert read == pytest.approx([change["value"], change["low"], change["high"]])
            scale, digits = (1, 3) if name == "auroc" else (100, 1)
            said = f"{change['value'] * scale:.{digits}f}".replace("-", "\N{MINUS SIGN}")
            cells = [line for line in text.splitlines() if "external minus internal" in line and said in line]
            assert cells, (entry["name"], name, said)


def tables_of(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown page: rows of cells without marks."""
    tables: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            cells = [cell.strip().strip("*") for cell in line.replace("\\", "").strip("|").split("|")]
            tables[-1].append([cell.replace("\u00a0", " ").replace("\N{MINUS SIGN}", "-") for cell in cells])
        elif tables[-1]:
            tables.append([])
    return [table for table in tables if table]


def test_the_report_has_each_data_set_in_its_own_column(out: Path, document: dict[str, Any]) -> None:
    tables = tables_of((out / "report.md").read_text(encoding="utf-8"))
    names = [entry["name"] for entry in document["datasets"]]
    (table,) = [t for t in tables if all(any(cell.startswith(name) for cell in t[0]) for name in names)]
    rows = {row[0]: row for row in table}
    for entry in document["datasets"]:
        (column,) = [place for place, cell in enumerate(table[0]) if cell.startswith(entry["name"])]
        assert rows["Images"][column] == str(entry["counts"]["images"])
        for label, key, digits, scale in (
            ("AUROC", "auroc", 3, 1), ("Sensitivity", "sensitivity", 1, 100), ("Specificity", "specificity", 1, 100),
            ("PPV", "ppv", 1, 100), ("NPV", "npv", 1, 100), ("Brier score", "brier", 3, 1),
            ("Calibration slope", "calibration_slope", 2, 1),
        ):  # fmt: skip
            value, low, high = (
                f"{entry['figures'][key][part] * scale:.{digits}f}" for part in ("value", "low", "high")
            )
            assert rows[label][column].replace(" %", "") == f"{value} [{low} to {high}]", (entry["name"], key)


def test_prediction_sets_are_fixed_on_the_validation_images_of_the_bundle(
    document: dict[str, Any], tables: dict[str, pd.DataFrame]
) -> None:
    validation = pd.read_csv(BUNDLE / "validation.csv")
    missed = np.sort([1 - row[f"p_{row['label']}"] for _, row in validation.iterrows()])
    limit = missed[math.ceil((len(missed) + 1) * 0.9 - 1e-9) - 1]
    for entry in document["datasets"]:
        part, table = entry["conformal"]["marginal"], tables[entry["name"]]
        assert part["quantiles"]["malignant"] == pytest.approx(limit)
        covered = [1 - row[f"p_{row['label']}"] <= limit for _, row in table.iterrows()]
        assert part["coverage"]["value"] == pytest.approx(np.mean(covered))


def test_the_summary_is_over_external_hospitals_alone(document: dict[str, Any]) -> None:
    external = document["datasets"][1:]
    assert [site["name"] for site in document["site_summary"]["sites"]] == [entry["name"] for entry in external]
    for site, entry in zip(document["site_summary"]["sites"], external, strict=True):
        assert site["images"] == entry["counts"]["images"]
    for name in ("auroc", "sensitivity", "specificity", "brier"):
        rows = document["site_summary"]["figures"][name]["sites"]
        for row, entry in zip(rows, external, strict=True):
            assert (row["name"], row["value"]) == (entry["name"], entry["figures"][name]["value"])
