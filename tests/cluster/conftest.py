"""A Ray of two cores for all tests here, a hospital that is read on it, and what one process makes of that."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import pytest
from command_line import run
from killing import IMAGES
from PIL import Image

from medsharp.data.phantom.simulate import simulate_image

if TYPE_CHECKING:
    from medsharp.cluster import Cluster


@pytest.fixture(scope="package")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a store that answers as Amazon's S3 does, to which the environment sends whoever asks for one."""
    folder = tmp_path_factory.mktemp("store")

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = folder / unquote(self.path.partition("?")[0]).lstrip("/")
            found = path.is_file()
            content = path.read_bytes() if found else b"<Error><Code>NoSuchKey</Code></Error>"
            status, first = (200, 0) if found else (404, 0)
            asked = self.headers.get("Range")
            if found and asked:
                first, last = (int(one) for one in asked.removeprefix("bytes=").split("-"))
                total, content, status = len(content), content[first : last + 1], 206
            self.send_response(status)
            if status == 206:
                self.send_header("Content-Range", f"bytes {first}-{first + len(content) - 1}/{total}")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.send_header("ETag", '"1"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED")
    values = (f"http://127.0.0.1:{server.server_port}", "nobody", "nothing", "true")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(zip(names, values, strict=True))
    yield folder
    server.shutdown()
    server.server_close()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="package")
def cluster(store: Path) -> Iterator[Cluster]:
    """A Ray of two cores; what is asked of `local` meanwhile is asked of it."""
    pytest.importorskip("ray")
    from medsharp.cluster import joined

    with joined(cpus=2) as cluster:
        yield cluster


@pytest.fixture(scope="package")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of unequal sizes, one that is damaged, one excluded, masks of a few, and a column of the hospital's."""
    folder, rng = tmp_path_factory.mktemp("data") / "hospital", np.random.default_rng(0)
    (folder / "scans").mkdir(parents=True)
    rows = ["image,label,mask,exclude,ward,flags"]
    for number in range(IMAGES):
        label, name = ("benign", "malignant")[number % 2], f"scans/{number:02d}.png"
        pixels = simulate_image("A", label, rng, size=160 + number).pixels[: 120 + number]
        Image.fromarray(pixels).save(folder / name)
        mask = ""
        if number in (1, 2, 17, 40):
            area = np.zeros(pixels.shape, dtype=np.uint8)
            area[10 : 40 + number, 5:85] = 255
            mask = f"masks/{number}.png"
            (folder / "masks").mkdir(exist_ok=True)
            Image.fromarray(area).save(folder / mask)
        rows.append(f'{name},{label},{mask},{"Doppler" * (number == 6)},"Ward {number % 3}, ""west""",')
    (folder / "scans/09.png").write_bytes((folder / "scans/09.png").read_bytes()[:300])
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder / "manifest.csv"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medsharp.inference.table.BLOCK", 4)


@pytest.fixture
def whole(speckle_bundle: Path, manifest: Path, tmp_path: Path) -> bytes:
    """The table that one process writes."""
    out = tmp_path / "whole.csv"
    assert run("predict", speckle_bundle, manifest, "--out", out, "--device", "cpu").exit_code == 1
    table = out.read_bytes()
    out.unlink()
    return table
