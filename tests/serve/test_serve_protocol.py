"""The Open Inference Protocol, asked by Triton's own client over a socket, and by hand where it cannot ask wrongly."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import math
import socket
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from medsharp.inference import Predictor
from serve import Limits, create_app
from serve.api.inference_protocol.tensors import (
    MOST_VALUES,
    OutputTensor,
    ProtocolError,
    read_files,
    read_images,
    write_answer,
)
from serve.security.accounts import Accounts
from serve.security.accounts import key as account_of
from serve.security.login import Login
from serve.security.settings import Security
from serve.uploads.compressed import unpack

triton: Any = pytest.importorskip("tritonclient.http")

SIDE = 64
# gevent, which Triton's client stands on, is not written for warnings as errors.
pytestmark = pytest.mark.filterwarnings("ignore")


@contextlib.contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Serve an application, and give its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def address(predictor: Predictor) -> Iterator[str]:
    with running(create_app(predictor)) as address:
        yield address


@pytest.fixture(scope="module")
def asking(address: str) -> Iterator[Any]:
    client = triton.InferenceServerClient(address)
    yield client
    client.close()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 1, SIDE, SIDE), dtype=np.uint8)


def tensor(images: np.ndarray, *, binary: bool = True) -> Any:
    given = triton.InferInput("image", list(images.shape), "UINT8")
    given.set_data_from_numpy(images, binary_data=binary)
    return given


def test_tritons_client_finds_server_and_models_ready(asking: Any, predictor: Predictor) -> None:
    name = predictor.spec.name
    assert asking.is_server_live()
    assert asking.is_server_ready()
    assert asking.get_server_metadata()["name"] == "medsharp"
    for model in (name, f"{name}-checked"):
        assert asking.is_model_ready(model)
        assert asking.is_model_ready(model, "1")
    assert not asking.is_model_ready("other")
    assert not asking.is_model_ready(name, "2")


def test_metadata_is_that_of_the_network(asking: Any, predictor: Predictor) -> None:
    about = asking.get_model_metadata(predictor.spec.name, "1")
    assert about["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 1, SIDE, SIDE]}]
    assert [output["name"] for output in about["outputs"]] == list(predictor.session.outputs)
    assert about["outputs"][0]["shape"] == [-1, 2]
    assert about["parameters"]["threshold"] == predictor.spec.operating_point.threshold
    assert "Not for diagnostic use" in about["parameters"]["notice"]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("wanted", [None, True, False])
def test_tensors_in_either_form_get_the_outputs_of_the_network(
    asking: Any, predictor: Predictor, images: np.ndarray, binary_in: bool, wanted: bool | None
) -> None:
    outputs = (
        wanted
        if wanted is None
        else [triton.InferRequestedOutput(name, binary_data=wanted) for name in ("features", "logits")]
    )
    answer = asking.infer(
        predictor.spec.name, [tensor(images, binary=binary_in)], outputs=outputs, request_id="number 7"
    )
    expected = predictor.session.run(images[:, 0])
    for name in ("logits", "features"):
        np.testing.assert_allclose(answer.as_numpy(name), expected[name], atol=1e-5)
    response = answer.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == (
        "number 7",
        predictor.spec.name,
        "1",
    )
    assert response["parameters"]["checks"].startswith("none")
    assert {output["name"] for output in response["outputs"]} == (
        set(predictor.session.outputs) if wanted is None else {"features", "logits"}
    )


@pytest.mark.parametrize("how", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_bodies_that_the_client_compresses_are_unpacked(
    asking: Any, predictor: Predictor, images: np.ndarray, how: str, binary: bool
) -> None:
    given = [tensor(images, binary=binary)]
    options = {"request_compression_algorithm": how, "response_compression_algorithm": how}
    answer = asking.infer(predictor.spec.name, given, **options)
    np.testing.assert_allclose(answer.as_numpy("logits"), predictor.session.run(images[:, 0])["logits"], atol=1e-5)


def packing(how: str) -> Any:
    return gzip.compress if how == "gzip" else zlib.compress


@pytest.mark.parametrize("how", ["gzip", "deflate"])
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_body_is_unpacked_however_it_is_cut(how: str, step: int) -> None:
    rng = np.random.default_rng(step)
    data = rng.bytes(3000) + bytes(2_500_000)
    packed = packing(how)(data)
    counted: list[int] = []
    pieces = unpack([packed[at : at + step] for at in range(0, len(packed), step)], how, len(data), counted.append)
    assert b"".join(pieces) == data
    assert sum(counted) == len(data)
    assert max(counted) <= 2**20


def test_members_of_gzip_may_follow_one_another() -> None:
    both = gzip.compress(b"one, ") + gzip.compress(b"two")
    assert b"".join(unpack([both[:30], both[30:]], "gzip", 8, lambda _: None)) == b"one, two"


@pytest.mark.parametrize("how", ["gzip", "deflate"])
def test_damaged_and_overlong_compressed_bodies_are_refused(predictor: Predictor, how: str) -> None:
    path = f"/v2/models/{predictor.spec.name}/infer"
    app = create_app(predictor, limits=Limits(max_request_bytes=3_000_000))
    with TestClient(app) as client:

        def ask(body: bytes) -> tuple[int, str]:
            answer = client.post(path, content=body, headers={"content-encoding": how})
            assert app.state.memory.held == 0
            return answer.status_code, answer.json().get("error", "")

        good = packing(how)(json.dumps({"inputs": [GOOD]}).encode())
        assert ask(good) == (200, "")
        damaged = (400, f"the body cannot be unpacked as {how}; send it again")
        for bad in (b"", good[:-1], good[:40], good[:20] + b"\xff" * 9 + good[29:], good + b"behind", b"words"):
            assert ask(bad) == damaged
        too_much = (413, "the request unpacks to more than 2.861 MiB; send fewer at once")
        assert ask(packing(how)(bytes(3_000_001))) == too_much


def test_unpacked_bytes_count_among_those_in_memory(predictor: Predictor) -> None:
    app = create_app(predictor, limits=Limits(max_held_bytes=2_000_000))
    with TestClient(app) as client:
        answer = client.post(
            f"/v2/models/{predictor.spec.name}/infer",
            content=gzip.compress(bytes(3_000_000)),
            headers={"content-encoding": "gzip"},
        )
        assert (answer.status_code, "it holds" in answer.json()["error"]) == (429, True)
        assert app.state.memory.held == 0


def test_no_more_is_unpacked_than_is_allowed() -> None:
    packed = zlib.compress(bytes(99_000_000))
    counted: list[int] = []
    with taking_at_most(8_000_000), pytest.raises(HTTPException, match=r"unpacks to more than 2\.861 MiB"):
        unpack([packed], "deflate", 3_000_000, counted.append)
    assert sum(counted) <= 3_000_000


def test_files_get_answers_that_the_checks_have_seen(asking: Any, predictor: Predictor, png: bytes) -> None:
    files = np.array([png, b"no image"], dtype=object)
    given = triton.InferInput("image_bytes", [2], "BYTES")
    given.set_data_from_numpy(files)
    expected = predictor.predict([png])[0]
    for binary in (True, False):
        outputs = [
            triton.InferRequestedOutput(name, binary_data=binary) for name in ("probability", "status", "answer")
        ]
        answer = asking.infer(f"{predictor.spec.name}-checked", [given], outputs=outputs)
        probability = answer.as_numpy("probability")
        assert probability[0] == pytest.approx(expected.positive_probability, abs=1e-6)
        assert np.isnan(probability[1])
        statuses = [str(one, "utf-8") if isinstance(one, bytes) else one for one in answer.as_numpy("status")]
        assert statuses == [expected.status, "failed"]
        first = json.loads(answer.as_numpy("answer")[0])
        assert first["threshold"] == predictor.spec.operating_point.threshold
        assert "diagnostic" in first["notice"]


def test_clients_error_is_the_servers_sentence(asking: Any, predictor: Predictor, images: np.ndarray) -> None:
    with pytest.raises(triton.InferenceServerException, match="there is no model 'other' here"):
        asking.infer("other", [tensor(images)])
    with pytest.raises(triton.InferenceServerException, match=r"the shape of image must be \[n, 1, 64, 64\]"):
        asking.infer(predictor.spec.name, [tensor(images[..., :32])])
    with pytest.raises(triton.InferenceServerException, match="was not answered within 1e-06 seconds"):
        asking.infer(predictor.spec.name, [tensor(images)], timeout=1)


def test_clients_error_is_the_doors_sentence_too(predictor: Predictor, images: np.ndarray) -> None:
    key = "pacs.0123456789abcdef0123"
    app = create_app(
        predictor, security=Security(Login(Accounts([account_of(key)]))), limits=Limits(max_request_bytes=99)
    )
    with running(app) as address, contextlib.closing(triton.InferenceServerClient(address)) as client:
        with pytest.raises(triton.InferenceServerException, match="log in: user and password, or a key"):
            client.infer(predictor.spec.name, [tensor(images)])
        headers = {"authorization": f"Bearer {key}"}
        with pytest.raises(triton.InferenceServerException, match="the request is larger than"):
            client.infer(predictor.spec.name, [tensor(images)], headers=headers)
        assert client.is_server_live(headers=headers)


GOOD = {"name": "image", "datatype": "UINT8", "shape": [1, 1, SIDE, SIDE], "data": [0] * SIDE**2}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"inputs": [{**GOOD, "data": [256] + [0] * (SIDE**2 - 1)}]}, "not between 0 and 255"),
        ({"inputs": [{**GOOD, "data": [-1] + [0] * (SIDE**2 - 1)}]}, "not between 0 and 255"),
        ({"inputs": [{**GOOD, "data": [0.5] * SIDE**2}]}, "not whole numbers"),
        ({"inputs": [{**GOOD, "data": [True] * SIDE**2}]}, "not whole numbers"),
        ({"inputs": [{**GOOD, "data": [False] + [0] * (SIDE**2 - 1)}]}, "not whole numbers"),
        ({"inputs": [{**GOOD, "data": [0] * (SIDE**2 - 1) + ["0"]}]}, "not whole numbers"),
        ({"inputs": [{**GOOD, "data": [0] * (SIDE**2 - 1) + [[0]]}]}, "not whole numbers"),
        ({"inputs": [{**GOOD, "data": [10**400] * SIDE**2}]}, "not between 0 and 255"),
        ({"inputs": [{**GOOD, "data": [[1], [1, 2]]}]}, "not numbers of its shape"),
        (
            {"inputs": [{**GOOD, "data": [[[[0] * SIDE] * (SIDE - 1) + [[0] * (SIDE + 1)]]]}]},
            "not numbers of its shape",
        ),
        ({"inputs": [{**GOOD, "data": [[[0] * SIDE**2]]}]}, "not numbers of its shape"),
        ({"inputs": [{**GOOD, "data": [0] * (SIDE**2 + 1)}]}, "not numbers of its shape"),
        ({"inputs": [{**GOOD, "data": [0]}]}, "not numbers of its shape"),
        ({"inputs": [{**GOOD, "data": "0" * SIDE**2}]}, "not numbers of its shape"),
        ({"inputs": [{**GOOD, "data": None}]}, "not numbers of its shape"),
        ({"inputs": [{**GOOD, "shape": [0, 1, SIDE, SIDE], "data": []}]}, "image has 0 images"),
        ({"inputs": [{**GOOD, "shape": [257, 1, SIDE, SIDE]}]}, "image has 257 images; send 1 to 256"),
        ({"inputs": [{**GOOD, "shape": [True, 1, SIDE, SIDE]}]}, "shape of image"),
        ({"inputs": [{**GOOD, "shape": []}]}, "shape of image"),
        ({"inputs": [{**GOOD, "datatype": "FP32"}]}, "datatype of image must be UINT8"),
        ({"inputs": [{**GOOD, "name": "pixels"}]}, "takes one input, image"),
        ({"inputs": [GOOD, GOOD]}, "a name of its own"),
        ({"inputs": []}, "inputs must be a list"),
        ({"inputs": [7]}, "an input must be a JSON object"),
        ({"inputs": [{**GOOD, "parameters": {"binary_data_size": 9}}]}, "more than there is behind the JSON"),
        ({"inputs": [{**GOOD, "parameters": {"shared_memory_region": "x"}}]}, "shared memory"),
        ({"inputs": [{**GOOD, "raw": "0"}]}, None),
        ({"outputs": [{"name": "nothing"}]}, "has no output 'nothing'"),
        ({"outputs": []}, "leave it out for all"),
        ({"outputs": [{"name": "logits", "parameters": {"classification": 2}}]}, "neither by classification"),
        ({"parameters": {"timeout": "soon"}}, "whole number of microseconds"),
        ({"parameters": []}, "parameters must be a JSON object"),
        ({"id": 7}, "id must be a string"),
        ({"inputs": [{**GOOD, "name": "\ud800"}]}, r"it was given 1: '\ud800'"),
        ({"inputs": [{**GOOD, "name": f"{number}" * 200} for number in range(5)]}, f"given 5: '{'0' * 100}' and so on"),
        ({"inputs": [{**GOOD, "name": "\udfff", "parameters": 7}]}, r"parameters of input '\udfff'"),
        ({"inputs": [{**GOOD, "name": "\udfff", "parameters": {"binary_data_size": 9}}]}, r"input '\udfff' is more"),
        ({"outputs": [{"name": "\udfff", "parameters": 7}]}, r"parameters of output '\udfff'"),
        ({"outputs": [{"name": "x" * 1000}]}, f"no output '{'x' * 100}' and so on;"),
    ],
)
def test_request_that_is_not_as_the_protocol_has_it_is_400_with_a_sentence(
    client: TestClient, predictor: Predictor, changed: dict[str, Any], sentence: str | None
) -> None:
    # As ASCII, in which half a pair of surrogates can be written.
    body = json.dumps({"inputs": [GOOD], **changed}).encode()
    answer = client.post(f"/v2/models/{predictor.spec.name}/infer", content=body)
    assert answer.status_code == (200 if sentence is None else 400), answer.text
    if sentence is not None:
        assert sentence in answer.json()["error"]
        assert len(answer.content) < 1000


@pytest.mark.parametrize("nested", [False, True])
def test_tensor_in_json_is_flat_or_nested_as_its_shape(
    client: TestClient, predictor: Predictor, images: np.ndarray, nested: bool
) -> None:
    tensor = {**GOOD, "shape": list(images.shape), "data": images.tolist() if nested else images.ravel().tolist()}
    answer = client.post(f"/v2/models/{predictor.spec.name}/infer", json={"inputs": [tensor]}).json()
    (logits,) = (output["data"] for output in answer["outputs"] if output["name"] == "logits")
    np.testing.assert_allclose(logits, predictor.session.run(images[:, 0])["logits"].ravel(), atol=1e-5)


def test_long_answers_are_written_in_pieces_that_are_one_text() -> None:
    values = np.arange(9001, dtype=np.float32).reshape(1, 9001) / 7
    values[0, 4096] = np.nan
    files = [b"a", b"\xc3\xa4"]
    body, length = write_answer(
        "m",
        "1",
        "seven",
        [OutputTensor("x", values, False), OutputTensor("y", files, False), OutputTensor("z", values, True)],
        {"notice": "n"},
    )
    assert length is not None
    answer = json.loads(body[:length])
    x, y, z = answer.pop("outputs")
    assert answer == {"model_name": "m", "model_version": "1", "id": "seven", "parameters": {"notice": "n"}}
    assert x.pop("data") == [None if math.isnan(value) else value for value in values[0].tolist()]
    assert (x["name"], x["datatype"], x["shape"]) == ("x", "FP32", [1, 9001])
    assert y == {"name": "y", "datatype": "BYTES", "shape": [2], "data": ["a", "\u00e4"]}
    assert z["parameters"] == {"binary_data_size": 4 * 9001}
    np.testing.assert_array_equal(np.frombuffer(body[length:], "<f4"), values[0])
    empty, _ = write_answer("m", "1", None, [OutputTensor("y", [], False)], {})
    assert json.loads(empty)["outputs"][0]["data"] == []


def test_flat_numbers_are_read_in_pieces_in_their_order() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)
    given = {**GOOD, "shape": [3, 1, SIDE, SIDE], "data": pixels.ravel().tolist()}
    np.testing.assert_array_equal(read_images(given, SIDE, 256), pixels)
    given["data"][5000] = 256
    with pytest.raises(ProtocolError, match="not between 0 and 255"):
        read_images(given, SIDE, 256)


def test_more_values_than_are_read_in_one_go_are_refused(
    client: TestClient, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/v2/models/{predictor.spec.name}/infer"
    body = json.dumps({"inputs": [{**GOOD, "data": [0] * MOST_VALUES}]}).encode()
    monkeypatch.setattr(json, "loads", lambda _: pytest.fail("it was read"))
    answer = client.post(path, content=body)
    monkeypatch.undo()
    assert answer.status_code == 400
    assert answer.json()["error"] == "the request has more than 500000 values in JSON; send tensors as binary data"
    # Behind the JSON there may be any bytes.
    text = json.dumps({"inputs": [{**GOOD, "data": None, "parameters": {"binary_data_size": MOST_VALUES}}]}).encode()
    headers = {"inference-header-content-length": str(len(text))}
    answer = client.post(path, content=text + b"," * MOST_VALUES, headers=headers)
    assert answer.json()["error"] == f"image has {MOST_VALUES} bytes, and its shape {SIDE**2}"


@contextlib.contextmanager
def taking_at_most(count: int) -> Iterator[None]:
    """Fail where more bytes are taken meanwhile, those of NumPy's arrays too."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < count
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("nested", [False, True])
def test_strings_in_place_of_numbers_take_no_room_of_their_own(nested: bool) -> None:
    row = ["x" * 10_000, *[""] * (SIDE - 1)]
    data: list[Any] = [[[row] * SIDE]] if nested else row * SIDE
    with taking_at_most(2**20), pytest.raises(ProtocolError, match="not whole numbers"):
        read_images({**GOOD, "data": data}, SIDE, 256)


