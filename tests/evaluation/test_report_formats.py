"""The report in every format: the same figures, nothing from elsewhere, no name that becomes markup."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medsharp.errors import InputError
from medsharp.evaluation import Evaluation, calibrate, evaluate_predictions, write_evaluation
from medsharp.evaluation.report import left_over, make_document, parse_formats, render_markdown, render_page

HOSTILE = '<script>alert("x")</script>|*_`'
VOID = {"meta", "br", "img", "link", "hr", "input", "use", "path"}
BUNDLE: dict[str, Any] = {
    "name": "model-1",
    "positive": "malignant",
    "preprocess": {"size": 128, "crop": "scan", "fit": "letterbox"},
    "temperature": 1.5,
    "operating_point": {"threshold": 0.4, "rule": "sensitivity >= 0.95"},
    "training": {"dataset": "BUSI", "network": "resnet18", "images": {"train": 3}, "config": {"loss": {}}},
    "files": {"model.onnx": "ab" * 32, "training_images.sha256": "cd" * 32},
}


def table(images: int = 120, classes: tuple[str, ...] = ("benign", "malignant"), seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(classes), size=images)
    logits = rng.normal(size=(images, len(classes)))
    logits[np.arange(images), labels] += 1.2
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    shares[:, 0] = 1 - shares[:, 1:].sum(axis=1)
    columns = {f"p_{name}": shares[:, place] for place, name in enumerate(classes)}
    return pd.DataFrame(
        {
            "image": [f"scan-{n:04d}.png" for n in range(images)],
            "label": [classes[label] for label in labels],
            "patient": [f"SECRET{n // 2}" for n in range(images)],
            "site": ["north" if n % 4 < 2 else "south" for n in range(images)],
            "birads": [str(2 + n % 3) for n in range(images)],
            **columns,
        }
    )


def evaluated(rows: pd.DataFrame | None = None, **options: Any) -> Evaluation:
    rows = table() if rows is None else rows
    classes = [name.removeprefix("p_") for name in rows.columns if name.startswith("p_")]
    settings = {"classes": classes, "positive": "malignant", "threshold": 0.4, "name": "there", "resamples": 100}
    return evaluate_predictions(rows, **{**settings, **options})


@pytest.fixture(scope="module")
def both() -> list[Evaluation]:
    return [
        evaluated(table(seed=1), name="here", role="internal"),
        evaluated(excluded={"Doppler": 2}, about={"source": "a hospital", "licence": "CC BY"}),
    ]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with every part: three external data sets of three sites each, three classes, prediction sets."""
    classes = ("benign", "malignant", "normal")
    conformal = calibrate(table(90, classes, seed=9), classes, "validation split")
    options: dict[str, Any] = {"conformal": conformal, "prevalence": 0.05, "submitted_patients": 77}
    evaluations = [evaluated(table(120, classes, seed=5), name="here", role="internal", conformal=conformal)]
    for number in range(3):
        rows = table(180, classes, seed=number).assign(site=[f"site {n // 2 % 3}" for n in range(180)])
        evaluations.append(evaluated(rows, name=f"there {number}", **options))
    folder = tmp_path_factory.mktemp("everything")
    write_evaluation(folder, evaluations, BUNDLE, formats=("html", "md", "json", "csv"))
    return folder


