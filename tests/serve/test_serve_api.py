from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
from httpx import Response
from PIL import Image
from starlette.testclient import TestClient

from medsharp.errors import InputError
from medsharp.inference import Predictor
from serve import Limits, create_app

Client = Callable[..., TestClient]
BAD = b"this is a text file"


def grey(height: int, width: int) -> bytes:
    """An image that is known by its size."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(width).integers(0, 99, (height, width)).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def post_parts(client: TestClient, *parts: tuple[str, bytes], path: str = "/v1/predict") -> Response:
    """Send a form whose parts have just the headers that are given, after `Content-Disposition: form-data; `."""
    body = b"".join(b"--x\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (h.encode(), c) for h, c in parts)
    return client.post(path, content=body + b"--x--", headers={"content-type": "multipart/form-data; boundary=x"})


def test_a_digest_is_the_bundles_wherever_it_is_told(client: TestClient, predictor: Predictor, png: bytes) -> None:
    name = predictor.spec.name
    told = [client.get(path).json()["digest"] for path in ("/healthz", "/model", f"/v1/models/{name}")]
    told.append(client.get(f"/v2/models/{name}").json()["parameters"]["digest"])
    told.append(client.post("/v1/predict", files=[("files", ("a.png", png))]).json()[0]["digest"])
    assert set(told) == {predictor.digest}
    assert f'digest="{predictor.digest}"' in client.get("/metrics").text


def test_healthz_names_model_and_digest(client: TestClient, predictor: Predictor) -> None:
    answer = client.get("/healthz")
    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] == "ok"
    assert body["model"] == predictor.spec.name
    assert body["digest"] == predictor.digest
    assert "diagnostic" in body["notice"]


@pytest.mark.parametrize("field", ["files", "file"])
def test_predict_answers_as_the_predictor_does(
    client: TestClient, predictor: Predictor, png: bytes, field: str
) -> None:
    answer = client.post("/predict", files=[(field, ("lesion.png", png, "image/png"))])
    assert answer.status_code == 200, answer.text
    (entry,) = answer.json()
    expected = predictor.predict([png], names=["lesion.png"])[0]
    assert entry["name"] == "lesion.png"
    assert entry["error"] is None
    assert entry["positive_probability"] == pytest.approx(expected.positive_probability, abs=1e-6)
    assert entry["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)
    assert (entry["side"], entry["margin"]) == (expected.side, pytest.approx(expected.margin, abs=1e-5))
    assert entry["prediction_set"] == list(expected.prediction_set or ())
    assert entry["prediction_set"]
    assert (entry["model"], entry["digest"]) == (expected.model, expected.digest)
    assert entry["seconds"] > 0
    assert entry["threshold"] == predictor.spec.operating_point.threshold
    assert entry["flags"] == list(expected.flags)
    assert (entry["status"], entry["reasons"]) == (expected.status, list(expected.reasons))
    assert entry["heatmap"] is None
    assert "diagnostic" in entry["notice"]


def test_heatmap_is_a_colour_png_of_the_image_size(client: TestClient, png: bytes) -> None:
    answer = client.post("/predict", files=[("files", ("a.png", png))], data={"heatmap": "1"})
    prefix, _, content = answer.json()[0]["heatmap"].partition(",")
    assert prefix == "data:image/png;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert picture.mode == "RGB"
    assert picture.size == Image.open(io.BytesIO(png)).size
    assert answer.json()[0]["heatmap_empty"] in (True, False)


def test_heatmap_of_a_large_image_is_no_larger_than_is_said(client: TestClient, png: bytes) -> None:
    buffer = io.BytesIO()
    wide = np.tile(np.asarray(Image.open(io.BytesIO(png))), (1, 4))[:, :450]
    Image.fromarray(wide).resize((3000, 600), Image.Resampling.BICUBIC).save(buffer, "PNG")
    answer = client.post("/predict", files=[("files", ("a.png", buffer.getvalue()))], data={"heatmap": "1"})
    _, _, content = answer.json()[0]["heatmap"].partition(",")
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (1024, 205)
    fields = client.get("/openapi.json").json()["components"]["schemas"]["ImageAnswer"]["properties"]
    assert "at most 1024 pixels" in fields["heatmap"]["description"]


def test_heatmap_other_than_0_or_1_is_refused(client: TestClient, png: bytes) -> None:
    answer = client.post("/predict", files=[("files", ("a.png", png))], data={"heatmap": "maybe"})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "heatmap must be 0 or 1"


def test_bad_image_does_not_stop_the_others(client: TestClient, png: bytes) -> None:
    uploads = [("files", ("a.png", png)), ("files", ("bad.png", BAD)), ("files", ("c.png", png))]
    answer = client.post("/predict", files=uploads)
    assert answer.status_code == 200
    first, bad, last = answer.json()
    assert first["positive_probability"] == last["positive_probability"] is not None
    assert bad["positive_probability"] is None
    assert bad["probabilities"] is None
    assert (bad["side"], bad["margin"], bad["prediction_set"]) == (None, None, None)
    assert "bad.png" in bad["error"]


def test_only_bad_images_are_422_with_each_reason(client: TestClient) -> None:
    answer = client.post("/predict", files=[("files", ("bad.png", BAD)), ("files", ("empty.png", b""))])
    assert answer.status_code == 422
    assert [entry["name"] for entry in answer.json()] == ["bad.png", "empty.png"]
    assert all(entry["error"] for entry in answer.json())


@pytest.mark.parametrize(
    ("request_arguments", "status"), [({}, 422), ({"data": {"files": "text"}}, 415), ({"json": {"files": []}}, 415)]
)
def test_no_image_is_refused_and_it_is_said_how_to_send_one(
    client: TestClient, request_arguments: dict[str, object], status: int
) -> None:
    answer = client.post("/predict", **request_arguments)  # type: ignore[arg-type]
    assert answer.status_code == status
    assert "'files'" in answer.json()["detail"]
    assert "diagnostic" in answer.json()["notice"]


def test_file_in_an_unknown_field_is_refused_beside_others(client: TestClient, png: bytes) -> None:
    answer = client.post("/predict", files=[("files", ("a.png", png)), ("images", ("b.png", png))])
    assert answer.status_code == 422
    assert "another field than 'files'" in answer.json()["detail"]


def test_names_are_stripped_of_folders_and_control_characters(client: TestClient, png: bytes) -> None:
    answer = client.post(
        "/predict", files=[("files", ("../../etc/pass\u202ewd.png", png)), ("files", ("C:\\a\\b.png", png))]
    )
    assert [entry["name"] for entry in answer.json()] == ["passwd.png", "b.png"]


def test_answers_come_in_the_order_sent_whichever_field_and_archive_an_image_is_in(client: TestClient) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, width in (("z.png", 72), ("b.png", 73)):
            file.writestr(name, grey(64, width))
    sent = [
        ("file", ("zero.png", grey(64, 70))),
        ("files", ("one.png", grey(64, 71))),
        ("file", ("two.zip", archive.getvalue())),
        ("files", ("three.png", grey(64, 74))),
        ("file", ("..", grey(64, 75))),
    ]
    told = [(entry["name"], entry["size"]) for entry in client.post("/v1/predict", files=sent).json()]
    names = ["zero.png", "one.png", "z.png", "b.png", "three.png", "image 5"]
    assert told == [(name, [64, 70 + place]) for place, name in enumerate(names)]


def test_long_names_that_differ_at_their_end_stay_two(client: TestClient) -> None:
    names = [f"{'x' * 100}_{side}.png" for side in ("left", "right")]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name in names:
            file.writestr(f"ward/{name}", grey(64, 70))
    answer = client.post("/v1/predict", files=[("files", (name, grey(64, 70))) for name in names])
    assert [entry["name"] for entry in answer.json()] == names
    answer = client.post("/v1/predict", content=archive.getvalue(), headers={"content-type": "application/zip"})
    assert [entry["name"] for entry in answer.json()] == [f"ward/{name}" for name in names]


@pytest.mark.parametrize(
    ("head", "name"),
    [
        ("name=files; filename*=UTF-8''%C3%84%20gr%C3%B6%C3%9Fe.png", "Ä größe.png"),
        ("filename*=iso-8859-1'de'L%E4sion.png; name=files", "Läsion.png"),
        ("name=files; filename*0*=UTF-8''%C3%84; filename*1=.png", "Ä.png"),
        # The plain name is the one that whatever stands between client and server goes by.
        ("name=files; filename=A.png; filename*=UTF-8''%C3%84.png", "A.png"),
        ("name=files; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd%00%E2%80%AE", "passwd"),
        ("name=files; filename*=undefined''%C3%84.png", "image 1"),
        ("name=files; filename*=UTF-8''", "image 1"),
        ("name=file\r\nContent-Type: image/png", "image 1"),
        ("name=files\r\nContent-Type: application/octet-stream", "image 1"),
    ],
)
def test_file_is_taken_without_a_plain_filename(client: TestClient, png: bytes, head: str, name: str) -> None:
    answer = post_parts(client, (head, png), ("name=heatmap", b"1"))
    assert answer.status_code == 200, answer.text
    (entry,) = answer.json()
    assert (entry["name"], entry["size"]) == (name, [90, 120])
    assert entry["heatmap"]


@pytest.mark.parametrize("head", ["name=files", "name=file", "name=files\r\nContent-Type: text/plain"])
def test_text_where_a_file_should_be_is_refused_also_beside_files(client: TestClient, png: bytes, head: str) -> None:
    for parts in ([], [('name="files"; filename="a.png"', png)]):
        for text in (b"left.png", bytes(2**21)):
            answer = post_parts(client, *parts, (head, text))
            assert answer.status_code == 422
            assert answer.json()["detail"].startswith("the field 'files' holds text where a file should be")
    # What was left empty is nothing.
    assert post_parts(client, ('name="files"; filename="a.png"', png), (head, b"")).status_code == 200


@pytest.mark.parametrize("path", ["/v1/predict", "/predict"])
@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("modle", "there is no 'modle' to wish for in the {}; did you mean model?"),
        ("hetmap", "there is no 'hetmap' to wish for in the {}; did you mean heatmap?"),
        ("Model", "there is no 'Model' to wish for in the {}; did you mean model?"),
        ("roi", "there is no 'roi' to wish for in the {}; choose from box, frame, heatmap, model"),
        ("", "there is no '' to wish for in the {}; choose from box, frame, heatmap, model"),
        ("m" * 999, f"there is no '{'m' * 100}' and so on to wish for in the {{}}; choose from box"),
        ("\u202eledom", "there is no '\\u202eledom' to wish for in the {}; choose from box"),
    ],
)
def test_unknown_wish_is_refused_with_the_nearest(
    client: TestClient, png: bytes, path: str, name: str, end: str
) -> None:
    files = [("files", ("a.png", png))]
    for where, answer in (
        ("address", client.post(path, params={name: "1"}, files=files)),
        ("address", client.post(path, params={name: "1"}, content=png, headers={"content-type": "image/png"})),
        ("form", client.post(path, data={name: "1"}, files=files)),
    ):
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith(end.format(where))


def test_name_is_known_in_the_address_alone(client: TestClient, png: bytes) -> None:
    files = [("files", ("a.png", png))]
    assert client.post("/v1/predict", params={"name": "b.png"}, files=files).json()[0]["name"] == "a.png"
    answer = client.post("/v1/predict", data={"name": "b.png"}, files=files)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("name is said in the address")


@pytest.mark.parametrize(("name", "values"), [("heatmap", "01"), ("frame", "12"), ("model", ["", "b"]), ("name", "ab")])
def test_wish_that_is_said_twice_must_be_the_same(client: TestClient, png: bytes, name: str, values: list[str]) -> None:
    body = {"content": png, "headers": {"content-type": "image/png"}}
    for first, last in (values, values[::-1]):
        answer = client.post(f"/v1/predict?{name}={first}&heatmap=1&{name}={last}", **body)  # type: ignore[arg-type]
        assert answer.status_code == 422
        assert "is said twice and differently in the address; say it once" in answer.json()["detail"]
        parts = [(f"name={name}", value.encode()) for value in (first, last)]
        answer = post_parts(client, parts[0], ("name=files; filename=a.png", png), parts[1])
        assert answer.status_code == 422
        assert answer.json()["detail"] == f"'{name}' is said twice and differently in the form; say it once"
    assert client.post("/v1/predict?heatmap=1&heatmap=1", **body).json()[0]["heatmap"]  # type: ignore[arg-type]
    answer = post_parts(client, *[("name=heatmap", b"1")] * 2, ("name=files; filename=a.png", png))
    assert answer.json()[0]["heatmap"]


@pytest.mark.parametrize("query", ["heatmap", "heatmap=", "heatmap=%20"])
def test_heatmap_without_a_value_is_not_taken_for_none(client: TestClient, png: bytes, query: str) -> None:
    answer = client.post(f"/v1/predict?{query}", content=png, headers={"content-type": "image/png"})
    assert (answer.status_code, answer.json()["detail"]) == (422, "heatmap must be 0 or 1")


def test_too_many_images_are_413(make_client: Client, png: bytes) -> None:
    client = make_client(limits=Limits(max_files=2))
    for count in (3, 5):
        answer = client.post("/predict", files=[("files", (f"{i}.png", png)) for i in range(count)])
        assert answer.status_code == 413
        assert "more than 2 images" in answer.json()["detail"]
    assert client.post("/predict", files=[("files", (f"{i}.png", png)) for i in range(2)]).status_code == 200


def test_too_large_image_is_413(make_client: Client) -> None:
    client = make_client(limits=Limits(max_file_bytes=2000))
    answer = client.post("/predict", files=[("files", ("large.png", bytes(2001)))])
    assert answer.status_code == 413
    assert "large.png" in answer.json()["detail"]


def test_too_large_request_is_413_with_and_without_announced_length(make_client: Client) -> None:
    client = make_client(limits=Limits(max_request_bytes=10_000))
    assert client.post("/predict", files=[("files", ("a.png", bytes(20_000)))]).status_code == 413

    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'

    def parts() -> object:
        yield head
        for _ in range(20):
            yield bytes(1000)
        yield b"\r\n--x--\r\n"

    answer = client.post("/predict", content=parts(), headers={"content-type": "multipart/form-data; boundary=x"})  # type: ignore[arg-type]
    assert answer.status_code == 413
    assert "larger than" in answer.json()["detail"]


def test_password_protects_everything_but_health(make_client: Client, png: bytes) -> None:
    client = make_client(auth=("ward", "s3:cret"))
    assert client.get("/healthz").status_code == 200
    for path in (
        "/",
        "/docs",
        "/openapi.json",
        "/config",
        "/theme.css",
        "/gradio_api/info",
        "/gradio_api/file=/x",
        "/healthz/",
    ):
        answer = client.get(path, follow_redirects=False)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"].startswith("Basic")
    upload = [("files", ("a.png", png))]
    assert client.post("/gradio_api/upload", files=upload).status_code == 401
    for wrong in (("ward", "s3:cre"), ("", ""), ("ward", "s3:cret2")):
        assert client.post("/predict", files=upload, auth=wrong).status_code == 401
    for header in ("Basic !!!", "Bearer d2FyZDpzMzpjcmV0", "Basic", ""):
        assert client.post("/predict", files=upload, headers={"authorization": header}).status_code == 401
    assert client.post("/predict", files=upload, auth=("ward", "s3:cret")).status_code == 200
    assert client.get("/", auth=("ward", "s3:cret")).status_code == 200


@pytest.mark.parametrize("auth", [("", "x"), ("x", ""), ("a:b", "c")])
def test_unusable_user_or_password_is_refused(predictor: Predictor, auth: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="user:password"):
        create_app(predictor, auth=auth)


def test_description_and_docs_say_not_for_diagnostic_use_and_ask_no_other_host(client: TestClient) -> None:
    description = client.get("/openapi.json").json()
    assert "Not for diagnostic use" in description["info"]["description"]
    assert description["paths"]["/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]
    docs = client.get("/docs").text
    assert "Not for diagnostic use" in docs
    assert "//" not in docs.replace("http://127.0.0.1:7860/v1/predict", "")


def test_missing_bundle_is_one_sentence() -> None:
    with pytest.raises(InputError, match="no/such/bundle"):
        create_app("no/such/bundle")


def test_many_requests_at_once_answer_as_one_does(client: TestClient, png: bytes) -> None:
    from concurrent.futures import ThreadPoolExecutor

    buffer = io.BytesIO()
    Image.fromarray(np.arange(96 * 96, dtype=np.uint32).astype(np.uint8).reshape(96, 96)).save(buffer, "PNG")
    contents = [png, buffer.getvalue()]
    alone = [client.post("/predict", files=[("files", ("x.png", content))]).json() for content in contents]
    with ThreadPoolExecutor(8) as pool:
        together = list(
            pool.map(lambda i: client.post("/predict", files=[("files", ("x.png", contents[i % 2]))]).json(), range(16))
        )
    for (entry,) in (*alone, *together):
        assert entry.pop("seconds") > 0
    assert together == [alone[i % 2] for i in range(16)]
