"""The first view of the page, and `/model`: internal figures beside those of each hospital left out."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from medsharp.bundle import Combination, Figure, HeldOut
from medsharp.inference import Predictor
from medsharp.inference.glance import NOT_MEASURED
from serve.page.about import performance

# Gradio's summary of its queue sets a pandas option that pandas 3 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated")

INTERNAL = {
    "internal_auroc": {"value": 0.911, "low": 0.87, "high": 0.95},
    "internal_sensitivity": {"value": 0.951, "low": 0.9, "high": 0.98},
    "internal_specificity": {"value": 0.62, "low": 0.51, "high": 0.7},
    "internal_calibration_slope": {"value": 1.07},
}


def site(name: str, auroc: float) -> HeldOut:
    figures = {
        "auroc": Figure(value=auroc, low=auroc - 0.05, high=auroc + 0.04),
        "sensitivity": Figure(value=0.93, low=0.9, high=0.96),
        "specificity": Figure(value=0.41, low=0.35, high=0.47),
        "calibration_slope": Figure(value=None),
    }
    return HeldOut(site=name, images=120, patients=100, positives=40, threshold=0.2, figures=figures)


@pytest.fixture
def measured(predictor: Predictor, tmp_path: Path) -> Predictor:
    """A bundle of two networks whose card has figures of two hospitals left out."""
    folder = tmp_path / "bundle"
    shutil.copytree(predictor.folder, folder)
    (folder / "metadata.json").write_text(json.dumps({"eval_metrics": INTERNAL, "eval_data": "Speckle, test split"}))
    spec = predictor.spec.model_copy(
        update={
            "held_out": (site("North <1>", 0.84), site("South", 0.79)),
            "combination": Combination(members=2, average="probabilities", flip=True),
        }
    )
    return Predictor(folder, spec, predictor.session)


@pytest.fixture
def client(make_client: Callable[..., TestClient], measured: Predictor) -> Iterator[TestClient]:
    with make_client(measured) as client:
        yield client


def rows_of(html: str) -> dict[str, list[str]]:
    """Name of each row to the text of its cells."""
    rows = {}
    for row in re.findall(r"<tr class=.*?</tr>", html):
        cells = re.findall(r"<t[hd].*?</t[hd]>", row)
        name, *values = (" ".join(re.sub("<[^>]+>", " ", cell).split()) for cell in cells)
        rows[name] = values
    return rows


def test_internal_figures_and_those_of_hospitals_left_out_are_beside_each_other(measured: Predictor) -> None:
    html = performance(measured)
    assert rows_of(html) == {
        "Speckle, test split internal": ["0.91 0.87 to 0.95", "0.95 0.90 to 0.98", "0.62 0.51 to 0.70", "1.07"],
        "North &lt;1&gt; left out of training": ["0.84 0.79 to 0.88", "0.93 0.90 to 0.96", "0.41 0.35 to 0.47", "-"],
        "South left out of training": ["0.79 0.74 to 0.83", "0.93 0.90 to 0.96", "0.41 0.35 to 0.47", "-"],
    }
    assert NOT_MEASURED not in html


def test_bundle_without_such_figures_says_so(predictor: Predictor) -> None:
    assert NOT_MEASURED in performance(predictor)


def components_above_the_upload(client: TestClient) -> tuple[list[str], list[str]]:
    """Return what is shown before the upload, and the kinds of what encloses it."""
    page: dict[str, Any] = client.get("/config").json()
    by_id = {component["id"]: component for component in page["components"]}
    shown: list[str] = []
    enclosing: list[str] = []

    def walk(node: dict[str, Any], around: list[str]) -> bool:
        component = by_id.get(node["id"], {"type": "root", "props": {}})
        if component["props"].get("elem_id") == "upload":
            return True
        value = str(component["props"].get("value", ""))
        if "ms-glance" in value:
            enclosing.extend(around)
        shown.append(value)
        return any(walk(child, [*around, component["type"]]) for child in node.get("children", []))

    walk(page["layout"], [])
    return shown, enclosing


def test_figures_stand_above_the_upload_and_in_no_accordion(client: TestClient) -> None:
    shown, enclosing = components_above_the_upload(client)
    assert sum("ms-glance" in value for value in shown) == 1
    assert enclosing
    assert "accordion" not in enclosing


def test_model_is_described_with_all_its_figures(client: TestClient, measured: Predictor) -> None:
    answer = client.get("/model")
    assert answer.status_code == 200
    content = answer.json()
    assert [(row["images"], row["left_out"]) for row in content["measured"]] == [
        ("Speckle, test split", False),
        ("North <1>", True),
        ("South", True),
    ]
    assert content["measured"][1]["figures"]["auroc"] == pytest.approx({"value": 0.84, "low": 0.79, "high": 0.88})
    assert content["measured"][1]["figures"]["calibration_slope"]["value"] is None
    assert content["measured"][1]["size"] == "120 images, 100 patients or groups, 40 malignant"
    assert content["threshold"] == measured.spec.operating_point.threshold
    assert content["threshold_interval"] == list(measured.spec.operating_point.interval or ())
    assert content["answer"] == (
        "the answer is the mean of the probabilities that 2 networks give of the image and its mirror image"
    )
    assert (content["left_out_measured"], content["remark"]) == (True, None)
    assert "Not for diagnostic use" in content["notice"]


def test_model_without_such_figures_has_a_remark(make_client: Callable[..., TestClient]) -> None:
    with make_client() as client:
        content = client.get("/model").json()
    assert (content["left_out_measured"], content["remark"], content["answer"]) == (False, NOT_MEASURED, None)
