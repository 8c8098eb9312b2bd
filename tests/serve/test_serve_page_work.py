"""Long work of the page: a batch with and without labels, one image corrupted, one image asked of all models."""

from __future__ import annotations

import base64
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
from starlette.testclient import TestClient

from medsharp.data.phantom import simulate_image
from medsharp.evaluation.report import make_document, render_page
from medsharp.inference import Predictor
from medsharp.inference.external import evaluate_internal, evaluate_manifest
from medsharp.inference.table import frozen_columns, predictions_table
from medsharp.robustness.corruptions import corrupt, list_corruptions
from serve import Limits, create_app
from serve.engine import BusyError, Engine
from serve.security.settings import secure
from serve.uploads.uploads import private_cache

pytestmark = pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated")

MODELS = Path(__file__).resolve().parents[2] / "models"
LABELS = ("benign", "malignant")


def scan(seed: int, label: str) -> np.ndarray:
    return simulate_image("A", label, np.random.default_rng(seed)).pixels


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def images() -> dict[str, bytes]:
    """Twelve images in two folders, called alike."""
    return {f"{LABELS[n % 2]}/{n // 2}.png": png(scan(n, LABELS[n % 2])) for n in range(12)}


@pytest.fixture(scope="module")
def resnet() -> Predictor:
    return Predictor.load(MODELS / "busi-resnet18", threads=1)


@pytest.fixture(scope="module")
def client(resnet: Predictor, predictor: Predictor) -> Iterator[TestClient]:
    with TestClient(create_app([resnet, predictor])) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_is_left(client: TestClient) -> Iterator[None]:
    yield
    app: Any = client.app
    assert app.state.memory.held == 0
    assert [path for path in private_cache().rglob("*") if path.is_file()] == []


