"""Several bundles by name, reloaded while requests are answered; stopping; what is counted."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from medsharp.bundle import read_bundle, write_spec
from medsharp.data.phantom import simulate_image
from medsharp.errors import InputError
from medsharp.inference import Predictor
from serve import Limits, create_app
from serve.engine import job
from serve.graceful import GracefulServer

START = (
    "import functools, serve, sys; "
    "serve.run(sys.argv[1], port=0, open_browser=False, announce=functools.partial(print, flush=True))"
)


@pytest.fixture(scope="module")
def scan() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(simulate_image("A", "malignant", np.random.default_rng(4)).pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copy the bundle, or write the copy again with other values in its description."""

    def copy(folder: str, **changed: Any) -> Path:
        path = tmp_path / folder
        if not path.exists():
            shutil.copytree(bundle, path)
        write_spec(path, read_bundle(path, verify=False).model_copy(update=changed))
        return path

    return copy


def ask(client: TestClient, scan: bytes, **query: str) -> Any:
    return client.post("/v1/predict", params=query, content=scan, headers={"content-type": "image/png"})


def count(client: TestClient, name: str, **labels: str) -> float:
    app: Any = client.app
    return app.state.metrics.registry.get_sample_value(name, labels) or 0.0


def test_each_request_is_answered_by_the_model_that_it_names(copy: Any, scan: bytes) -> None:
    first = copy("a", name="first")
    point = read_bundle(first).operating_point.model_copy(update={"threshold": 0.0123})
    second = copy("b", name="second", temperature=4.0, operating_point=point)
    client = TestClient(create_app([first, second]))
    assert client.get("/v1/models").json()["models"] == ["first", "second"]
    queries: dict[str, dict[str, str]] = {"": {}, **{name: {"model": name} for name in ("first", "second")}}
    answers = {name: ask(client, scan, **query).json()[0] for name, query in queries.items()}
    assert [answers[name]["model"] for name in answers] == ["first", "first", "second"]
    assert answers["second"]["threshold"] == 0.0123 != answers["first"]["threshold"]
    for name, folder in (("first", first), ("second", second)):
        predictor = Predictor.load(folder)
        expected = predictor.predict([scan])[0]
        assert answers[name]["positive_probability"] == pytest.approx(expected.positive_probability, abs=1e-6)
        assert answers[name]["digest"] == predictor.digest
        assert answers[name]["threshold"] == predictor.spec.operating_point.threshold
        assert client.get(f"/v1/models/{name}").json()["model"] == name
    assert client.get("/model").json()["model"] == "first"
    form = client.post("/predict", files=[("files", ("a.png", scan))], data={"model": "second"})
    assert form.json()[0]["model"] == "second"
    for refused in (ask(client, scan, model="secnod"), client.get("/v1/models/secnod")):
        assert refused.status_code == 404
        assert "there is no model 'secnod' here; did you mean second?" in refused.json()["detail"]
    told = client.get("/metrics").text
    assert f'medsharp_model_info{{digest="{Predictor.load(second).digest}",model="second"}} 1.0' in told


def test_two_bundles_of_one_name_are_refused(copy: Any) -> None:
    first, second = copy("a", name="same"), copy("b", name="same")
    with pytest.raises(InputError, match=rf"{first} and {second} are both called same"):
        create_app([first, second])
    with pytest.raises(InputError, match="no bundle was given"):
        create_app([])


class HeldFirst(Predictor):
    """Answers nothing until it is let go; `begun` is released when it is asked."""

    begun = threading.Semaphore(0)
    go = threading.Event()

    def predict_readings(self, read: Any) -> Any:
        self.begun.release()
        assert self.go.wait(60)
        return super().predict_readings(read)


