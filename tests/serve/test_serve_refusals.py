"""What the server says of images that a check refuses or marks: a stub stands for the checks."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from medsharp.errors import InputError
from medsharp.inference import Prediction, Predictor
from medsharp.inference.checks import Finding
from medsharp.inference.checks.registry import IMAGE_CHECKS
from serve import create_app
from serve.engine import Assessment
from serve.page.cards import result
from serve.page.meaning import Background

REFUSAL = Finding("photograph", "refusal", "it is <no> ultrasound image", 0.9, 0.5, "upload <one> scan")
CAUTION = Finding("dark", "caution", "it is very dark", 3.0, 10.0)


def assessed(name: str, *findings: Finding, flags: tuple[str, ...] = ()) -> Assessment:
    if any(finding.outcome == "refusal" for finding in findings):
        return Assessment(Prediction(name, flags=flags, findings=findings), "data:image", None, (60, 80))
    shares = {"benign": 0.3, "malignant": 0.7}
    answer = Prediction(name, shares, 0.7, threshold=0.5, flags=flags, findings=findings)
    return Assessment(answer, "data:image", "data:map", (60, 80), True)


@pytest.fixture
def drawn(predictor: Predictor) -> Callable[..., str]:
    point = predictor.spec.operating_point.model_copy(update={"threshold": 0.5})
    background = Background(predictor.spec.model_copy(update={"operating_point": point}))
    return lambda *assessments: result(assessments, background)


def test_refused_card_says_why_and_what_to_do_and_shows_neither_number_nor_map(drawn: Callable[..., str]) -> None:
    html = drawn(assessed("flower.png", CAUTION, REFUSAL))
    assert "No answer." in html
    assert "<li>It is &lt;no&gt; ultrasound image.</li>" in html
    assert "What to do:</b> Upload &lt;one&gt; scan. If that was done," in html
    assert "No answer is not an all-clear" in html
    assert "nothing about malignancy" in html
    assert "data:image" in html
    for part in ("ms-bar", "ms-number", "ms-verdict", "Heat map", "data:map", "Not available"):
        assert part not in html, part
    assert re.search(r"\d\N{NO-BREAK SPACE}%", html) is None
    # What is merely doubtful does not stand beside what is impossible.
    assert "very dark" not in html


def test_each_check_that_refuses_gives_its_own_advice_once(drawn: Callable[..., str]) -> None:
    refusing = [check for check in IMAGE_CHECKS if check.outcome == "refusal"]
    advice = {}
    for check in refusing:
        beyond = check.found(1e9 if check.above else -1e9, 0.0)
        assert beyond is not None
        (advice[check.key],) = re.findall("What to do:</b> (.*?) If that was done", drawn(assessed("one.png", beyond)))
        assert check.advice[1:] in advice[check.key]
    kinds = ("too_small", "mostly_black", "not_ultrasound", "doppler")
    for key, words in zip(kinds, ("full size", "black", "no photograph", "without colour Doppler"), strict=True):
        assert [kind for kind in kinds if words in advice[kind]] == [key]
    colours = [check.found(1.0, 0.0) for check in refusing if check.key in ("coloured", "doppler")]
    assert drawn(assessed("both.png", *filter(None, colours))).count("without colour Doppler") == 1


def test_caution_stands_above_the_number_which_is_marked(drawn: Callable[..., str]) -> None:
    said, _, html = drawn(assessed("dark.png", CAUTION, flags=("colour", "dicom"))).partition('class="ms-name"')
    assert said.index("It is very dark.") < said.index("70.0")  # what is read out has it before the number too
    number = html.index("ms-number ms-marked")
    assert html.index('<li class="ms-warning">It is very dark.</li>') < html.index("with caution") < number
    assert number < html.index("Colour image")
    plain = drawn(assessed("plain.png"))
    assert "ms-marked" not in plain
    assert "with caution" not in plain


def test_refused_image_among_several_has_a_row_without_a_number_and_a_card(drawn: Callable[..., str]) -> None:
    failed = Assessment(Prediction("words.png", error="words.png is no image"))
    html = drawn(assessed("plain.png"), assessed("flower.png", REFUSAL), assessed("dark.png", CAUTION), failed)
    assert "4 images; without an answer: 1 refused, 1 could not be read" in html
    rows = re.findall(r"<tr.*?</tr>", html.split("<tbody>")[1].split("</tbody>")[0])
    assert len(rows) == 5
    plain, flower, why, dark, words = rows
    assert "70.0" in plain
    assert "No answer.</b> It is &lt;no&gt; ultrasound image." in flower
    assert "%" not in flower
    assert "dark.png" in why
    assert "It is very dark." in why
    assert "ms-marked" in dark
    assert "70.0" in dark
    assert "words.png is no image" in words
    assert html.count("<details>") == 3
    assert "What to do:" in html


@pytest.fixture
def client(predictor: Predictor, stub_checks: None) -> TestClient:
    return TestClient(create_app(predictor))


def png(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (64, 64), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_api_answers_a_batch_of_every_outcome_in_order(client: TestClient) -> None:
    names = ["refuse-and-mark.png", "plain.png", "mark.png", "words.png"]
    contents = [png(), png(), png(), b"words"]
    files = [("files", pair) for pair in zip(names, contents, strict=True)]
    answer = client.post("/predict", files=files, data={"heatmap": "1"})
    assert answer.status_code == 200
    refused, plain, marked, failed = answer.json()
    statuses = [entry["status"] for entry in (refused, plain, marked, failed)]
    assert statuses == ["refused", "answered", "cautioned", "failed"]
    numbers = ("probabilities", "positive_probability", "side", "margin", "heatmap", "heatmap_empty")
    assert all(refused[key] is None for key in numbers)
    assert refused["reasons"] == ["a photograph in a test", "very dark for a test"]
    assert refused["checks"] == ["refusal:stub_photograph", "caution:stub_dark"]
    assert refused["error"] is None
    assert marked["positive_probability"] == plain["positive_probability"]
    assert marked["reasons"] == ["very dark for a test"]
    assert plain["heatmap"]
    assert (plain["reasons"], plain["checks"]) == ([], [])


def test_image_that_is_refused_was_read(client: TestClient) -> None:
    assert client.post("/predict", files=[("files", ("refuse.png", png()))]).status_code == 200
    assert client.post("/predict", files=[("files", ("refuse.png", b"words"))]).status_code == 422


def test_server_never_answers_against_a_refusal(bundle: Path) -> None:
    with pytest.raises(InputError, match="a server never does"):
        create_app(Predictor.load(bundle, answer_anyway=True))
