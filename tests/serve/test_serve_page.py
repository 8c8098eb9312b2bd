from __future__ import annotations

import functools
import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from medsharp.inference import Predictor
from serve import cards
from serve.assess import Assessor
from serve.uploads import private_cache

# Gradio's summary of its queue sets a pandas option that pandas 3 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated")


def upload(client: TestClient, name: str, content: bytes) -> str:
    answer = client.post("/gradio_api/upload", files=[("files", (name, content))])
    assert answer.status_code == 200, answer.text
    return str(answer.json()[0])


def assess(client: TestClient, paths: list[str]) -> str:
    """Do what the page's script does after an upload, and return the HTML that it shows."""
    data = [[{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]]
    event = client.post("/gradio_api/call/assess", json={"data": data}).json()["event_id"]
    stream = client.get(f"/gradio_api/call/assess/{event}").text
    assert "event: complete" in stream, stream
    html, cleared = json.loads(stream.split("data: ", 1)[1].splitlines()[0])
    assert cleared is None
    return str(html)


def files_left() -> list[Path]:
    return [path for path in private_cache().rglob("*") if path.is_file()]


def config(client: TestClient) -> dict[str, Any]:
    answer = client.get("/config")
    assert answer.status_code == 200
    return dict(answer.json())


def mounted(client: TestClient) -> Any:
    """Return the application that Gradio mounted."""
    app: Any = client.app
    return app.router.routes[-1].app


def test_page_answers_and_bears_the_notice(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert "Not for diagnostic use" in answer.text
    assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]


def test_page_asks_no_other_host_and_sends_no_analytics(client: TestClient) -> None:
    settings = config(client)
    assert settings["analytics_enabled"] is False
    assert client.get("/monitoring").status_code in (401, 403, 404)
    assert "//" not in client.get("/theme.css").text.replace("http://www.w3.org/2000/svg", "")
    assert "default-src 'self'" in client.get("/").headers["content-security-policy"]


def test_upload_shows_probability_operating_point_decision_and_two_pictures(
    client: TestClient, predictor: Predictor, png: bytes
) -> None:
    html = assess(client, [upload(client, "lesion.png", png)])
    expected = predictor.predict([png], names=["lesion.png"])[0].positive_probability
    threshold = predictor.spec.operating_point.threshold
    shown = re.search(r'ms-number">(?:&[lg]t; )?([\d.]+)', html)
    assert shown is not None
    assert float(shown[1]) == pytest.approx(100 * expected, abs=0.11)
    assert f'ms-mark" style="left:{100 * threshold:.2f}%' in html
    assert ("At or above the operating point" in html) == (expected >= threshold)
    assert ("Below the operating point" in html) == (expected < threshold)
    assert html.count('src="data:image/png;base64,') == 2


def test_upload_is_gone_after_the_request(client: TestClient, png: bytes) -> None:
    path = Path(upload(client, "Doe^Jane.png", png))
    assert path.exists()
    assess(client, [str(path)])
    assert not path.exists()
    assert not path.parent.exists()
    assert files_left() == []


def test_bad_upload_is_gone_too_and_explained(client: TestClient) -> None:
    html = assess(client, [upload(client, "Doe.png", b"text")])
    assert "Not assessed" in html
    assert "Doe.png" in html
    assert "Traceback" not in html
    assert files_left() == []


def test_gradio_remembers_neither_answer_nor_name(client: TestClient, png: bytes) -> None:
    assess(client, [upload(client, "Unforgettable.png", png)])
    assert not mounted(client).state_holder.session_data
    assert "Unforgettable" not in repr(mounted(client).get_blocks().temp_file_sets)


def test_upload_cannot_be_fetched_by_anyone(client: TestClient, png: bytes) -> None:
    path = upload(client, "a.png", png)
    for route in ("/gradio_api/file=", "/gradio_api/file/", "/file=", "/file/", "/gradio_api/stream/"):
        assert client.get(route + path).status_code == 404
    assess(client, [path])


@pytest.mark.parametrize("extra", [{}, {"is_stream": True}])
def test_files_that_were_never_uploaded_are_not_read(
    client: TestClient, tmp_path: Path, png: bytes, extra: dict[str, bool]
) -> None:
    elsewhere = tmp_path / "elsewhere.png"
    elsewhere.write_bytes(png)
    for path in (str(elsewhere), "https://example.org/a.png"):
        data = [[{"path": path, "meta": {"_type": "gradio.FileData"}, **extra}]]
        answer = client.post("/gradio_api/call/assess", json={"data": data})
        stream = client.get(f"/gradio_api/call/assess/{answer.json()['event_id']}").text
        assert "ms-number" not in stream
        assert "event: error" in stream or "only uploaded files" in stream.lower()
    assert elsewhere.exists()
    assert files_left() == []


def test_uploads_pass_through_a_folder_of_this_user_only(client: TestClient, png: bytes) -> None:
    path = Path(upload(client, "a.png", png))
    cache = private_cache()
    assert path.is_relative_to(cache)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assess(client, [str(path)])


def test_folder_is_removed_when_the_server_stops(make_client: Any, png: bytes) -> None:
    client = make_client()
    with client:
        upload(client, "left.png", png)
        assert files_left()
    assert not private_cache().exists()


def test_several_uploads_give_a_table_with_the_bad_one_explained(client: TestClient, png: bytes) -> None:
    html = assess(client, [upload(client, name, content) for name, content in (("a.png", png), ("b.png", b"text"))])
    assert "2 images, 1 of them could not be assessed" in html
    assert html.count("<tr") == 3
    assert files_left() == []


@pytest.mark.parametrize("count", [1, 2])
def test_names_are_escaped(predictor: Predictor, png: bytes, count: int) -> None:
    names = ["<img src=x onerror=alert(1)>.png"] * count
    for content in (png, b"text"):
        html = cards.result(
            Assessor(predictor, 10_000_000).assess([content] * count, names), "malignant", "benign", 0.5
        )
        assert "<img src=x" not in html
        assert "&lt;img src=x" in html


def test_every_simulated_example_is_assessed_and_labelled(client: TestClient) -> None:
    page = mounted(client).get_blocks()
    buttons = [block for block in page.blocks.values() if type(block).__name__ == "Button"]
    assert len(buttons) == 3
    assert all(button.value.startswith("Simulated") for button in buttons)
    shown = [event.fn() for event in page.fns.values() if isinstance(event.fn, functools.partial)]
    assert len(shown) == 3
    assert all("simulated image" in html and "ms-number" in html for html in shown)


def test_page_says_what_the_model_is(client: TestClient, predictor: Predictor) -> None:
    text = json.dumps(config(client))
    assert predictor.spec.name in text
    assert predictor.spec.files["model.onnx"] in text
    assert "Model card" in text