def packed(images: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in images.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def steps(answer: Any) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def batch(client: TestClient, content: bytes, labels: str | None = None, **fields: str) -> Any:
    if labels is not None:
        fields |= {"labels": base64.b64encode(labels.encode()).decode(), "labels_name": "labels.csv"}
    return client.post("/page/batch", files=[("files", ("all.zip", content))], data=fields)


def test_batch_tells_its_progress_and_gives_the_table_that_predict_writes(
    client: TestClient, resnet: Predictor, images: dict[str, bytes]
) -> None:
    given = {**images, "words.png": b"words"}
    told = steps(batch(client, packed(given)))
    assert [(step["done"], step["total"]) for step in told[:-1]] == [(0, 13), (8, 13), (13, 13)]
    expected = predictions_table(resnet.predict(list(given.values()), names=list(given)), resnet.spec.classes)
    expected = expected.assign(**frozen_columns(resnet.spec))
    table = pd.read_csv(io.StringIO(told[-1]["csv"]), keep_default_na=False)
    assert list(table.columns) == list(expected.columns)
    assert table["image"].tolist() == list(given)
    shares = [float(value or "nan") for value in table["p_malignant"]]
    np.testing.assert_allclose(shares, expected["p_malignant"], atol=1e-6)
    html = told[-1]["html"]
    assert html.count("<tr ") == 13
    assert "1 without an answer" in html
    assert "report" not in told[-1]


def test_labels_are_of_the_images_that_they_name_and_make_the_report(
    client: TestClient, resnet: Predictor, images: dict[str, bytes]
) -> None:
    # In another order than the images, and one is left out.
    names = sorted(images, key=lambda name: name[::-1])[1:]
    rows = [f"{name},{name.split('/')[0]},P{number}" for number, name in enumerate(names)]
    told = steps(batch(client, packed(images), "\n".join(["image,label,patient", *rows])))
    table = pd.read_csv(io.StringIO(told[-1]["csv"]))
    (left,) = set(images) - set(names)
    assert table["image"].tolist() == [*names, left]
    assert pd.isna(table["label"].iloc[-1])
    table = table.iloc[:-1]
    assert table["label"].tolist() == [name.split("/")[0] for name in names]
    assert table["patient"].tolist() == [f"P{number}" for number in range(len(names))]
    expected = {one.name: one.positive_probability for one in resnet.predict([*images.values()], names=[*images])}
    np.testing.assert_allclose(table["p_malignant"], [expected[name] for name in names], atol=1e-6)
    assert "1 of 12 images have no row in labels.csv" in told[-1]["html"]
    report = told[-1]["report"]
    assert report.lstrip().lower().startswith("<!doctype html")
    assert "Not for diagnostic use" in report


def test_labels_find_images_of_long_names_that_differ_at_their_end(
    client: TestClient, images: dict[str, bytes]
) -> None:
    contents = [images["benign/0.png"], images["malignant/1.png"]]
    names = [f"{'x' * 100}_{label}.png" for label in LABELS]
    table = "\n".join(["image,label", *(f"{name},{label}" for name, label in reversed([*zip(names, LABELS)]))])
    sent = {"labels": base64.b64encode(table.encode()).decode(), "labels_name": "labels.csv"}
    archive = packed(dict(zip(names, contents)))
    for files in ([*zip(names, contents)], [("all.zip", archive)]):
        told = steps(client.post("/page/batch", files=[("files", file) for file in files], data=sent))
        rows = pd.read_csv(io.StringIO(told[-1]["csv"]))
        assert rows["image"].tolist() == names[::-1]
        assert rows["label"].tolist() == [*LABELS[::-1]]
        assert rows["p_malignant"].iloc[0] > rows["p_malignant"].iloc[1]


def test_report_is_the_one_that_evaluate_writes(
    client: TestClient, resnet: Predictor, images: dict[str, bytes], tmp_path: Path
) -> None:
    # In another order than the images, one of which is left out, and one of which is there twice.
    images = {**dict(list(images.items())[:5]), "benign/copy.png": images["benign/0.png"], **images}
    names = [*reversed(images)][1:]
    # As hospitals write it: a heading of their own, a site in two spellings, and 0 where nothing is excluded.
    lines = ["image,label,Patient ID,Site,Exclude"]
    for n, name in enumerate(names):
        lines.append(f"{name},{name.split('/')[0]},P{n // 2},{('North', 'NORTH', 'South')[n % 3]},0")
    report = steps(batch(client, packed(images), "\n".join(lines)))[-1]["report"]
    for name, content in images.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    (tmp_path / "manifest.yaml").write_text("name: Images of this batch\n")
    external, _ = evaluate_manifest(resnet, tmp_path, out=tmp_path / "out")
    internal = evaluate_internal(resnet.spec, resnet.folder)
    assert internal is not None
    expected = render_page(make_document([internal, external], resnet.spec.model_dump(mode="json")))
    assert "exact duplicate" in report
    assert "patients" in report
    assert words(report) == words(expected)


def words(page: str) -> str:
    """Return what a page says, without the minute at which it was made."""
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", page)


def test_batch_on_which_the_model_was_trained_is_said_to_be(client: TestClient, images: dict[str, bytes]) -> None:
    labels = "\n".join(["image,label", *(f"{name},{name.split('/')[0]}" for name in images)])
    told = steps(batch(client, packed({**images, "benign/copy.png": images["benign/0.png"]}), labels))
    assert "LEAK" not in told[-1]["report"]
    copies = labels + "\nbenign/copy.png,benign"
    report = steps(batch(client, packed({**images, "benign/copy.png": images["benign/0.png"]}), copies))[-1]["report"]
    assert "exact duplicate" in report


def test_batch_of_one_class_has_answers_and_no_report(client: TestClient, images: dict[str, bytes]) -> None:
    only = {name: content for name, content in images.items() if name.startswith("benign")}
    told = steps(batch(client, packed(only), "\n".join(["image,label", *(f"{name},benign" for name in only)])))
    assert "report" not in told[-1]
    assert "one class only" in told[-1]["no_report"]
    assert told[-1]["html"].count("<tr ") == 6


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ("image,label\nbenign/0.png,benin\n", "labels.csv, row 2: label 'benin' is not one of benign, malignant"),
        ("image,label\nnone.png,benign\n", "labels.csv, row 2: no image called 'none.png' was sent"),
        ("image\nbenign/0.png\n", "labels.csv"),
    ],
)
def test_wrong_labels_are_one_sentence_before_anything_is_assessed(
    client: TestClient, images: dict[str, bytes], labels: str, sentence: str
) -> None:
    answer = batch(client, packed(images), labels)
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