@pytest.fixture(scope="module")
def written(both: list[Evaluation], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_evaluation(folder, both, BUNDLE, formats=("html", "md", "json", "csv"))
    return folder


class Page(HTMLParser):
    """Checks that every element is closed in order and collects what refers elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.names: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "action", "data", "poster") and not (value or "").startswith("#"):
                self.references.append(value or "")
            if name == "id":
                self.names.append(value or "")
            assert not name.startswith("on"), "no script"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes another element"


def test_page_is_balanced_and_refers_to_nothing_outside_itself(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.references == []
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    assert len(page.names) == len(set(page.names))
    anchors = set(re.findall(r'href="#([^"]+)"', text))
    assert anchors <= set(page.names), "every link within the page has its target"


def test_every_plot_has_a_text_alternative_and_takes_its_colours_from_the_page(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    svgs = re.findall(r"<svg [^>]*>.*?</svg>", text, flags=re.DOTALL)
    assert len(svgs) == 2 * 6 + 4 + 2 * 3
    for svg in svgs:
        assert re.match(r'<svg viewBox="[^"]+" role="img" aria-label="[^"]+"', svg)
        assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {"#000000", "#ffffff"}, "no colour of its own"
        assert "var(--" in svg
    assert text.count("<figcaption") >= len(svgs)


def test_page_shows_each_part_of_the_evaluation(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    for name in ("headline", "model", "data-1", "data-2", "methods", "limits", "checklists"):
        assert f'id="{name}"' in text
    for words in ("Doppler: 2", "122</strong> images in the data set", "called malignant", "external minus internal"):
        assert words in text
    for words in ("Failures, the most confident first", "TRIPOD+AI", "CLAIM 2024", "STARD-AI", "ab" * 32):
        assert words in text


def test_parts_without_data_are_left_out_of_the_page(tmp_path: Path) -> None:
    rows = table().drop(columns=["site", "birads"])
    write_evaluation(tmp_path, [evaluated(rows)], {})
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    Page(text)
    assert 'id="model"' not in text
    assert "<h3>Subgroups" not in text
    assert "external minus internal" not in text
    assert "by data set" not in text
    assert "left out before prediction" not in text


def test_csv_has_the_figures_of_the_json_to_the_last_digit(written: Path) -> None:
    document = json.loads((written / "evaluation.json").read_text(encoding="utf-8"))
    with (written / "figures.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    found = {(row["dataset"], row["by"], row["group"], row["figure"]): row for row in rows}
    assert len(found) == len(rows)
    expected = 0
    for entry in document["datasets"]:
        parts = [("", "", entry["figures"])] + [(g["by"], g["group"], g) for g in entry["subgroups"]]
        reader = entry["readers"]["readers"][0]
        parts += [("reader", reader["name"], reader)]
        units = [entry[key] for key in ("by_patient", "by_lesion") if entry[key]]
        parts += [(unit["unit"], rule, part) for unit in units for rule, part in unit["rules"].items()]
        parts += [("reader", f"{reader['name']} from {c['from']}", c) for c in reader["cutoffs"]]
        for by, group, figures in parts:
            for name, figure in figures.items():
                if isinstance(figure, dict) and "value" in figure:
                    row = found[entry["name"], by, group, name]
                    expected += 1
                    for key in ("value", "low", "high"):
                        assert row[key] == ("" if figure[key] is None else repr(figure[key]))
    changes = document["changes"][0]["figures"]
    assert float(found["there", "", "", "change_auroc"]["value"]) == changes["auroc"]["value"]
    here, there = (entry["figures"]["auroc"]["value"] for entry in document["datasets"])
    assert changes["auroc"]["value"] == pytest.approx(there - here, abs=1e-12)
    assert len(rows) == expected + len(changes)


def test_page_has_every_part_where_there_are_data_for_it(everything: Path) -> None:
    text = (everything / "report.html").read_text(encoding="utf-8")
    Page(text)
    for words in (
        "random-effects summary over the external data sets",
        "random-effects summary over the sites",
        "95 % prediction interval",
        "PPV at a prevalence of 5.0\N{NO-BREAK SPACE}%",
        "Hand and Till",
        "<h3>Prediction sets",
        "Errors when the least certain are left undecided",
        "local regression with its 95 % band",
        "by Obuchowski (patients)",
        "perfectly calibrated probabilities would give",
        "images of <strong>77</strong> patients in the data set",
        "Leakage check: none of these images is a copy",
        "Positive likelihood ratio",
        "Partial AUROC",
    ):
        assert words in text, words


def test_summary_over_data_sets_is_the_same_in_every_format(everything: Path) -> None:
    document = json.loads((everything / "evaluation.json").read_text(encoding="utf-8"))
    found = document["site_summary"]["figures"]["auroc"]
    with (everything / "figures.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["figure"]: row for row in csv.DictReader(stream) if row["by"] == "random effects"}
    assert [float(rows["auroc"][key]) for key in ("value", "low", "high")] == [
        found[key] for key in ("value", "low", "high")
    ]
    limits = [found["prediction_low"], found["prediction_high"]]
    assert [float(rows["auroc_prediction"][key]) for key in ("low", "high")] == limits
    written_limits = " to ".join(f"{limit:.3f}" for limit in limits)
    assert f"[{written_limits}]" in (everything / "report.html").read_text(encoding="utf-8")
    assert f"| {written_limits} |" in (everything / "report.md").read_text(encoding="utf-8")


def test_classes_and_prediction_sets_are_in_the_csv_as_in_the_json(everything: Path) -> None:
    document = json.loads((everything / "evaluation.json").read_text(encoding="utf-8"))
    entry = document["datasets"][1]
    with (everything / "figures.csv").open(encoding="utf-8", newline="") as stream:
        here = [row for row in csv.DictReader(stream) if row["dataset"] == "there 0"]
    rows = {(row["by"], row["group"], row["figure"]): row for row in here}
    found = entry["multiclass"]["one_vs_rest"]["normal"]["auroc"]["value"]
    assert float(rows["class", "normal", "auroc"]["value"]) == found
    assert float(rows["all classes", "", "hand_till"]["value"]) == entry["multiclass"]["overall"]["hand_till"]["value"]
    coverage = entry["conformal"]["marginal"]["coverage_by_label"]["malignant"]["low"]
    assert float(rows["prediction sets", "marginal", "coverage of malignant"]["low"]) == coverage
    markdown = (everything / "report.md").read_text(encoding="utf-8")
    assert f"| normal | {found:.3f} " in markdown
    assert "### Prediction sets" in markdown


def test_class_without_an_image_has_a_reason_in_every_format(tmp_path: Path) -> None:
    rows = table(90, classes=("benign", "malignant", "normal"))
    rows = rows[rows["label"] != "normal"]
    write_evaluation(tmp_path, [evaluated(rows)], {}, formats=("html", "md", "csv"))
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "table" in page.tags
    for name in ("report.html", "report.md"):
        assert "no image of this class" in (tmp_path / name).read_text(encoding="utf-8")


def test_markdown_has_the_figures_of_the_json(written: Path) -> None:
    document = json.loads((written / "evaluation.json").read_text(encoding="utf-8"))
    text = (written / "report.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("| AUROC |"))
    _, *cells, meaning = [cell.strip().replace("\\", "") for cell in line.strip("|").split("|")]
    assert meaning.startswith("chance that a positive image ranks above a negative one")
    for cell, entry in zip(cells, document["datasets"], strict=True):
        figure = entry["figures"]["auroc"]
        assert cell == f"{figure['value']:.3f} [{figure['low']:.3f} to {figure['high']:.3f}]"
    specificity = document["datasets"][1]["figures"]["specificity"]["value"]
    assert f"{specificity * 100:.1f}\N{NO-BREAK SPACE}%" in text
    for words in (
        "## Headline",
        "### Subgroups",
        "### Failures",
        "## TRIPOD+AI",
        "2 images left out before prediction\n  - Doppler: 2",
    ):
        assert words in text


def test_tables_of_the_markdown_have_as_many_cells_in_each_row(written: Path) -> None:
    cells = 0
    for line in (written / "report.md").read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            cells = 0
            continue
        count = len(re.findall(r"(?<!\\)\|", line))
        assert cells in (0, count), line
        cells = count


@pytest.mark.parametrize("column", ["image", "site", "device", "birads", "histology", "flags", "patient", "group"])
def test_hostile_names_in_the_data_stay_text(tmp_path: Path, column: str) -> None:
    rows = table(60)
    rows[column] = [f"{HOSTILE} {n % 2 if column != 'image' else n}" for n in range(len(rows))]
    write_evaluation(tmp_path, [evaluated(rows, excluded={HOSTILE: 1})], {"name": HOSTILE}, formats=("html", "md"))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "script" not in Page(text).tags
    assert "<script" not in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name", ["\N{CJK UNIFIED IDEOGRAPH-6F22} \N{HEBREW LETTER ALEF}", "_a", "$a_b$ \\frac", "a" * 99]
)
def test_names_of_any_kind_are_drawn_without_a_warning(tmp_path: Path, name: str) -> None:
    evaluations = [evaluated(name=f"{name}{number}", resamples=10) for number in range(2)]
    write_evaluation(tmp_path, evaluations, {})
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    Page(text)
    drawing = text[text.index('aria-label="ROC curves on') :].split("</svg>")[0]
    curves = drawing[drawing.index(">") :]
    assert curves.count(f"{name[:28]}") >= 2, "both are in the legend"


def test_roc_curves_that_cannot_be_told_apart_are_named() -> None:
    sizes = {"a": 60, "b": 90, "c": 66, "d": 100, "e": 72, "f": 84, "here": 50, "g": 78}
    entries = [
        evaluated(
            table(size, seed=size), name=f"hospital {name}", resamples=10,
            role="internal" if name == "here" else "external",
        )
        for name, size in sizes.items()
    ]  # fmt: skip
    page = render_page(make_document(entries, {}))
    drawing = page[page.index('aria-label="ROC curves on') :].split(">")[0]
    # The internal one, however small and wherever it stands, and the five largest of the others, in their order.
    assert re.findall(r"hospital (\w+)", drawing) == ["b", "d", "e", "f", "here", "g"]
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page)).replace("&#39;", "'")
    assert (
        "Drawn are 6 of 8, the internal one and the largest others; not drawn: 'hospital a', 'hospital c'." in text
    ), text[text.index("Drawn are") :][:200]
    six = render_page(make_document(entries[1:7], {}))
    assert "not drawn" not in six
    external = re.sub(r"<[^>]+>", "", render_page(make_document([*entries[:6], entries[7]], {})))
    assert "Drawn are 6 of 7, the largest; not drawn:" in re.sub(r"\s+", " ", external)


def test_headline_of_many_data_sets_names_the_worst_and_the_best() -> None:
    entries = [evaluated(table(60, seed=seed), name=f"hospital {seed}", resamples=10) for seed in range(7)]
    page = render_page(make_document(entries, {}))
    Page(page)
    areas = {e.as_dict()["name"]: e.as_dict()["figures"]["auroc"]["value"] for e in entries}
    lead = page[page.index("On 7 external data sets") :].split("</p>")[0]
    names = re.findall(r"<strong>(hospital \d)</strong>", lead)
    assert names == [min(areas, key=areas.__getitem__), max(areas, key=areas.__getitem__)]
    assert page.count('<p class="lead">') == 1


def test_hostile_class_names_stay_text(tmp_path: Path) -> None:
    rows = table(60, classes=("benign", "malignant")).rename(columns={"p_benign": f"p_{HOSTILE}"})
    rows["label"] = rows["label"].replace("benign", HOSTILE)
    evaluation = evaluated(rows, name=HOSTILE, about={"source": HOSTILE})
    write_evaluation(tmp_path, [evaluation], {}, formats=("html", "md"))
    assert "script" not in Page((tmp_path / "report.html").read_text(encoding="utf-8")).tags
    assert "<script" not in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_patients_are_named_in_no_format(written: Path) -> None:
    for path in written.iterdir():
        assert "SECRET" not in path.read_text(encoding="utf-8"), path.name


def test_patients_whose_images_agree_are_not_counted_as_having_several_labels() -> None:
    rows = table(40)
    rows["label"] = ["malignant" if n // 2 % 2 else "benign" for n in range(40)]
    entry = evaluated(rows.sample(frac=1, random_state=0), resamples=10).as_dict()
    assert entry["counts"]["clusters_of_several_labels"] == 0
    assert entry["counts"]["clusters_by_label"] == {"benign": 10, "malignant": 10}
    assert not [note for note in entry["notes"] if "several classes" in note]


def test_leak_is_an_alarm_at_the_top_and_beside_the_data(tmp_path: Path) -> None:
    leak = "LEAK: the model was trained on 3 of these images"
    write_evaluation(tmp_path, [evaluated(warnings=[leak, "A remark."])], BUNDLE, formats=("html", "md"))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count("notice alarm") == 2
    assert text.index("LEAK") < text.index("<header>")
    assert re.search(r'<p class="notice">A remark', text)
    assert "Leakage check" not in text
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert markdown.index("LEAK") < markdown.index("## Headline")
    assert "(external, leaked)" in text
    assert "(external, leaked)" in markdown


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"model.onnx": ""}, "not possible"),
        (
            {"training_images.sha256": ""},
            "is a copy (SHA-256) of a training image; near-duplicates were not looked for",
        ),
        (
            {"training_images.sha256": "", "training_images.dhash": ""},
            "near-duplicate (perceptual hash, also mirrored)",
        ),
    ],
)
def test_leakage_check_says_what_was_looked_for(tmp_path: Path, files: dict[str, str], words: str) -> None:
    write_evaluation(tmp_path, [evaluated(resamples=10)], {**BUNDLE, "files": files}, formats=("html", "md"))
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert words in text[text.index("Leakage check") :], name


def test_report_claims_nothing_of_the_training_of_weights_from_elsewhere() -> None:
    training = {
        "dataset": "Hospital X",
        "network": "resnet50",
        "images": {"train": 7, "val": 60, "test": 0},
        "config": {"network": {"channels": 3}},
        "elsewhere": {"kind": "file", "name": "w"},
        "validated_on": "Speckle",
    }
    point = {**BUNDLE["operating_point"], "sensitivity": 0.95, "specificity": 0.4, "images": 60, "positives": 20}
    bundle = {**BUNDLE, "operating_point": point, "files": {"model.onnx": "", "training_images.dhash": ""}}
    own = {**bundle, "training": {key: training[key] for key in ("dataset", "network", "images", "config")}}
    claims = ("epoch with the best AUROC", "random weights", "near-duplicates are never split")
    for values, theirs in ((own, False), ({**bundle, "training": training}, True)):
        text = render_page(make_document([evaluated(resamples=10)], values))
        assert [claim in text for claim in claims] == [not theirs] * 3
        assert ("Hospital X (7 train, 60 val, 0 test images)" in text) is not theirs
        assert ("Speckle (7 train, 60 val, 0 test images)" in text) is theirs
        assert ("not possible for the images that it was trained on elsewhere" in text) is theirs
        assert ("images of Speckle, " in text) is theirs


def test_threshold_is_called_frozen_only_where_a_bundle_froze_it() -> None:
    evaluations = [evaluated(resamples=10)]
    assert "At the frozen operating point it finds" in render_page(make_document(evaluations, BUNDLE))
    page = render_page(make_document(evaluations, {}))
    assert "At the threshold of 0.4000 it finds" in page
    assert "frozen" not in page[page.index("<header>") : page.index('id="methods"')]


def test_report_of_three_classes_has_the_confusion_of_the_most_probable_class(tmp_path: Path) -> None:
    rows = table(150, classes=("benign", "malignant", "normal"))
    write_evaluation(tmp_path, [evaluated(rows)], {}, formats=("html", "md", "json"))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    Page(text)
    assert "Most probable class" in text
    assert "benign or normal" in text
    document = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    confusion = document["datasets"][0]["confusion"]
    line = f"| malignant | {' | '.join(str(confusion['malignant'][name]) for name in confusion)} |"
    assert line in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_report_of_many_images_and_groups_stays_small(tmp_path: Path) -> None:
    rows = table(20_000)
    rows["site"] = [f"site {n % 3000}" for n in range(len(rows))]
    excluded = {f"reason {n}": 1 for n in range(500)}
    write_evaluation(tmp_path, [evaluated(rows, resamples=20, excluded=excluded)], BUNDLE, formats=("html", "md"))
    assert (tmp_path / "report.html").stat().st_size < 1_000_000
    assert "and 488 more reasons" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_file_of_an_earlier_version_still_becomes_a_report(written: Path) -> None:
    document = json.loads((written / "evaluation.json").read_text(encoding="utf-8"))
    for key in ("checklists", "robustness", "site_summary"):
        del document[key]
    for entry in document["datasets"]:
        for key in ("failures", "stated_prevalence", "auroc_intervals", "conformal", "site_summary", "multiclass"):
            del entry[key]
        del entry["counts"]["submitted_patients"]
        del entry["curves"]["reliability"]["smooth"], entry["curves"]["risk_coverage"]
        del entry["curves"]["net_benefit"]["gain"], entry["figures"]["ece"]["expected_if_calibrated"]
        for key in ("log_loss", "balanced_accuracy", "partial_auroc", "lr_positive"):
            del entry["figures"][key]
    text = render_page(document)
    Page(text)
    assert "Log loss" not in text
    assert "Failures" not in text
    assert "| AUROC |" in render_markdown(document)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ("html", "json")),
        ([], ("html", "json")),
        (["md"], ("md",)),
        (["csv,HTML", "csv"], ("csv", "html")),
        ([" json , md "], ("json", "md")),
    ],
)
def test_formats_are_repeated_or_joined_by_commas(given: list[str] | None, expected: tuple[str, ...]) -> None:
    assert parse_formats(given) == expected


def test_unknown_format_is_a_sentence() -> None:
    with pytest.raises(InputError, match=r"'htm' is not one of html, md, json, csv.*html"):
        parse_formats(["htm"])


def test_only_the_formats_asked_for_are_written(tmp_path: Path) -> None:
    paths = write_evaluation(tmp_path / "out", [evaluated()], {}, formats=("md",))
    assert [path.name for path in paths] == ["report.md"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.md"]


def test_report_of_an_earlier_run_in_another_format_is_named_and_kept(tmp_path: Path) -> None:
    write_evaluation(tmp_path, [evaluated(resamples=20)], {}, formats=("html", "csv"))
    written = write_evaluation(tmp_path, [evaluated(resamples=20)], {}, formats=("json", "csv"))
    assert left_over(tmp_path, written) == [tmp_path / "report.html"]
    assert (tmp_path / "report.html").is_file()


def test_page_of_few_hospitals_says_why_there_is_no_summary() -> None:
    parts = [evaluated(name=name, role="external", resamples=20) for name in ("A", "B")]
    document = make_document(parts, {})
    words = "2 sites with this figure; a summary needs at least 3"
    assert words in render_page(document)
    assert words in render_markdown(document).replace("\\", "")


def test_role_that_nobody_stated_is_not_called_external() -> None:
    document = make_document([evaluated(name="mine", role="unstated", resamples=20)], {})
    for text in (render_page(document), render_markdown(document)):
        assert "unstated" not in text
        assert "mine (external)" not in text
    statuses = {i["id"]: i["status"] for c in document["checklists"] if "CLAIM" in c["guideline"] for i in c["items"]}
    assert statuses["33"] == "for a person"


def test_pictures_of_simulated_images_are_not_called_patients() -> None:
    part = evaluated(name="simulated hospital", resamples=20)
    names = [image["image"] for kind in part.as_dict()["failures"].values() for image in kind["images"]]
    pictures = [dict.fromkeys(names, "data:image/jpeg;base64,")]
    assert "images of patients" not in render_page(make_document([part], {}), pictures)
    real = evaluated(name="hospital", resamples=20)
    assert "images of patients" in render_page(make_document([real], {}), pictures)


def test_group_of_one_class_has_the_share_decided_rightly(tmp_path: Path) -> None:
    rows = table(160)
    rows["histology"] = ["carcinoma" if label == "malignant" else "cyst" for label in rows["label"]]
    evaluation = evaluated(rows)
    write_evaluation(tmp_path, [evaluation], {}, formats=("html", "md", "csv"))
    entry = evaluation.as_dict()
    groups = {group["group"]: group for group in entry["subgroups"] if group["by"] == "histology"}
    assert groups["carcinoma"]["reason"] == groups["cyst"]["reason"] == "one class only"
    assert groups["carcinoma"]["sensitivity"]["value"] == entry["figures"]["sensitivity"]["value"]
    assert groups["cyst"]["specificity"]["value"] == entry["figures"]["specificity"]["value"]
    assert groups["cyst"]["specificity"]["low"] < groups["cyst"]["specificity"]["value"]
    assert "specificity" not in groups["carcinoma"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<th scope="row">histology carcinoma</th>' in page
    assert "| histology carcinoma |" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert ",histology,carcinoma,sensitivity," in (tmp_path / "figures.csv").read_text(encoding="utf-8")