def test_request_that_is_being_answered_during_a_reload_is_finished_by_the_model_that_began_it(
    copy: Any, scan: bytes
) -> None:
    folder = copy("a", name="one")
    plain = Predictor.load(folder)
    held = HeldFirst(plain.folder, plain.spec, plain.session)

    async def reloading() -> tuple[Any, Any]:
        app = create_app([held])
        old = app.state.models.default
        first = asyncio.create_task(old.engine.assess([scan], ["a.png"]))
        await asyncio.to_thread(held.begun.acquire)
        copy("a", temperature=4.0)
        await asyncio.to_thread(app.state.models.reload)
        assert app.state.models.names == ("one",)
        (renewed,) = await app.state.models.named("one").engine.assess([scan], ["a.png"])
        assert not first.done()
        held.go.set()
        (before,) = await first
        return before.prediction, renewed.prediction

    before, renewed = asyncio.run(reloading())
    assert before.digest == plain.digest
    assert before.positive_probability == pytest.approx(plain.predict([scan])[0].positive_probability, abs=1e-6)
    new = Predictor.load(folder)
    assert renewed.digest == new.digest != plain.digest
    assert renewed.positive_probability == pytest.approx(new.predict([scan])[0].positive_probability, abs=1e-6)


def test_damaged_bundle_leaves_the_old_one_serving_and_says_so(
    copy: Any, scan: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    good, other = copy("a", name="good"), copy("b", name="other")
    client = TestClient(create_app([good, other]))
    app: Any = client.app
    digests = {name: app.state.models[name].predictor.digest for name in ("good", "other")}
    app.state.models.reload()
    assert count(client, "medsharp_reloads_total", result="unchanged") == 2
    (good / "model.onnx").write_bytes(b"half of a file")
    copy("b", temperature=4.0)
    with caplog.at_level(logging.WARNING):
        app.state.models.reload()
    assert app.state.models["good"].predictor.digest == digests["good"]
    assert app.state.models["other"].predictor.digest != digests["other"]
    assert ask(client, scan, model="good").json()[0]["status"] in ("answered", "cautioned")
    assert "model good was not reloaded" in caplog.text
    assert "model.onnx was changed after it was written" in caplog.text
    assert count(client, "medsharp_reloads_total", result="failed") == 1
    assert count(client, "medsharp_reloads_total", result="loaded") == 1
    # One that takes the name of another is no better.
    with caplog.at_level(logging.WARNING):
        shutil.rmtree(good)
        copy("a", name="other")
        app.state.models.reload()
    assert app.state.models.names == ("good", "other")
    assert "both called other" in caplog.text


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system has no SIGHUP")
def test_running_server_loads_its_bundle_again_at_a_signal(copy: Any, scan: bytes) -> None:
    folder = copy("a", name="one")
    command = [sys.executable, "-c", START, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    request = urllib.request.Request(f"{address}v1/predict", scan, {"Content-Type": "image/png"})

    def digest() -> str:
        with urllib.request.urlopen(request) as answer:
            return str(json.load(answer)[0]["digest"])

    try:
        digests = [digest()]
        copy("a", temperature=4.0)
        process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 120
        while digests[-1] == digests[0] and time.monotonic() < end:
            digests.append(digest())
        assert digests[-1] == Predictor.load(folder).digest
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system has no SIGHUP")
def test_eight_clients_at_once_lose_no_answer_while_the_bundle_is_loaded_again(copy: Any, scan: bytes) -> None:
    folder = copy("a", name="one")
    command = [sys.executable, "-c", START, str(folder)]
    expected = [Predictor.load(folder).digest]
    answers: list[tuple[int, str]] = []
    over = threading.Event()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        request = urllib.request.Request(
            f"{process.stdout.readline().strip()}v1/predict", scan, {"Content-Type": "image/png"}
        )

        def ask_on() -> None:
            while not over.is_set():
                try:
                    with urllib.request.urlopen(request) as answer:
                        answers.append((answer.status, json.load(answer)[0]["digest"]))
                except OSError as error:
                    answers.append((getattr(error, "code", 0), str(error)))

        clients = [threading.Thread(target=ask_on) for _ in range(8)]
        try:
            for client in clients:
                client.start()
            for temperature in (4.0, 5.0, 6.0):
                copy("a", temperature=temperature)
                expected.append(Predictor.load(folder).digest)
                process.send_signal(signal.SIGHUP)
                end = time.monotonic() + 120
                while expected[-1] not in {digest for _, digest in answers[-8:]} and time.monotonic() < end:
                    time.sleep(0.02)
        finally:
            over.set()
            for client in clients:
                client.join()
            process.terminate()
    assert {status for status, _ in answers} == {200}, [one for one in answers if one[0] != 200]
    assert list(dict.fromkeys(digest for _, digest in answers)) == expected


SIGNALLED = """
import os, shutil, signal, sys
import serve.app

build = serve.app.create_app

def create_app(*given, **settings):
    app = build(*given, **settings)
    shutil.copytree(sys.argv[2], sys.argv[1], dirs_exist_ok=True)
    os.kill(os.getpid(), signal.SIGHUP)
    return app

serve.app.create_app = create_app
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system has no SIGHUP")
def test_signal_while_the_first_bundle_is_loaded_is_not_lost_and_ends_nothing(copy: Any) -> None:
    first = copy("a", name="one")
    point = read_bundle(first).operating_point.model_copy(update={"threshold": 0.0123})
    command = [sys.executable, "-c", SIGNALLED + START, str(first), str(copy("b", name="one", operating_point=point))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        threshold, end = 1.0, time.monotonic() + 120
        while threshold != 0.0123 and time.monotonic() < end:
            with urllib.request.urlopen(f"{address}model") as answer:
                threshold = json.load(answer)["threshold"]
        process.terminate()
    assert threshold == 0.0123


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system has no SIGHUP")
def test_server_that_loads_ends_when_its_terminal_is_closed(bundle: Path) -> None:
    terminal, its_end = os.openpty()
    loading = "lambda *_, **__: print('loading', flush=True) or time.sleep(60)"
    code = f"import time, serve.app; serve.app.create_app = {loading}\n{START}"
    command = [sys.executable, "-c", code, str(bundle)]
    with subprocess.Popen(
        command, stdin=its_end, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        os.close(its_end)
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=30) != 0


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system has no SIGHUP")
def test_server_stops_when_the_terminal_is_closed_in_which_it_was_started(bundle: Path) -> None:
    terminal, its_end = os.openpty()
    command = [sys.executable, "-c", START, str(bundle)]
    with subprocess.Popen(
        command, stdin=its_end, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        os.close(its_end)
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{address}healthz") as healthy:
            assert healthy.status == 200
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=120) == 0


def test_server_that_stops_finishes_what_it_has_and_takes_no_more(held: Any, scan: bytes) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        app = create_app(held)
        server = GracefulServer(app, uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        serving.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        request = urllib.request.Request(f"{address}/v1/predict", scan, {"Content-Type": "image/png"})
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(json.load(urllib.request.urlopen(request))))
        asking.start()
        held.begun.acquire()
        with urllib.request.urlopen(f"{address}/readyz") as ready:
            assert json.load(ready)["status"] == "ready"
        server.should_exit = True
        while app.state.admission.is_open:
            time.sleep(0.01)
        for asked in (f"{address}/readyz", request):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(asked)
            assert refused.value.code == 503
            refused.value.close()
        with urllib.request.urlopen(f"{address}/healthz") as healthy:
            assert healthy.status == 200
        held.go.set()
        asking.join()
        serving.join()
    assert answers[0][0]["status"] in ("answered", "cautioned")
    assert os.environ.get("GRADIO_TEMP_DIR") is None or not Path(os.environ["GRADIO_TEMP_DIR"]).exists()


def test_what_happens_is_counted_by_route_status_reason_and_check(
    make_client: Any, predictor: Predictor, scan: bytes, stub_checks: None
) -> None:
    client = make_client()
    name = predictor.spec.name
    files = [("files", pair) for pair in (("refuse-and-mark.png", scan), ("plain.png", scan), ("bad.png", b"words"))]
    assert client.post("/v1/predict", files=files).status_code == 200
    assert client.post("/v1/predict", files=files[2:]).status_code == 422
    assert client.get("/v1/models/other").status_code == 404
    assert client.get("/no/such/path/of/Jane/Doe").status_code == 404
    assert client.request("BREW", "/healthz").status_code == 405
    assert count(client, "medsharp_requests_total", route="/v1/predict", method="POST", status="200") == 1
    assert count(client, "medsharp_requests_total", route="/v1/predict", method="POST", status="422") == 1
    assert count(client, "medsharp_requests_total", route="/v1/models/{name}", method="GET", status="404") == 1
    assert count(client, "medsharp_images_total", model=name, status="refused") == 1
    assert count(client, "medsharp_images_total", model=name, status="failed") == 2
    assert count(client, "medsharp_failures_total", reason="unreadable") == 2
    assert count(client, "medsharp_findings_total", model=name, outcome="refusal", check="stub_photograph") == 1
    assert count(client, "medsharp_findings_total", model=name, outcome="caution", check="stub_dark") == 1
    assert count(client, "medsharp_batches_total", model=name, reason="idle") >= 1
    assert count(client, "medsharp_stage_seconds_count", stage="request") == 2
    assert count(client, "medsharp_stage_seconds_count", stage="decode") == 4
    assert count(client, "medsharp_queue_depth") == count(client, "medsharp_held_bytes") == 0
    told = client.get("/metrics")
    assert told.headers["content-type"].startswith("text/plain")
    assert "Doe" not in told.text
    assert "BREW" not in told.text
    assert "plain.png" not in told.text
    assert f'medsharp_batching{{model="{name}",setting="max_batch"}} 4.0' in told.text


def test_parts_of_an_answer_are_said_in_json_too(client: TestClient, scan: bytes) -> None:
    (whole,), (part,) = ask(client, scan).json(), ask(client, scan, box="10,20,200,220", heatmap="1").json()
    assert (whole["box"], whole["frame"], whole["size"]) == (None, None, [256, 256])
    assert part["box"] == {"left": 10, "top": 20, "right": 200, "bottom": 220}
    assert part["size"] == [256, 256]
    picture = Image.open(io.BytesIO(base64.b64decode(part["heatmap"].partition(",")[2])))
    assert picture.size == (190, 200)
    assert part["positive_probability"] != whole["positive_probability"]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"box": "1,2,3"}, "four whole numbers"),
        ({"box": "1,2,3,-4"}, "four whole numbers"),
        ({"box": "1,2,3,\u0664"}, "four whole numbers"),
        ({"frame": "0"}, "whole number from 1"),
        ({"frame": "1e3"}, "whole number from 1"),
        ({"heatmap": "yes"}, "heatmap must be 0 or 1"),
    ],
)
def test_wish_that_makes_no_sense_is_422(client: TestClient, scan: bytes, query: dict[str, str], sentence: str) -> None:
    answer = ask(client, scan, **query)
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]


def test_wish_of_one_image_is_refused_for_several_and_one_that_is_said_twice_must_be_the_same(
    client: TestClient, scan: bytes
) -> None:
    files = [("files", (name, scan)) for name in ("a.png", "b.png")]
    answer = client.post("/v1/predict", files=files, data={"frame": "1"})
    assert answer.status_code == 422
    assert "send it alone" in answer.json()["detail"]
    answer = client.post("/v1/predict", params={"heatmap": "0"}, files=files[:1], data={"heatmap": "1"})
    assert answer.status_code == 422
    assert "one thing in the address and another in the form" in answer.json()["detail"]


def test_image_that_the_server_fails_at_is_500_and_beside_others_200(
    client: TestClient, scan: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = job.decode

    def failing(content: bytes, name: str, *arguments: Any) -> Any:
        if name == "bad.png":
            raise MemoryError
        return decode(content, name, *arguments)

    monkeypatch.setattr(job, "decode", failing)
    files = [("files", (name, scan)) for name in ("bad.png", "good.png")]
    assert client.post("/v1/predict", files=files).status_code == 200
    answer = client.post("/v1/predict", files=files[:1])
    assert answer.status_code == 500
    assert "the server failed at it (MemoryError)" in answer.json()[0]["error"]
    assert client.app.state.memory.held == 0  # type: ignore[attr-defined]


def test_request_that_takes_too_long_is_504(make_client: Any, held: Any, scan: bytes) -> None:
    client = make_client(held, limits=Limits(deadline_seconds=0.05))
    answer = ask(client, scan)
    assert answer.status_code == 504
    assert "not answered within 0.05 seconds" in answer.json()["detail"]
    assert client.app.state.memory.held == 0
    assert count(client, "medsharp_requests_total", route="/v1/predict", method="POST", status="504") == 1