def test_binary_elements_beyond_the_shape_are_not_split_off() -> None:
    given = {"name": "image_bytes", "datatype": "BYTES", "shape": [2], "raw": bytes(4_000_000)}
    with taking_at_most(2**20), pytest.raises(ProtocolError, match="more files than its shape, which has 2"):
        read_files(given, 32)
    with pytest.raises(ProtocolError, match="has 1 files, and its shape 2"):
        read_files({**given, "raw": bytes(4)}, 32)
    assert read_files({**given, "raw": bytes(8)}, 32) == [b"", b""]


def test_base64_beyond_the_shape_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base64, "b64decode", lambda *_, **__: pytest.fail("it was decoded"))
    given = {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": ["eA=="] * 2}
    with pytest.raises(ProtocolError, match="has 2 files, and its shape 1"):
        read_files(given, 32)


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (b"", None),
        (b"[]", None),
        (b"[" * 100_000, None),
        (b"\xff\xfe", None),
        (b"{}", "0"),
        (b"{}", "3"),
        (b"{}", "-1"),
        (b"{}", "9" * 30),
        (b"{}", "9" * 5000),
        (b"{}", "0" * 17 + "1" + "0" * 5000),
        (b"{}", "\xb2"),
        (b"[" * 900 + b"]" * 900, None),
        (b'{"inputs": ' + b"[" * 900 + b"]" * 900 + b"}", None),
        (b'{"inputs": [{"name": "image"}]}behind', "31"),
    ],
)
def test_body_that_is_none_is_400(client: TestClient, predictor: Predictor, body: bytes, header: str | None) -> None:
    headers = {} if header is None else {b"inference-header-content-length": header.encode("latin-1")}
    answer = client.post(f"/v2/models/{predictor.spec.name}/infer", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_files_as_base64_and_damaged_ones(client: TestClient, predictor: Predictor, png: bytes) -> None:
    path = f"/v2/models/{predictor.spec.name}-checked/infer"

    def ask(**changed: Any) -> Any:
        given = {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(png).decode()]}
        return client.post(path, json={"inputs": [{**given, **changed}]})

    outputs = {output["name"]: output["data"] for output in ask().json()["outputs"]}
    assert outputs["probability"][0] == pytest.approx(predictor.predict([png])[0].positive_probability, abs=1e-6)
    failed = ask(data=[""])
    assert {output["name"]: output["data"] for output in failed.json()["outputs"]}["probability"] == [None]
    assert "not Base64" in ask(data=["%"]).json()["error"]
    assert "strings of Base64" in ask(data=[7]).json()["error"]
    assert "has 1 files, and its shape 2" in ask(shape=[2]).json()["error"]
    assert "send 1 to 32" in ask(shape=[33]).json()["error"]
    text = json.dumps(
        {"inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}}]}
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    answer = client.post(path, content=text + (9).to_bytes(4, "little") + b"ab", headers=headers)
    assert answer.status_code == 400
    assert "cut off" in answer.json()["error"]


def test_busy_server_and_bytes_held_hold_for_the_protocol_too(
    make_client: Any, predictor: Predictor, images: np.ndarray
) -> None:
    client = make_client(limits=Limits(max_held_bytes=1000))
    path = f"/v2/models/{predictor.spec.name}/infer"
    answer = client.post(path, json={"inputs": [GOOD]})
    assert answer.status_code == 429
    assert "the server is busy" in answer.json()["error"]
    assert int(answer.headers["retry-after"]) > 0
    assert client.app.state.memory.held == 0
    assert client.post(path, content=b"x", headers={"content-encoding": "br"}).status_code == 415
    client.app.state.admission.close()
    assert client.get("/v2/health/ready").status_code == 503
    assert client.get("/v2/health/live").status_code == 200
    assert client.post(path, json={"inputs": [GOOD]}).status_code == 503