def test_damaged_labels_and_unknown_models_are_refused(client: TestClient, images: dict[str, bytes]) -> None:
    content = [("files", ("all.zip", packed(images)))]
    assert client.post("/page/batch", files=content, data={"labels": "%%%"}).status_code == 422
    assert "no model 'x'" in client.post("/page/batch", files=content, data={"model": "x"}).json()["detail"]


def test_many_files_are_as_many_as_an_archive_may_hold(resnet: Predictor, images: dict[str, bytes]) -> None:
    with TestClient(create_app(resnet, limits=Limits(max_files=1, max_archive_files=3))) as client:
        files = [("files", (f"{number}.png", content)) for number, content in enumerate(images.values())]
        assert client.post("/page/batch", files=files[:3]).status_code == 200
        assert client.post("/page/batch", files=files[:4]).status_code == 413


def rows_of(html: str) -> dict[str, list[str]]:
    """Name of each corruption to the text of its cells."""
    found = {}
    for row in re.findall(r"<tr><th scope=\"row\">.*?</tr>", html):
        name = re.search(r'scope="row">(.*?)<', row)
        assert name is not None
        found[name[1]] = [re.sub("<[^>]+>", " ", cell).strip() for cell in re.findall(r"<td.*?</td>", row)[1:]]
    return found


def corrupted(client: TestClient, content: bytes, **fields: str) -> Any:
    return client.post("/page/robustness", files=[("files", ("a.png", content))], data=fields)


def test_curve_is_of_the_image_under_each_corruption_at_each_severity(client: TestClient, resnet: Predictor) -> None:
    pixels = scan(4, "malignant")
    told = steps(corrupted(client, png(pixels), family="annotation"))
    rows = rows_of(told[-1]["html"])
    names = list_corruptions("annotation")
    assert list(rows) == [name.replace("_", " ") for name in names]
    for name in names:
        images = [corrupt(pixels, name, severity) for severity in (1, 3, 5)]
        for cell, expected in zip(rows[name.replace("_", " ")], resnet.predict_pixels(images), strict=True):
            if expected.side is None:
                assert cell == "no answer"
            else:
                assert float(cell.split(SPACE)[0]) == pytest.approx(100 * expected.positive_probability, abs=0.06)
                (clean,) = resnet.predict_pixels([pixels])
                assert ("changes" in cell) == (expected.side != clean.side)
    assert [step["done"] for step in told[:-1]] == [0, *range(1, len(names) + 1)]


SPACE = "\N{NO-BREAK SPACE}"


def test_answer_without_calipers_is_that_of_the_image_without_them(client: TestClient, resnet: Predictor) -> None:
    from medsharp.preprocess import find_drawings, remove_overlays

    drawn = corrupt(scan(4, "malignant"), "calipers", 5)
    assert find_drawings(drawn).calipers.any()
    html = steps(corrupted(client, png(drawn), family="annotation"))[-1]["html"]
    with_them, without = resnet.predict_pixels([drawn, remove_overlays(drawn)])
    shown = re.findall(r"<figcaption>(.*?): <b>(?:just below )?([\d.]+)", html)
    assert [words for words, _ in shown] == ["As it is", "Without them, filled from around"]
    for (_, value), expected in zip(shown, (with_them, without), strict=True):
        assert float(value) == pytest.approx(100 * expected.positive_probability, abs=0.06)
    assert "Found: calipers" in html
    plain = steps(corrupted(client, png(scan(3, "benign")), family="annotation"))[-1]["html"]
    assert ("No calipers, text or ruler were found" in plain) == (not find_drawings(scan(3, "benign")).calipers.any())


def test_refused_image_has_no_curve_and_an_unknown_family_none_either(client: TestClient) -> None:
    answer = corrupted(client, png(np.full((100, 120), 3, dtype=np.uint8)))
    assert answer.status_code == 422
    assert "has no answer that could change" in answer.json()["detail"]
    assert "no family 'x'" in corrupted(client, png(scan(4, "malignant")), family="x").json()["detail"]


