"""The shipped model: figures in the pages are those in its bundle, and it is what is served by default."""

from __future__ import annotations

from pathlib import Path

import pytest

from medsharp.bundle import BundleSpec, Figure, default_bundle, read_bundle
from medsharp.inference.glance import recorded_glances

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"


@pytest.fixture(scope="module")
def spec() -> BundleSpec:
    return read_bundle(MODELS / "bus-lite0")


def cell(figure: Figure, digits: int = 3) -> str:
    assert figure.value is not None
    assert figure.low is not None
    assert figure.high is not None
    return f"{figure.value:.{digits}f} ({figure.low:.{digits}f} to {figure.high:.{digits}f})"


def test_it_is_the_default_and_small_enough_for_a_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_bundle() == MODELS / "bus-lite0"
    assert sum(file.stat().st_size for file in MODELS.rglob("*") if file.is_file()) < 50 * 2**20


@pytest.mark.parametrize("page", ["README.md", "docs/model.md"])
def test_pages_show_the_figures_of_the_bundle(spec: BundleSpec, page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    tables = [line for line in text.splitlines() if line.startswith("|")]
    rows = {line.split("|")[1].strip(): line for line in reversed(tables)}  # the first of a name
    left_out = {site.site: site for site in spec.held_out}
    assert len(left_out) == 2
    internal = recorded_glances(spec, MODELS / "bus-lite0")[0]
    assert not internal.left_out
    order = [*(left_out[site].figures for site in ("Baheya Hospital, Cairo", "INCA, Rio de Janeiro")), internal.figures]
    for name in ("auroc", "sensitivity", "specificity", "calibration_slope"):
        row = rows["AUROC" if name == "auroc" else name.replace("_", " ")]
        cells = [part.strip() for part in row.strip("|").split("|")[1:]]
        assert cells == [cell(figures[name], 2 if name == "calibration_slope" else 3) for figures in order]
    images = [part.strip().replace(",", "") for part in rows["images"].strip("|").split("|")[1:]]
    for said, site in zip(images, left_out.values(), strict=False):
        assert said.startswith(str(site.images))


def test_nothing_in_it_tells_of_the_machine_or_of_an_image(spec: BundleSpec) -> None:
    for file in (MODELS / "bus-lite0").iterdir():
        text = file.read_bytes()
        assert b"/home/" not in text, file.name
        assert str(Path.home()).encode() not in text, file.name
        assert b"bus_0003" not in text, file.name
    assert spec.training.weights is not None
    assert spec.training.weights.licence == "Apache-2.0"


def test_what_the_readme_says_in_words_is_so(spec: BundleSpec) -> None:
    words = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    figures = [{name: figure.value or 0 for name, figure in site.figures.items()} for site in spec.held_out]
    ranked = " and ".join(f"{one['auroc']:.2f}".removeprefix("0") for one in figures)
    missed = " and ".join(f"{100 * (1 - one['sensitivity']):.0f} %" for one in figures)
    called = " and ".join(f"{100 * (1 - one['specificity']):.0f} %" for one in figures)
    assert f"ranked the lesions of the hospital left out with AUROC {ranked}." in words
    assert f"They missed {missed} of the malignant images there, and called {called} of the benign ones" in words
