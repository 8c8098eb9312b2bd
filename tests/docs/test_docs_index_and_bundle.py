"""The pages under docs/: each can be found, each link leads somewhere, and the files they describe are written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from medsharp import bundle, runs
from medsharp.bundle import BundleSpec, InputCheck, OperatingPoint, Preprocessing, TrainingRecord
from medsharp.weights_origin import WeightsOrigin

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def _anchor(heading: str) -> str:
    """The name that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def test_the_index_leads_to_every_page() -> None:
    linked = set(LINK.findall((ROOT / "docs" / "index.md").read_text(encoding="utf-8")))
    assert {page.name for page in PAGES} - {"index.md"} <= linked


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in LINK.findall(text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = page if not name else (page.parent / name).resolve()
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {_anchor(heading) for heading in headings}, f"{page.name} links to {target}"


def test_the_readme_leads_to_the_index_and_stays_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "docs/index.md" in LINK.findall(text)
    assert len(text.splitlines()) < 200


def test_the_page_of_bundles_names_every_file_and_key() -> None:
    text = (ROOT / "docs" / "bundle.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([^`]+)`", text))
    files = {bundle.SPEC, *bundle.BUNDLE_FILES}
    files |= {runs.CONFIG, runs.METRICS, runs.PREDICTIONS, runs.ENVIRONMENT}
    files |= {runs.BEST_WEIGHTS, runs.LAST_WEIGHTS, runs.LAST_STATE, runs.ORIGIN, "manifest.csv", "manifest.yaml"}
    keys = {
        key
        for model in (BundleSpec, Preprocessing, OperatingPoint, InputCheck, TrainingRecord, WeightsOrigin)
        for key in model.model_fields
    }
    assert not (files | keys) - named


@pytest.mark.parametrize("name", ["bus-lite0", "busi-resnet18"])
def test_the_page_of_bundles_names_what_lies_in_a_shipped_bundle(name: str) -> None:
    text = (ROOT / "docs" / "bundle.md").read_text(encoding="utf-8")
    shipped = [file.name for file in (ROOT / "models" / name).iterdir()]
    assert shipped
    assert not [file for file in shipped if f"`{file}`" not in text]