def test_all_models_are_asked_of_one_image(client: TestClient, resnet: Predictor, predictor: Predictor) -> None:
    content = png(scan(4, "malignant"))
    html = steps(client.post("/page/compare", files=[("files", ("a.png", content))], data={"box": "30,60,230,200"}))[
        -1
    ]["html"]
    pixels = scan(4, "malignant")[60:200, 30:230]
    for model in (resnet, predictor):
        (expected,) = model.predict_pixels([pixels])
        row = re.search(rf'<th scope="row">{model.spec.name}</th>(.*?)</tr>', html)
        assert row is not None
        if expected.side is None:
            assert "No answer" in row[1]
        else:
            assert f"{100 * expected.positive_probability:.1f}{SPACE}%" in row[1]
            assert f'ms-pill ms-{expected.side}"' in row[1]
            assert f"{100 * model.spec.operating_point.threshold:.1f}{SPACE}%" in row[1]


def test_whoever_leaves_takes_the_images_along(make_client: Callable[..., TestClient], held: Any) -> None:
    """The work of a visitor who has left is given up, and nothing of it is kept."""
    import asyncio

    app = create_app(held)
    content = packed({f"{n}.png": png(scan(4, "malignant")) for n in range(3)})
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.zip"\r\n\r\n' + content + b"\r\n--x--\r\n"

    async def leave() -> None:
        said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        said.put_nowait({"type": "http.request", "body": body, "more_body": False})
        begun = asyncio.Event()

        async def send(message: Any) -> None:
            if message.get("body"):
                begun.set()

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "path": "/page/batch",
            "raw_path": b"/page/batch",
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": [(b"content-type", b"multipart/form-data; boundary=x"), (b"host", b"localhost")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        asking = asyncio.create_task(app(scope, said.get, send))  # type: ignore[arg-type]
        await begun.wait()
        assert app.state.memory.held > 0
        said.put_nowait({"type": "http.disconnect"})
        await asking
        assert app.state.memory.held == 0

    asyncio.run(leave())


def test_everything_that_the_page_answers_is_recorded_with_who_asked(
    resnet: Predictor, images: dict[str, bytes], tmp_path: Path
) -> None:
    log = tmp_path / "audit.jsonl"
    app = create_app(resnet, security=secure("127.0.0.1", auth="ward:a long password", audit=log))
    two = dict(list(images.items())[:2])
    content = png(scan(4, "malignant"))
    with TestClient(app, base_url="http://localhost") as client:
        client.auth = ("ward", "a long password")
        assert client.post("/page/answer", files=[("files", ("a.png", content))]).status_code == 200
        steps(batch(client, packed(two)))
        uploaded = client.post("/gradio_api/upload", files=[("files", ("b.png", content))])
        data = [[{"path": uploaded.json()[0], "meta": {"_type": "gradio.FileData"}}]]
        event = client.post("/gradio_api/call/assess", json={"data": data}).json()["event_id"]
        assert "event: complete" in client.get(f"/gradio_api/call/assess/{event}").text
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    digests = [hashlib.sha256(one).hexdigest() for one in (content, *two.values(), content)]
    assert len(lines) == 4
    assert all(digest in json.dumps(line) for line, digest in zip(lines, digests, strict=True))
    assert all("ward" in json.dumps(line) and resnet.digest in json.dumps(line) for line in lines)
    assert ".png" not in log.read_text()


def test_batch_that_has_begun_waits_where_the_server_is_busy(
    resnet: Predictor, images: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = iter([False, True, False])  # the second part of the batch is refused once
    assess = Engine.assess

    async def busy(engine: Engine, *given: Any, **options: Any) -> Any:
        if next(refused):
            raise BusyError("the server is busy")
        return await assess(engine, *given, **options)

    monkeypatch.setattr(Engine, "assess", busy)
    with TestClient(create_app(resnet)) as client:
        told = steps(batch(client, packed(images)))
    assert len(pd.read_csv(io.StringIO(told[-1]["csv"]))) == 12
    assert next(refused, None) is None
