"""`medsharp score --stream`: the files, sentences and refusals of `score`, for tables read in passes.

Mutants that must die: a piece checked as if it were the whole, row numbers counted from each part, thresholds of pieces
not compared, an image that stands in two pieces, half a report after a failure.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import refused, run

from medsharp.evaluation.streamed import reading

pytest.importorskip("pyarrow")


def table(images: int = 300, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    who = rng.integers(images // 3, size=images)
    labels = rng.random(images) < np.where(who % 4 == 0, 0.6, 0.25)
    scores = np.round(1 / (1 + np.exp(-(1.8 * labels - 1.2 + rng.normal(size=images)))), 3).clip(0.001, 0.999)
    return pd.DataFrame(
        {
            "image": [f"{n}.png" for n in range(images)],
            "patient": [f"P{n}" for n in who],
            "site": np.where(who % 3 == 0, "north", "south"),
            "label": np.where(labels, "malignant", "benign"),
            "p_benign": np.round(1 - scores, 3),
            "p_malignant": scores,
            "status": "answered",
            "threshold": 0.35,
        }
    )


def in_parts(rows: pd.DataFrame, folder: Path, size: int = 70) -> Path:
    folder.mkdir()
    for number, first in enumerate(range(0, len(rows), size)):
        rows.iloc[first : first + size].to_parquet(folder / f"part-{number:05d}.parquet", index=False)
    return folder


def sentence(path: Path, tmp_path: Path, *words: str, options: tuple[str, ...] = ()) -> str:
    """One sentence, no report and no temporary file."""
    before = sorted(os.listdir(tmp_path))
    said = refused(run("score", path, "--stream", "--out", tmp_path / "out", *options), *words)
    assert sorted(os.listdir(tmp_path)) == before
    return said


def test_the_same_files_and_fields_as_without_it(tmp_path: Path) -> None:
    path = in_parts(table(), tmp_path / "a.parquet")
    both = {}
    for name, more in (("whole", ()), ("stream", ("--stream",))):
        out = tmp_path / name
        options = ("--out", out, "--format", "html,md,json,csv", "--prevalence", "0.1")
        result = run("score", path, *options, *more)
        assert result.exit_code == 0, result.output
        assert sorted(os.listdir(out)) == ["evaluation.json", "figures.csv", "report.html", "report.md"]
        assert "At threshold 0.3500, column threshold of a.parquet" in result.output
        both[name] = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    whole, stream = (document["datasets"][0] for document in (both["whole"], both["stream"]))
    assert set(both["whole"]) == set(both["stream"])
    assert set(whole) - {"by_patient", "by_lesion", "lesion"} <= set(stream) | {"by_patient", "by_lesion"}
    for key, figure in stream["figures"].items():
        assert figure["value"] == pytest.approx(whole["figures"][key]["value"], rel=1e-12, abs=1e-12), key
    page = (tmp_path / "stream" / "report.html").read_text(encoding="utf-8")
    assert "Read in passes: no figures by subgroup" in page
    assert "Poisson bootstrap of patients with all their images" in page
    assert "calibration curve with its 95 % band" in page
    assert (tmp_path / "stream" / "figures.csv").read_text(encoding="utf-8").count("\n") > 20
    assert sorted(os.listdir(tmp_path)) == ["a.parquet", "stream", "whole"]


def test_without_out_the_figures_are_printed_alone(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "a.csv", index=False)
    result = run("score", tmp_path / "a.csv", "--stream", "--resamples", "200")
    assert result.exit_code == 0, result.output
    assert "AUROC" in result.output
    assert os.listdir(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("label", "benin"),
        ("label", ""),
        ("p_malignant", 1.7),
        ("p_malignant", np.nan),
        ("image", ""),
        ("image", "7.png"),
        ("threshold", 2.0),
        ("threshold", np.nan),
    ],
)
def test_a_wrong_row_has_the_sentence_of_a_table_in_memory(
    tmp_path: Path, kind: str, column: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = table()
    rows.loc[211, column] = value
    path = tmp_path / f"a.{kind}"
    rows.to_csv(path, index=False) if kind == "csv" else in_parts(rows, path)
    whole = refused(run("score", path))
    small(monkeypatch)
    assert sentence(path, tmp_path) == whole
    assert "row 213" in whole


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read pieces of 40 rows, and hold 64 numbers at once."""
    from medsharp.evaluation import streamed

    whole = streamed.evaluate_streamed
    monkeypatch.setattr(streamed, "evaluate_streamed", lambda path, **given: whole(path, rows=64, piece=40, **given))


