"""What is written: page, figures, table, contact sheet."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medsharp.robustness import example_image, measure_robustness, strip, write_robustness
from medsharp.robustness.corruptions import find_corruptions
from medsharp.robustness.panels import limits_of, panel

CHOSEN = find_corruptions(["medmnist-c", "calipers"])


@pytest.fixture
def written(hospital: Path, second_hospital: Path, tmp_path: Path, toy: Callable[..., Any]) -> Path:
    models = [toy(name="one <b>bold</b>"), toy("annotations", "two")]
    data = [hospital, second_hospital]
    content, _ = measure_robustness(models, data, CHOSEN, tmp_path / "out", resamples=100)
    write_robustness(tmp_path / "out", content, CHOSEN, example_image())
    return tmp_path / "out"


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_self_contained_and_says_what_it_is(written: Path) -> None:
    page = (written / "robustness.html").read_text(encoding="utf-8")
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert len(tags.ids) == len(set(tags.ids))
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert not re.search(r"url\((?!#)", page)
    assert "Not for diagnostic use" in page
    assert "Simulated images" in page
    assert "one <b>bold" not in page
    assert "one &lt;b&gt;bold" in page
    assert "rBE is unstable" in page
    for corruption in CHOSEN:
        assert f'id="c-{corruption.name}"' in page
    assert not re.search(r"\bnan\b", re.sub(r"data:[^\"]*", "", page))


@pytest.mark.parametrize("resamples", [100, 1000])
def test_the_page_says_how_its_limits_were_made(
    hospital: Path, tmp_path: Path, toy: Callable[..., Any], resamples: int
) -> None:
    """Percentiles from 1,000 resamples on; the calibration slope has limits on a scale of its own."""
    chosen = find_corruptions(["gain_down"])
    content, _ = measure_robustness([toy()], [hospital], chosen, tmp_path, resamples=resamples)
    write_robustness(tmp_path, content, chosen, example_image())
    page = (tmp_path / "robustness.html").read_text(encoding="utf-8")
    said = page.split("with all their images; limits are ")[1].split(". Changes")[0].split("; ")
    deviations = "the value less and plus 1.96 standard deviations of the resamples"
    assert said[0] == (deviations if resamples == 100 else "percentiles of the resamples")
    text = json.dumps(content)
    assert (f"{deviations} on the log scale (Calibration slope)" in said) == ("normal on the log scale" in text)
    slope = content["datasets"][0]["models"][0]["clean"]["calibration_slope"]
    slope["method"] = "patient bootstrap, normal on the log scale"  # as of a study that has one in nearly all resamples
    write_robustness(tmp_path, content, chosen, example_image())
    page = (tmp_path / "robustness.html").read_text(encoding="utf-8")
    assert f"; {deviations} on the log scale (Calibration slope)" in page
    for method, word in (("Wilson", "Wilson"), ("Newcombe", "Newcombe"), ("percentile", "percentiles")):
        assert (f'"method": "{method}' in text or f"bootstrap, {method}" in text) == any(word in one for one in said)


def written_change(part: dict[str, Any], digits: int = 3, scale: float = 1.0) -> str:
    def signed(value: float) -> str:
        text = f"{value * scale:+.{digits}f}"
        return text[1:] if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")

    limits = f'interval why">{part.get("reason")}'
    if part["low"] is not None:
        limits = f'interval">{signed(part["low"])} to {signed(part["high"])}'
    return f'<span class="value">{signed(part["value"])}</span> <small class="{limits}</small>'


def test_changes_and_differences_have_their_signs_and_those_of_shares_are_in_points(written: Path) -> None:
    page = (written / "robustness.html").read_text(encoding="utf-8")
    entry = json.loads((written / "robustness.json").read_text(encoding="utf-8"))["datasets"][0]
    worst = entry["models"][0]["summary"]["worst"][0]
    assert worst["auroc_change"]["value"] < 0
    assert f"<td>{written_change(worst['auroc_change'])}</td>" in page
    found = entry["comparisons"][0]
    assert (found["first"], found["second"]) == (entry["models"][0]["name"], entry["models"][1]["name"])
    row = page[page.index("Paired on the same images") :].split("<tbody>")[1].split("</tr>")[0]
    assert '<th scope="row">two minus one &lt;b&gt;' in row
    without, *others = re.findall(r"<td>(.*?)</td>", row)
    assert found["auroc"]["reason"] in without
    assert others == [written_change(found["balanced_accuracy"]), written_change(found["flips"], 1, 100)]
    assert "Flips, percentage points" in page


def test_json_and_csv_hold_the_same_figures(written: Path) -> None:
    document = json.loads((written / "robustness.json").read_text(encoding="utf-8"))
    assert document["format"] == 2
    assert [entry["name"] for entry in document["datasets"]] == [
        "simulated hospital A",
        "simulated hospital A 2",
    ]
    table = pd.read_csv(written / "robustness.csv")
    assert len(table) == 2 * 2 * (1 + 5 * len(CHOSEN))
    model = document["datasets"][1]["models"][1]
    cell = model["cells"][7]
    row = table[
        (table["data"] == "simulated hospital A 2")
        & (table["model"] == "two")
        & (table["corruption"] == cell["corruption"])
        & (table["severity"] == cell["severity"])
    ].iloc[0]
    assert row["auroc"] == pytest.approx(cell["figures"]["auroc"]["value"])
    assert row["change_auroc_low"] == pytest.approx(cell["changes"]["auroc"]["low"])
    assert row["flips_positive"] == pytest.approx(cell["flips"]["positive"]["value"])


def test_the_contact_sheet_has_a_row_a_corruption(written: Path) -> None:
    with Image.open(written / "contact_sheet.png") as sheet:
        assert sheet.mode == "L"
        assert sheet.height == len(CHOSEN) * (128 + 20)


def test_a_strip_starts_with_the_clean_image() -> None:
    example = example_image()
    row = strip(example, find_corruptions(["brightness_down"])[0], side=64)
    tiles = [row[:, place * 67 : place * 67 + 64] for place in range(6)]
    expected = Image.fromarray(example.pixels)
    expected.thumbnail((64, 64), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(tiles[0], np.asarray(expected))
    means = [tile.mean() for tile in tiles]
    assert means == sorted(means, reverse=True)


def svg_of(figures: list[dict[str, Any]]) -> str:
    return panel("none", [("model", figures)], (0.4, 1.0), "none")


def test_panels_leave_out_what_has_no_value_and_stay_within_their_frame() -> None:
    nothing = {"value": None, "low": None, "high": None}
    known = {"value": 0.5, "low": 0.4, "high": 9.0}
    series = [("model", [known, nothing, known, {"value": 0.6, "low": None, "high": None}, nothing, known])]
    assert limits_of(series, 0.0, 1.0) == (0.4, 1.0)
    svg = panel("a <title>", series, (0.4, 1.0), "here")
    assert svg.count('<use href="#here-') - svg_of([nothing] * 6).count('<use href="#none-') == 4
    assert "a &lt;title&gt;" in svg
    # The upper limit of 9 is drawn at the edge.
    _, _, width, height = map(float, re.search(r'viewBox="([^"]+)"', svg)[1].split())
    places = re.findall(r'<use href="#here-\w+" x="([\d.]+)" y="([\d.]+)"', svg)
    assert places
    assert all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y in places)
