"""What the page asks anew: a region, a frame, a file to keep, one image of an archive; and what a score means."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage
from starlette.testclient import TestClient

from medsharp.bundle import Figure, HeldOut, read_bundle
from medsharp.data.phantom import simulate_image
from medsharp.inference import Prediction, Predictor
from medsharp.inference.validation import Validation
from serve.engine.draw import Assessment
from serve.page.cards import detail
from serve.page.meaning import Background, elsewhere, odds, score_meaning, undecided
from serve.page.numbers import out_of
from serve.page.paper import on_paper
from serve.page.sent import crc32
from serve.page.threshold import threshold_slider
from serve.uploads.uploads import private_cache

pytestmark = pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated")

MODELS = Path(__file__).resolve().parents[2] / "models"
SPACE = "\N{NO-BREAK SPACE}"


def scan(seed: int = 4, label: str = "malignant") -> np.ndarray:
    return simulate_image("A", label, np.random.default_rng(seed)).pixels


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def clip(frames: list[np.ndarray]) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UltrasoundMultiFrameImageStorage, "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.Rows, dataset.Columns = frames[0].shape
    dataset.NumberOfFrames, dataset.SamplesPerPixel = len(frames), 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PatientName = "Unforgettable^Jane"
    dataset.PixelData = np.stack(frames).tobytes()
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.fixture(scope="module")
def resnet() -> Predictor:
    return Predictor.load(MODELS / "busi-resnet18", threads=1)


@pytest.fixture(scope="module")
def client(make_client: Callable[..., TestClient], resnet: Predictor) -> Iterator[TestClient]:
    with make_client(resnet) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_is_left(client: TestClient) -> Iterator[None]:
    yield
    app: Any = client.app
    assert app.state.memory.held == 0
    assert [path for path in private_cache().rglob("*") if path.is_file()] == []


def ask(client: TestClient, content: bytes, name: str = "Doe^Jane.png", **fields: str) -> Any:
    return client.post("/page/answer", files=[("files", (name, content))], data=fields)


def number(html: str) -> float:
    found = re.search(r'class="ms-number(?: ms-marked)?">(?:just below )?([\d.]+)', html)
    assert found is not None, html
    return float(found[1])


def test_region_is_the_box_of_left_top_right_and_bottom(client: TestClient, resnet: Predictor) -> None:
    pixels = scan()
    left, top, right, bottom = 30, 60, 230, 200
    html = ask(client, png(pixels), box=f"{left},{top},{right},{bottom}").text
    (expected,) = resnet.predict_pixels([pixels[top:bottom, left:right]])
    (whole,) = resnet.predict_pixels([pixels])
    (swapped,) = resnet.predict_pixels([pixels[left:right, top:bottom]])
    shown = number(html) / 100
    assert shown == pytest.approx(expected.positive_probability, abs=6e-4)
    for other in (whole, swapped):  # which tell the region apart from what it is not
        assert abs(other.positive_probability - expected.positive_probability) > 2e-3
    assert 'data-box="30,60,230,200"' in html
    assert 'name="left" type="number" min="0" value="30"' in html
    assert 'name="bottom" type="number" min="0" value="200"' in html
    assert "The figures beside it are of whole images" in html


def test_frame_that_was_chosen_is_the_one_that_is_assessed(client: TestClient, resnet: Predictor) -> None:
    frames = [scan(4), scan(3, "benign"), scan(12)]
    content = clip(frames)
    expected = [one.positive_probability for one in resnet.predict_pixels(frames)]
    assert min(abs(a - b) for a, b in ((expected[0], expected[1]), (expected[1], expected[2]))) > 2e-3
    for place in (1, 2, 3):
        html = ask(client, content, frame=str(place)).text
        assert number(html) / 100 == pytest.approx(expected[place - 1], abs=6e-4)
        assert f"This answer is of frame {place}, chosen by you." in html
        assert f'data-frame="{place}"' in html
        assert f'name="frame" min="1" max="3" value="{place}"' in html
    proposed = ask(client, content).text
    assert "the sharpest, which is proposed" in proposed
    assert 'data-frame=""' in proposed
    assert "Unforgettable" not in proposed


def test_one_image_of_an_archive_is_found_by_its_content(client: TestClient, resnet: Predictor) -> None:
    images = [png(scan(4)), png(scan(3, "benign"))]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for place, content in enumerate(images):
            archive.writestr(f"case/{place}.png", content)
    html = ask(client, buffer.getvalue(), "all.zip", image=str(crc32(images[1]))).text
    (expected,) = resnet.predict([images[1]])
    assert number(html) / 100 == pytest.approx(expected.positive_probability, abs=6e-4)
    assert "case/1.png" in html
    unknown = ask(client, buffer.getvalue(), "all.zip", image="1")
    assert (unknown.status_code, unknown.json()["detail"]) == (
        422,
        "the file is not the one that was assessed; please choose it again",
    )
    assert "say which one is meant" in ask(client, buffer.getvalue(), "all.zip").json()["detail"]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"box": "1,2,3"}, "box must be left,top,right,bottom"),
        ({"box": "0,0,9999,50"}, "does not lie in it"),
        ({"frame": "0"}, "frame must be a whole number from 1 on"),
        ({"frame": "2"}, "there is no frame 2"),
        ({"model": "other"}, "there is no model 'other'"),
        ({"as": "exe"}, "the answer cannot be saved as 'exe'"),
    ],
)
def test_wrong_question_is_one_sentence(client: TestClient, fields: dict[str, str], sentence: str) -> None:
    answer = ask(client, png(scan()), **fields)
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]


def test_answer_to_keep_says_all_and_names_nobody(client: TestClient, resnet: Predictor) -> None:
    content = png(scan())
    (expected,) = resnet.predict([content])
    digest = hashlib.sha256(content).hexdigest()
    saved = {kind: ask(client, content, **{"as": kind}) for kind in ("json", "png", "pdf")}
    for kind, answer in saved.items():
        assert answer.headers["content-disposition"] == f'attachment; filename="medsharp-answer-{digest[:8]}.{kind}"'
        assert b"Doe" not in answer.content
    facts = json.loads(saved["json"].content)
    assert facts["notice"] == "Not for diagnostic use."
    assert facts["positive_probability"] == pytest.approx(expected.positive_probability, abs=1e-6)
    assert (facts["model"], facts["digest"]) == ("busi-resnet18", resnet.digest)
    assert (facts["image_sha256"], facts["region"], facts["frame"]) == (digest, None, None)
    assert facts["threshold"] == resnet.spec.operating_point.threshold
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", facts["time"])
    sheet = Image.open(io.BytesIO(saved["png"].content))
    assert sheet.size == (1240, 1753)
    assert sheet.text["Description"] == "Not for diagnostic use."  # type: ignore[attr-defined]
    assert saved["pdf"].content.startswith(b"%PDF-")
    assert b"Not for diagnostic use." in saved["pdf"].content
    assert b"CIDFontType2" in saved["pdf"].content  # text that can be searched, not outlines
    part = json.loads(ask(client, content, box="30,60,230,200", **{"as": "json"}).content)
    assert part["region"] == {"top": 60, "left": 30, "bottom": 200, "right": 230}


def test_refusal_can_be_kept_and_has_no_number(client: TestClient) -> None:
    noise = png(np.full((100, 120), 3, dtype=np.uint8))
    html = ask(client, noise).text
    assert "No answer." in html
    assert "Assess this region" in html  # a part of a refused image may well be judged
    facts = json.loads(ask(client, noise, **{"as": "json"}).content)
    assert (facts["status"], facts["positive_probability"], facts["probabilities"]) == ("refused", None, None)
    assert facts["advice"]
    assert facts["meaning"] == []
    assert ask(client, noise, **{"as": "pdf"}).content.startswith(b"%PDF-")


def test_simulated_examples_are_given_and_no_others(client: TestClient) -> None:
    assert Image.open(io.BytesIO(client.get("/page/examples/1").content)).size == (256, 256)
    assert [client.get(f"/page/examples/{number}").status_code for number in (0, 4)] == [404, 404]


@pytest.fixture(scope="module")
def shipped() -> Background:
    spec = read_bundle(MODELS / "bus-lite0", verify=False)
    validation = Validation.read(spec, MODELS / "bus-lite0")
    assert validation is not None
    return Background(spec, validation, tuple(validation.rates(spec.operating_point.threshold)))


def test_meaning_of_a_score_is_the_count_of_malignant_among_the_hundred_nearest(shipped: Background) -> None:
    table = pd.read_csv(MODELS / "bus-lite0" / "validation.csv").sort_values("p_malignant", kind="stable")
    below = int((table["p_malignant"] < 0.3).sum())
    near = table.iloc[below - 50 : below + 50]
    malignant = int((near["label"] == "malignant").sum())
    assert malignant not in (50, 100 - malignant)  # the other class would give another number
    low, high = (f"{100 * near['p_malignant'].iloc[place]:.1f}" for place in (0, -1))
    words = score_meaning(shipped, 0.3)
    assert words.startswith(
        f"Of the 100 lesions in the validation data that scored most like this one (from {low}{SPACE}% to "
        f"{high}{SPACE}%), {malignant} were malignant, 95{SPACE}% interval "
    )
    assert "In all of these data 32 of 100 were" in words


def test_meaning_that_is_not_known_is_said_not_to_be(shipped: Background, resnet: Predictor) -> None:
    few = Background(resnet.spec, Validation.read(resnet.spec, resnet.folder))
    assert "the 93 validation images are too few to have 20 that scored alike" in score_meaning(few, 0.3)
    assert "carries no validation predictions" in score_meaning(Background(resnet.spec), 0.3)
    assert "No validation image scored so high. Of the 100 that scored highest" in score_meaning(shipped, 0.9999)


def test_classes_that_remain_are_told_where_it_is_not_one() -> None:
    assert (
        undecided(("benign", "malignant")) == f"Benign and malignant remain possible at a rate of error of 10{SPACE}%."
    )
    assert undecided(()).startswith(f"No class is likely enough to be believed at a rate of error of 10{SPACE}%")
    assert undecided(("malignant",)) == undecided(None) == ""


def test_a_score_in_between_leaves_both_classes_open_on_card_and_paper(shipped: Background) -> None:
    both = Assessment(
        Prediction(
            "x.png", {"benign": 0.6, "malignant": 0.4}, 0.4, prediction_set=("benign", "malignant"), threshold=0.1
        )
    )
    assert "Benign and malignant remain possible" in detail(both, shipped)
    facts = json.loads(on_paper("json", both, b"content", shipped).body)
    assert facts["prediction_set"] == ["benign", "malignant"]
    assert any(words.startswith("Benign and malignant remain possible") for words in facts["meaning"])


def test_what_it_did_at_a_hospital_left_out_stands_in_its_own_numbers(shipped: Background) -> None:
    cairo, rio = elsewhere(shipped)
    assert rio == (
        "At INCA, Rio de Janeiro, left out of training, a model made in the same way called about 1 of 2 images of "
        f"benign lesions suspicious (50.9{SPACE}%, 95{SPACE}% interval 47.6{SPACE}% to 54.0{SPACE}%) and found "
        f"91.1{SPACE}% of the malignant ones (95{SPACE}% interval 88.1{SPACE}% to 93.8{SPACE}%)."
    )
    assert "about 3 of 4 images of benign lesions suspicious (75.8" in cairo
    site = HeldOut(site="Here", images=9, patients=9, positives=3, figures={"specificity": Figure(value=None)})
    silent = shipped.spec.model_copy(update={"held_out": (site,)})
    assert elsewhere(Background(silent)) == []
    assert "Not measured at a hospital left out" in elsewhere(Background(silent.model_copy(update={"held_out": ()})))[0]


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.8, "about 4 of 5"), (0.509, "about 1 of 2"), (0.758, "about 3 of 4"), (0.0, "hardly any"), (1.0, "nearly all")],
)
def test_share_is_so_many_of_a_few(share: float, words: str) -> None:
    assert out_of(share) == words


def test_slider_has_the_rates_of_its_thresholds_and_starts_at_the_frozen_one(shipped: Background) -> None:
    html = threshold_slider(shipped, 0.05)
    found = re.search(r"data-rates='([^']*)'", html)
    assert found is not None
    rates = json.loads(found[1].replace("&quot;", '"'))
    start = int(re.findall(r'value="(\d+)"', html)[0])
    assert rates[start]["threshold"] == pytest.approx(shipped.threshold, abs=1e-8)
    table = pd.read_csv(MODELS / "bus-lite0" / "validation.csv")
    positive = (table["label"] == "malignant").to_numpy()
    for one in (rates[5], rates[start], rates[90]):
        called = (table["p_malignant"] >= one["threshold"]).to_numpy()
        assert one["sensitivity"] == pytest.approx(called[positive].mean(), abs=2e-3)
        assert one["specificity"] == pytest.approx((~called[~positive]).mean(), abs=2e-3)
        assert one["sensitivity_interval"][0] <= one["sensitivity"] <= one["sensitivity_interval"][1]
    assert 'sensitivity <span class="ms-sensitivity">95.1' in html
    assert "the operating point of this model stays 8.8" in html
    assert 'class="ms-would">below' in html
    assert 'class="ms-would">at or above' in threshold_slider(shipped, 0.09)


def test_distance_is_told_in_odds_too() -> None:
    assert odds(0.5, 0.1) == "Its odds are 9.0 times those of the operating point."
    assert odds(0.1, 0.5) == "Its odds would have to be 9.0 times as high to reach the operating point."