def test_pieces_of_which_every_row_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = table()
    rows.loc[70:180, "status"] = "refused"
    rows.loc[70:180, ["p_benign", "p_malignant", "threshold"]] = np.nan
    path = in_parts(rows, tmp_path / "a.parquet", 40)
    small(monkeypatch)
    result = run("score", path, "--stream", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    counts = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))["datasets"][0]["counts"]
    assert (counts["refused"], counts["images"]) == (111, 189)
    assert "111 more were refused by the input checks" in " ".join(result.output.split())


def test_thresholds_that_differ_between_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    rows = table()
    rows.loc[250:, "threshold"] = 0.4
    path = in_parts(rows, tmp_path / "a.parquet")
    sentence(path, tmp_path, "has rows of several thresholds, 0.35 and 0.4 among them", "--threshold")
    assert run("score", path, "--stream", "--threshold", "0.37").exit_code == 0
    rows["threshold"] = np.where(np.arange(300) < 160, 0.35, np.nan)
    rows.to_csv(tmp_path / "b.csv", index=False)  # in the midst of a piece
    sentence(tmp_path / "b.csv", tmp_path, "row 162: the threshold is missing")
    apart = in_parts(rows, tmp_path / "b.parquet", 40)  # between two
    sentence(apart, tmp_path, "row 162: the threshold is missing")
    rows.drop(columns="threshold").to_csv(tmp_path / "c.csv", index=False)
    sentence(tmp_path / "c.csv", tmp_path, "has no column threshold with numbers and no bundle lies beside it")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    rows = table()
    rows.iloc[:0].to_csv(tmp_path / "header.csv", index=False)
    sentence(tmp_path / "header.csv", tmp_path, "header.csv has no rows")
    (tmp_path / "empty.csv").write_text("")
    sentence(tmp_path / "empty.csv", tmp_path, "is empty; it needs a header")
    rows.iloc[:0].to_parquet(tmp_path / "none.parquet")
    sentence(tmp_path / "none.parquet", tmp_path, "none.parquet has no rows")
    sentence(tmp_path / "absent.csv", tmp_path, "cannot read", "absent.csv")
    rows.assign(label="benign").to_csv(tmp_path / "one.csv", index=False)
    sentence(tmp_path / "one.csv", tmp_path, "has images of one class only (benign)")
    rows.assign(status="refused").to_csv(tmp_path / "refused.csv", index=False)
    sentence(tmp_path / "refused.csv", tmp_path, "has no answered image", "300 are refused")
    rows.to_excel(tmp_path / "a.xlsx", index=False)
    sentence(tmp_path / "a.xlsx", tmp_path, "is a workbook, which cannot be read in pieces")
    (tmp_path / "latin.csv").write_bytes(rows.assign(site="Köln").to_csv(index=False).encode("cp1252"))
    sentence(tmp_path / "latin.csv", tmp_path, "is not text in UTF-8")
    text = rows.to_csv(index=False).replace("P5,", 'P"5,', 1).replace("7.png,", '"7.png,', 1)
    (tmp_path / "quote.csv").write_text(text)
    sentence(tmp_path / "quote.csv", tmp_path, "check its quotation marks")


