"""Pictures of the page and of a report for the documentation, taken by a browser, of simulated images only."""

from __future__ import annotations

import io
import shutil
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medsharp.errors import InputError
from medsharp.files import atomic_path

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_PATIENCE = 300_000
"""Milliseconds that an answer may take on a slow machine."""


def take_pictures(
    bundles: list[Path], out: Path, progress: Callable[[str], None], report: Path | None = None
) -> list[Path]:
    """Serve bundles on a free port of this machine, use the page as a visitor does, and take pictures of it.

    Args:
        bundles: What is served, the default first.
        report: Page of an evaluation on simulated images, of which a picture is taken too; None takes none.
        out: Folder of the pictures, which are written as PNG with 256 colours.
        progress: Told the name of each picture that is taken.

    Returns:
        The files.

    Raises:
        InputError: As `check_browser` says; or the report is none with curves, or a bundle cannot be served.
    """
    browser = check_browser()
    from playwright.sync_api import sync_playwright

    files = []
    with _served(bundles) as address, sync_playwright() as started:
        # No sandbox: in a container, root has none. Nothing but the server's own page is opened.
        chromium = started.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        try:
            if report is not None:
                progress(_REPORT)
                files.append(_write(_report_picture(chromium, report), out / f"{_REPORT}.png"))
            for name, (width, height, dark, use) in _PICTURES.items():
                progress(name)
                context = chromium.new_context(
                    viewport={"width": width, "height": height}, reduced_motion="reduce", device_scale_factor=1
                )
                context.set_default_timeout(_PATIENCE)
                page = context.new_page()
                page.goto(f"{address}?__theme={'dark' if dark else 'light'}")
                use(page)
                page.evaluate("window.scrollTo({top: 0, behavior: 'instant'})")
                page.mouse.move(0, 0)
                files.append(_write(page.screenshot(animations="disabled"), out / f"{name}.png"))
                context.close()
        finally:
            chromium.close()
    return files


def check_browser() -> str:
    """Return the path of the browser that takes the pictures.

    Raises:
        InputError: There is no chromium, or playwright is not installed.
    """
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        raise InputError(f"no browser in PATH ({', '.join(_BROWSERS)}); on Debian: apt-get install chromium")
    if find_spec("playwright") is None:
        raise InputError("playwright is not installed; pip install 'medsharp[dev]'")
    return browser


def _report_picture(chromium: Any, report: Path) -> bytes:
    """Return the beginning of a report beside the curves of its last data set, under that one's name.

    Raises:
        InputError: It has no data set with curves.
    """
    width, height = _REPORT_HALF
    context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme="light")
    page = context.new_page()
    page.goto(report.resolve().as_uri())
    left = page.screenshot()
    if not page.evaluate(_TO_CURVES):
        raise InputError(f"{report} is no report of an evaluation with curves; medsharp demo makes one")
    right = page.screenshot()
    context.close()
    both = Image.new("RGB", (2 * width, height))
    for number, half in enumerate((left, right)):
        both.paste(Image.open(io.BytesIO(half)), (number * width, 0))
    buffer = io.BytesIO()
    both.save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def _served(bundles: list[Path]) -> Iterator[str]:
    import uvicorn

    from serve.app import create_app

    app = create_app(bundles)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.05)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


def _assess(page: Any) -> None:
    """Click an example."""
    page.get_by_role("button", name="Simulated, malignant").first.click()
    page.locator("#answer .ms-card").wait_for()


def _batch(page: Any) -> None:
    """Send an archive with labels; of the report only its beginning is in the picture."""
    labels = ("benign", "malignant")
    rows, archive = ["image,label"], io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for number in range(10):
            label = labels[number % 2]
            rows.append(f"{label}/{number}.png,{label}")
            file.writestr(f"{label}/{number}.png", _simulated(number, label))
    page.get_by_role("tab", name="Batch").click()
    form = page.locator(".ms-batch-form")
    form.locator("[name=images]").set_input_files(_file("simulated.zip", archive.getvalue()))
    form.locator("[name=labels]").set_input_files(_file("labels.csv", "\n".join(rows).encode()))
    form.get_by_role("button", name="Assess all").click()
    page.frame_locator("iframe.ms-report").locator("h1").wait_for()


def _robustness(page: Any) -> None:
    _assess(page)
    page.get_by_role("tab", name="Robustness").click()
    page.locator(".ms-one [name=family]").select_option("annotation")
    page.get_by_role("button", name="Corrupt this image").click()
    page.locator(".ms-robustness").wait_for()


_PICTURES: dict[str, tuple[int, int, bool, Callable[[Any], None]]] = {
    "page": (1280, 1470, False, _assess),
    "page-phone": (390, 2350, True, _assess),
    "page-batch": (1280, 1900, False, _batch),
    "page-robustness": (1280, 1540, True, _robustness),
}
"""Name of each picture, width and height of the window in pixels, whether it is dark, and how the page is used."""


_REPORT = "report"
_REPORT_HALF = (800, 1150)
"""Width and height of each half of the report's picture, in pixels."""

_TO_CURVES = """() => {
  const section = [...document.querySelectorAll('section.dataset')].pop();
  const titles = [...section?.querySelectorAll('h3') ?? []];
  const curves = titles.find(title => title.textContent === 'Curves');
  if (!curves) return false;
  // What stands between the name of the data set and its curves would fill the picture.
  const name = section.querySelector('h2');
  while (name.nextElementSibling !== curves) name.nextElementSibling.remove();
  section.scrollIntoView({behavior: 'instant'});
  return true;
}"""
"""Scrolls to the curves of the last data set; says whether there are any."""


def _simulated(seed: int, label: str) -> bytes:
    from medsharp.data.phantom import simulate_image

    buffer = io.BytesIO()
    Image.fromarray(simulate_image("A", label, np.random.default_rng(seed)).pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _file(name: str, content: bytes) -> Any:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def _write(picture: bytes, path: Path) -> Path:
    """Write a screenshot in 256 colours, which take half of the bytes."""
    shown = Image.open(io.BytesIO(picture)).convert("RGB")
    reduced = shown.quantize(palette=shown.quantize(256), dither=Image.Dither.FLOYDSTEINBERG)
    with atomic_path(path) as temporary:
        reduced.save(temporary, format="PNG", optimize=True)
    return path