def test_parts_that_are_damaged_or_of_another_table(tmp_path: Path) -> None:
    path = in_parts(table(), tmp_path / "a.parquet")
    part = path / "part-00002.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[: len(whole) // 2])
    sentence(path, tmp_path, "a.parquet is not a folder of Parquet files of one table that can be read", "part-00002")
    table().iloc[140:210].drop(columns=["p_benign", "p_malignant"]).to_parquet(part, index=False)
    sentence(path, tmp_path, "row 142: 140.png has a probability that is missing or not finite")
    table().iloc[140:210].assign(p_malignant="high").to_parquet(part, index=False)
    sentence(path, tmp_path, "a.parquet")


@pytest.mark.parametrize("options", [("--by", "site"), ("--interval", "bca"), ("--calibration", "b.csv")])
def test_what_it_does_not_take(tmp_path: Path, options: tuple[str, str]) -> None:
    table().to_csv(tmp_path / "a.csv", index=False)
    sentence(tmp_path / "a.csv", tmp_path, "--stream reads rows in passes, and takes none of --by", options=options)


def test_a_row_for_each_reader_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    rows = pd.concat([table().assign(reader=name, birads=4) for name in ("A", "B")])
    rows.to_csv(tmp_path / "a.csv", index=False)
    said = sentence(tmp_path / "a.csv", tmp_path, "row 302: 0.png stands twice (300 such rows)")
    assert said.endswith("a table with a row for each reader is read without --stream")


def test_rows_that_are_blank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    rows = table().astype(object)
    rows.loc[[90, 91], :] = None
    path = in_parts(rows, tmp_path / "a.parquet", 80)
    whole, stream = (run("score", path, "--resamples", "100", *more) for more in ((), ("--stream",)))
    assert (whole.exit_code, stream.exit_code) == (0, 0), stream.output
    other = in_parts(rows.assign(centre="C"), tmp_path / "b.parquet", 80)  # a column that is not read
    said = refused(run("score", other), "row 92: has no label", "(2 such rows)")
    assert sentence(other, tmp_path) == said


def test_out_that_is_a_file_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    said = refused(run("score", tmp_path / "absent.csv", "--stream", "--out", tmp_path / "out"), "is a file")
    assert "absent" not in said
    assert (tmp_path / "out").read_text() == "mine"


def test_an_earlier_report_stays_when_a_later_one_fails(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "a.csv", index=False)
    assert run("score", tmp_path / "a.csv", "--stream", "--out", tmp_path / "out").exit_code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    rows = table()
    rows.loc[299, "label"] = "x"
    rows.to_csv(tmp_path / "a.csv", index=False)
    refused(run("score", tmp_path / "a.csv", "--stream", "--out", tmp_path / "out"), "row 301", "label 'x'")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_names_are_counted_in_one_spelling_and_not_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    rows = table()
    rows.loc[:20, "site"] = rows.loc[:20, "site"].str.upper()
    rows["device"] = [f"d{n % 90}" for n in range(300)]
    path = in_parts(rows, tmp_path / "a.parquet")
    for name, more in (("whole", ()), ("stream", ("--stream",))):
        assert run("score", path, "--out", tmp_path / name, *more).exit_code == 0
    by = [
        json.loads((tmp_path / name / "evaluation.json").read_text(encoding="utf-8"))["datasets"][0]["counts"]["by"]
        for name in ("whole", "stream")
    ]
    assert by[0] == by[1]
    monkeypatch.setattr(reading, "MOST_NAMES", 50)
    assert run("score", path, "--out", tmp_path / "few", "--stream").exit_code == 0
    entry = json.loads((tmp_path / "few" / "evaluation.json").read_text(encoding="utf-8"))["datasets"][0]
    assert set(entry["counts"]["by"]) == {"site"}
    assert any("column device" in note for note in entry["notes"])


def test_decimal_commas_and_points_in_one_column_are_refused_whichever_pieces_they_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    rows = table()[["image", "patient", "label"]]
    numbers = np.random.default_rng(0).integers(1, 900, len(rows))
    for comma, point in ((252, 7), (7, 252)):
        rows["score"] = [str(number) for number in numbers]
        rows.loc[comma, "score"], rows.loc[point, "score"] = "1,234", "850.5"
        path = tmp_path / f"{comma}.csv"
        rows.to_csv(path, index=False)
        for more in ((), ("--stream",)):
            words = (f"row {comma + 2}: score is '1,234', not a number",)
            refused(run("score", path, "--threshold", "300", *more), *words)
    rows["score"] = [f"{number},5" if number % 3 else str(number) for number in numbers]
    rows["Probability"] = "1.5 or 2,5"  # what is no answer may say what it likes
    rows.to_csv(tmp_path / "commas.csv", index=False)
    for more in ((), ("--stream",)):
        result = run("score", tmp_path / "commas.csv", "--score", "score", "--threshold", "300", *more)
        assert result.exit_code == 0, result.output


def test_columns_that_only_some_parts_have_are_of_the_table(tmp_path: Path) -> None:
    rows = table()
    rows["exclude"] = [None] * 200 + ["doppler"] * 100
    folder = tmp_path / "a.parquet"
    folder.mkdir()
    rows.iloc[:100].drop(columns="exclude").to_parquet(folder / "part-0.parquet", index=False)
    rows.iloc[100:200].to_parquet(folder / "part-1.parquet", index=False)  # a column of nothing
    rows.iloc[200:].to_parquet(folder / "part-2.parquet", index=False)
    for name, more in (("whole", ()), ("stream", ("--stream",))):
        result = run("score", folder, "--out", tmp_path / name, *more)
        assert result.exit_code == 0, result.output
        counts = json.loads((tmp_path / name / "evaluation.json").read_text(encoding="utf-8"))["datasets"][0]["counts"]
        assert counts["images"] == 200
        assert counts["excluded"] == {"doppler": 100}


def test_options_reach_the_figures(tmp_path: Path) -> None:
    rows = table()
    rows["rank"] = np.random.default_rng(3).permutation(300)
    path = in_parts(rows, tmp_path / "a.parquet")

    def scored(name: str, *options: str) -> dict[str, Any]:
        found = []
        for more in ((), ("--stream",)):
            result = run("score", path, "--out", tmp_path / f"{name}{len(more)}", *options, *more)
            assert result.exit_code == 0, result.output
            found.append(json.loads((tmp_path / f"{name}{len(more)}/evaluation.json").read_text(encoding="utf-8")))
        whole, stream = found
        for key in ("positive", "scale", "stated_prevalence"):
            assert whole["datasets"][0].get(key) == stream["datasets"][0].get(key), key
        ours, theirs = stream["datasets"][0]["figures"], whole["datasets"][0]["figures"]
        for key, figure in ours.items():
            if figure["value"] is not None:
                assert figure["value"] == pytest.approx(theirs[key]["value"], abs=1e-6), key
        return dict(stream)

    usual = scored("usual")
    benign = scored("benign", "--positive", "benign", "--threshold", "0.6")
    assert benign["datasets"][0]["figures"]["sensitivity"] != usual["datasets"][0]["figures"]["sensitivity"]
    rare = scored("rare", "--prevalence", "0.04")["datasets"][0]["figures"]
    assert set(rare) > set(usual["datasets"][0]["figures"])
    ranked = scored("ranked", "--score", "rank", "--threshold", "150")["datasets"][0]["figures"]
    assert ranked["auroc"]["value"] != usual["datasets"][0]["figures"]["auroc"]["value"]
    limits = {}
    for name, options in (("few", ("--resamples", "300")), ("seed", ("--resamples", "300", "--seed", "5"))):
        document = scored(name, *options)
        assert document["datasets"][0]["intervals"]["resamples"] == 300
        assert document["datasets"][0]["intervals"]["seed"] == (5 if name == "seed" else 0)
        limits[name] = document["datasets"][0]["figures"]["brier"]["low"]
    assert limits["few"] != limits["seed"]
