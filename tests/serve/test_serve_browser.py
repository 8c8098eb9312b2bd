"""The page in a browser, as a visitor uses it; skipped where there is no chromium."""

from __future__ import annotations

import io
import json
import re
import shutil
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage

from medsharp.data.phantom import simulate_image
from medsharp.inference import Predictor
from serve import create_app
from serve.uploads.uploads import private_cache

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
playwright = pytest.importorskip("playwright.sync_api")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium in PATH"),
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]

MODELS = Path(__file__).resolve().parents[2] / "models"
PATIENCE = 120_000
"""Milliseconds after which what is waited for is missing; on no machine does a test wait so long when it passes."""


def png(seed: int, label: str, side: int = 256) -> bytes:
    pixels = simulate_image("A", label, np.random.default_rng(seed)).pixels
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((side * 5 // 4, side)).save(buffer, "PNG")
    return buffer.getvalue()


def plain() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((100, 120), 3, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def file(name: str, content: bytes) -> dict[str, Any]:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


class Server:
    """A server in a thread of its own; its model can be held.

    Attributes:
        address: Of the page.
        app: The application.
        held: The predictor.
    """

    def __init__(self, held: Any, other: Predictor) -> None:
        self.held = held
        held.go.set()
        self.app = create_app([held, other])
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        self._server = uvicorn.Server(uvicorn.Config(self.app, log_level="error", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.05)

    def stop(self) -> None:
        self.held.go.set()
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture(scope="module")
def server(predictor: Predictor, held_type: Any) -> Iterator[Server]:
    server = Server(held_type(Predictor.load(MODELS / "busi-resnet18", threads=1)), predictor)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        # No sandbox: in a container, root has none. Nothing but the server's own pages is opened.
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


class Visitor:
    """A visitor with a page of their own."""

    def __init__(
        self,
        server: Server,
        browser: Any,
        *,
        width: int = 1280,
        dark: bool = False,
        touch: bool = False,
        by_system: bool = False,
    ) -> None:
        """`by_system` says light or dark as an operating system does, and not in the page's address."""
        mode = "dark" if dark else "light"
        wanted = {"color_scheme": mode} if by_system else {}
        self.context = browser.new_context(viewport={"width": width, "height": 900}, has_touch=touch, **wanted)
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda told: told.type == "error" and self.complaints.append(told.text))
        self.page.on("request", self._watch)
        self._origin = server.address
        self.page.goto(server.address if by_system else f"{server.address}?__theme={mode}")
        self.page.locator("#upload input[type=file]").wait_for(state="attached")

    def _watch(self, request: Any) -> None:
        if not request.url.startswith((self._origin, "data:", "blob:", "about:")):
            self.complaints.append(f"asked {request.url}")

    def upload(self, *files: dict[str, Any]) -> None:
        self.page.set_input_files("#upload input[type=file]", list(files))

    def card(self, name: str) -> Any:
        """Wait for the card of an image, and return it."""
        card = self.page.locator("#answer .ms-card", has=self.page.locator(".ms-name", has_text=name))
        card.wait_for()
        return card

    def said(self, words: str) -> None:
        """Wait until a screen reader has been told some words."""
        self.page.wait_for_function(
            "words => document.getElementById('ms-said').textContent.includes(words)", arg=words
        )

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()


@pytest.fixture
def visitor(server: Server, browser: Any) -> Iterator[Visitor]:
    visitor = Visitor(server, browser)
    yield visitor
    assert visitor.complaints == []
    visitor.context.close()


@pytest.fixture(autouse=True)
def nothing_is_left(server: Server) -> Iterator[None]:
    yield
    assert [path for path in private_cache().rglob("*") if path.is_file()] == []


def test_uploaded_image_is_answered_shown_and_told(visitor: Visitor) -> None:
    visitor.upload(file("case.png", png(4, "malignant")))
    card = visitor.card("case.png")
    visitor.said("case.png: ")
    assert "Probability of malignancy" in visitor.page.locator("#ms-said").text_content()
    assert re.match(r"[\d.]+", card.locator(".ms-number").text_content())
    slider, heat = card.locator(".ms-opacity"), card.locator(".ms-map")
    slider.focus()
    visitor.page.keyboard.press("Home")
    assert heat.evaluate("map => getComputedStyle(map).opacity") == "0"
    visitor.page.keyboard.press("End")
    assert heat.evaluate("map => getComputedStyle(map).opacity") == "1"
    wide = card.locator(".ms-stack").evaluate("stack => stack.offsetWidth")
    card.get_by_role("button", name="Zoom in").click()
    assert card.locator(".ms-stack").evaluate("stack => stack.offsetWidth") == pytest.approx(1.5 * wide, abs=2)
    card.get_by_role("button", name="Whole image").click()
    assert card.locator(".ms-stack").evaluate("stack => stack.offsetWidth") == wide


def test_refused_image_and_wrong_file_are_explained_and_the_page_goes_on(visitor: Visitor) -> None:
    visitor.upload(file("black.png", plain()))
    card = visitor.card("black.png")
    assert "No answer is not an all-clear" in card.text_content()
    assert card.locator(".ms-number").count() == 0
    visitor.said("black.png: no answer")
    visitor.upload(file("words.png", b"these are words"))
    visitor.page.locator("#answer .ms-problem").wait_for()
    assert "words.png is not a PNG" in visitor.page.locator("#answer").text_content()
    visitor.upload(file("good.png", png(4, "malignant")))
    assert visitor.card("good.png").locator(".ms-number").count() == 1
    assert "black.png" in visitor.page.locator("#earlier summary").first.text_content()


def in_view(element: Any) -> list[float]:
    """Bring an element into the middle of the window; return its left, top, width and height there."""
    element.evaluate("one => one.scrollIntoView({block: 'center', behavior: 'instant'})")
    box = element.bounding_box()
    return [box["x"], box["y"], box["width"], box["height"]]


def test_region_drawn_with_the_mouse_is_sent_in_pixels_of_the_image(visitor: Visitor, server: Server) -> None:
    visitor.upload(file("case.png", png(4, "malignant")))  # 320 wide, 256 high
    card = visitor.card("case.png")
    card.locator(".ms-drawing").check()
    stack = card.locator(".ms-stack")
    stack.scroll_into_view_if_needed()
    area = stack.evaluate(
        "s => { const {left, top, width, height} = s.getBoundingClientRect(); return [left, top, width, height]; }"
    )
    visitor.page.evaluate("top => window.scrollBy(0, top - 120)", area[1])
    area = stack.evaluate(
        "s => { const {left, top, width, height} = s.getBoundingClientRect(); return [left, top, width, height]; }"
    )
    mouse = visitor.page.mouse
    mouse.move(area[0] + 0.1 * area[2], area[1] + 0.3 * area[3])
    mouse.down()
    mouse.move(area[0] + 0.8 * area[2], area[1] + 0.6 * area[3], steps=4)
    mouse.up()
    card.get_by_role("button", name="Assess this region").click()
    cropped = visitor.page.locator("#answer .ms-card[data-box]:not([data-box=''])")
    cropped.wait_for()
    left, top, right, bottom = map(int, cropped.get_attribute("data-box").split(","))  # as the server looked at it
    assert [left, top, right, bottom] == pytest.approx([32, 76, 256, 154], abs=2)
    width, height = cropped.locator(".ms-stack img").first.evaluate("i => [i.naturalWidth, i.naturalHeight]")
    assert (width, height) == (right - left, bottom - top)
    # A region of the region is in pixels of the whole image too.
    cropped.locator(".ms-drawing").check()
    area = in_view(cropped.locator(".ms-stack"))
    mouse.move(area[0] + 0.5 * area[2], area[1] + 0.25 * area[3])
    mouse.down()
    mouse.move(area[0] + 0.95 * area[2], area[1] + 0.95 * area[3], steps=4)
    mouse.up()
    inner = [int(cropped.locator(f"[name={side}]").input_value()) for side in ("left", "top", "right", "bottom")]
    expected = [left + 0.5 * width, top + 0.25 * height, left + 0.95 * width, top + 0.95 * height]
    assert inner == pytest.approx(expected, abs=2)
    cropped.get_by_role("button", name="The whole image again").click()
    visitor.page.locator("#answer .ms-card[data-box='']").wait_for()
    assert server.held.seen[-1].startswith("case.png")


def test_region_is_drawn_with_a_finger_too(server: Server, browser: Any) -> None:
    visitor = Visitor(server, browser, width=390, touch=True)
    visitor.upload(file("case.png", png(4, "malignant")))
    card = visitor.card("case.png")
    card.locator(".ms-drawing").check()
    stack = card.locator(".ms-stack")
    left, top, width, height = in_view(stack)
    points = [(0.25, 0.2), (0.5, 0.5), (0.75, 0.9)]
    touch = visitor.context.new_cdp_session(visitor.page)
    for kind, (x, y) in zip(("touchStart", "touchMove", "touchMove"), points, strict=True):
        point = {"x": left + x * width, "y": top + y * height}
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    sides = [int(card.locator(f"[name={side}]").input_value()) for side in ("left", "top", "right", "bottom")]
    assert sides == pytest.approx([80, 51, 240, 230], abs=3)
    assert visitor.complaints == []
    visitor.context.close()


def test_frame_of_a_clip_is_chosen(visitor: Visitor, server: Server) -> None:
    frames = [simulate_image("A", "malignant", np.random.default_rng(seed)).pixels for seed in (4, 12, 5)]
    visitor.upload(file("clip.dcm", clip(frames)))
    card = visitor.card("clip.dcm")
    assert "the sharpest, which is proposed" in card.locator(".ms-frames").text_content()
    slider = card.locator(".ms-frames [name=frame]")
    for number in (3, 1):
        card.locator(".ms-frames [name=number]").fill(str(number))
        assert slider.input_value() == str(number)
        card.get_by_role("button", name="Assess this frame").click()
        visitor.page.locator(f"#answer .ms-card[data-frame='{number}']").wait_for()
        assert f"of frame {number}, chosen by you" in card.locator(".ms-frames").text_content()
        (expected,) = server.held.predict_pixels([frames[number - 1]])
        shown = float(re.search(r"[\d.]+", card.locator(".ms-number").text_content())[0])  # type: ignore[index]
        assert shown == pytest.approx(100 * expected.positive_probability, abs=0.06)
    card.get_by_role("button", name="The sharpest frame").click()
    visitor.page.locator("#answer .ms-card[data-frame='']").wait_for()


def clip(frames: list[np.ndarray]) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UltrasoundMultiFrameImageStorage, "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.Rows, dataset.Columns = frames[0].shape
    dataset.NumberOfFrames, dataset.SamplesPerPixel = len(frames), 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = np.stack(frames).tobytes()
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def test_another_threshold_is_looked_at_and_changes_nothing(visitor: Visitor) -> None:
    visitor.upload(file("case.png", png(4, "malignant")))
    card = visitor.card("case.png")
    card.get_by_text("What would another threshold bring?").click()
    part = card.locator(".ms-threshold")
    rates = json.loads(part.get_attribute("data-rates"))
    before = card.locator(".ms-verdict").text_content()
    part.locator("input").focus()
    for key, place in (("End", -1), ("Home", 0)):
        visitor.page.keyboard.press(key)
        for name in ("sensitivity", "specificity"):
            shown = part.locator(f".ms-{name}").text_content()
            assert shown.startswith(f"{100 * rates[place][name]:.1f}"), (key, name)
        above = float(part.get_attribute("data-probability")) >= rates[place]["threshold"]
        assert part.locator(".ms-would").text_content() == ("at or above" if above else "below")
    assert rates[0]["sensitivity"] > rates[0]["specificity"]
    assert card.locator(".ms-verdict").text_content() == before


def test_answer_is_saved_as_png_pdf_and_json(visitor: Visitor) -> None:
    visitor.upload(file("Doe^Jane.png", png(4, "malignant")))
    card = visitor.card("Doe^Jane.png")
    for kind, start in (("PNG", b"\x89PNG"), ("PDF", b"%PDF-"), ("JSON", b"{")):
        with visitor.page.expect_download() as saving:
            card.get_by_role("button", name=f"as {kind}").click()
        saved = saving.value
        assert re.fullmatch(rf"medsharp-answer-[0-9a-f]{{8}}\.{kind.lower()}", saved.suggested_filename)
        content = Path(saved.path()).read_bytes()
        assert content.startswith(start)
        assert b"Doe" not in content
        visitor.page.locator("#answer .ms-card:not([data-busy])").wait_for()


def test_two_visitors_with_the_same_file_at_once_are_both_answered(server: Server, browser: Any) -> None:
    visitors = [Visitor(server, browser) for _ in range(2)]
    for visitor in visitors:
        visitor.upload(file("teaching.png", png(4, "malignant")))
    for visitor in visitors:
        visitor.card("teaching.png")
        assert visitor.complaints == []
        visitor.context.close()


def test_file_that_is_dropped_while_another_is_assessed_is_answered_after_it(visitor: Visitor, server: Server) -> None:
    server.held.go.clear()
    try:
        visitor.upload(file("first.png", png(4, "malignant")))
        server.held.begun.acquire()
        while server.held.begun.acquire(blocking=False):
            pass
        dropped = [*png(3, "benign")]
        visitor.page.locator("#upload input[type=file]").wait_for(state="attached")
        visitor.page.evaluate(
            """bytes => {
              const data = new DataTransfer();
              data.items.add(new File([new Uint8Array(bytes)], 'second.png', {type: 'image/png'}));
              const place = document.querySelector('#upload input[type=file]').parentElement;
              for (const kind of ['dragenter', 'dragover', 'drop'])
                place.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
            }""",
            dropped,
        )
        while not server.app.state.uploads._waiting and server.app.state.admission.inside < 2:
            time.sleep(0.05)
    finally:
        server.held.go.set()
    card = visitor.card("second.png")
    visitor.page.locator("#earlier summary", has_text="first.png").wait_for()
    # What was dropped can be asked anew like what was chosen.
    card.locator("[name=left]").fill("10")
    card.locator("[name=top]").fill("20")
    card.locator("[name=right]").fill("200")
    card.locator("[name=bottom]").fill("220")
    card.get_by_role("button", name="Assess this region").click()
    visitor.page.locator("#answer .ms-card[data-box='10,20,200,220']").wait_for()


def test_batch_has_a_table_to_sort_filter_and_save_and_a_report(visitor: Visitor) -> None:
    names = [f"{label}/{number}.png" for number, label in enumerate(("benign", "malignant") * 4)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(name, png(number, name.split("/")[0]))
        archive.writestr("words.png", b"words")
    labels = "\n".join(["image,label", *(f"{name},{name.split('/')[0]}" for name in reversed(names))])
    visitor.tab("Batch")
    form = visitor.page.locator(".ms-batch-form")
    form.locator("[name=images]").set_input_files(file("all.zip", buffer.getvalue()))
    form.locator("[name=labels]").set_input_files(
        file("labels.csv", labels.replace("benign/0.png,benign", "benign/0.png,bening").encode())
    )
    form.get_by_role("button", name="Assess all").click()
    visitor.page.locator(".ms-work .ms-problem", has_text="label 'bening' is not one of benign, malignant").wait_for()
    visitor.complaints.clear()  # of the status 422, which the browser logs
    form.locator("[name=labels]").set_input_files(file("labels.csv", labels.encode()))
    form.get_by_role("button", name="Assess all").click()
    visitor.page.locator("iframe.ms-report").wait_for()
    visitor.said("9 images: ")
    assert visitor.page.locator(".ms-work .ms-problem").count() == 0
    rows = visitor.page.locator(".ms-batch tbody tr")
    assert rows.count() == 9
    numbers = "rows => rows.map(row => Number(row.cells[2].dataset.sort))"
    head = visitor.page.locator(".ms-sort", has_text="Probability")
    head.click()
    ascending = rows.evaluate_all(numbers)
    assert ascending == sorted(ascending)
    assert visitor.page.locator("th[aria-sort=ascending]").count() == 1
    head.click()
    assert rows.evaluate_all(numbers) == ascending[::-1]
    visitor.page.locator(".ms-which").select_option("silent")
    assert visitor.page.locator(".ms-batch tbody tr:visible").count() == 1
    visitor.page.locator(".ms-which").select_option("")
    visitor.page.locator(".ms-holds").fill("benign/")
    assert visitor.page.locator(".ms-batch tbody tr:visible").count() == 4
    with visitor.page.expect_download() as saving:
        visitor.page.get_by_role("button", name="Save the table").click()
    table = Path(saving.value.path()).read_text()
    assert [line.split(",")[0] for line in table.splitlines()[1:]] == [*reversed(names), "words.png"]
    frame = visitor.page.frame_locator("iframe.ms-report")
    assert "Not for diagnostic use" in frame.locator("body").text_content()
    assert visitor.page.locator("iframe.ms-report").get_attribute("sandbox") == ""


class HeldFrom:
    """Stands for what the model waits for: it works until it is given an image of a name.

    Attributes:
        released: Once it is set, the model works on.
    """

    def __init__(self, held: Any, name: str) -> None:
        self._held = held
        self._name = name
        self.released = threading.Event()

    def wait(self) -> None:
        if self._name in self._held.seen:
            self.released.wait()


def test_batch_of_several_files_shows_its_progress_and_is_stopped_and_begun_again(
    visitor: Visitor, server: Server
) -> None:
    visitor.tab("Batch")
    form = visitor.page.locator(".ms-batch-form")
    work = visitor.page.locator(".ms-work", has=form)
    scans = {f"batch-{number}.png": png(number, "benign") for number in range(9)}
    form.locator("[name=images]").set_input_files([file(name, content) for name, content in scans.items()])
    start, stop = form.get_by_role("button", name="Assess all"), form.get_by_role("button", name="Stop")
    assert stop.count() == 0
    go, held = server.held.go, HeldFrom(server.held, "batch-8.png")  # in the second turn, alone
    server.held.go = held
    try:
        start.click()
        work.get_by_text("assessing: 8 of 9").wait_for()
        assert work.locator("progress").evaluate("bar => [bar.value, bar.max]") == [8, 9]
        assert start.is_disabled()
        assert work.locator(".ms-batch").count() == 0
        stop.click()
        work.locator(".ms-problem", has_text="Stopped.").wait_for()
        assert start.is_enabled()
        assert stop.count() == 0
        assert work.locator("progress").is_hidden()
        while server.app.state.admission.inside:  # the server hears of it, and keeps nothing
            time.sleep(0.02)
        assert server.app.state.memory.held == 0
    finally:
        held.released.set()
        server.held.go = go
    form.locator("[name=images]").set_input_files([file(name, scans[name]) for name in list(scans)[2:5]])
    start.click()
    work.locator(".ms-batch").wait_for()
    assert [name.split("\n")[0] for name in work.locator(".ms-batch tbody tr").evaluate_all(FIRST_CELL)] == [
        "batch-2.png", "batch-3.png", "batch-4.png"
    ]  # fmt: skip
    assert work.locator(".ms-problem").count() == 0
    visitor.said("3 images: ")


FIRST_CELL = "rows => rows.map(row => row.cells[0].innerText)"


def test_zip_and_still_dicom_are_uploaded_for_a_card_each(visitor: Visitor) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("ward/one.png", png(4, "malignant"))
        archive.writestr("ward/two.png", png(5, "benign"))
    pixels = np.asarray(Image.open(io.BytesIO(png(6, "benign"))))
    visitor.upload(file("all.zip", buffer.getvalue()), file("scan.dcm", clip([pixels])))
    for name in ("ward/one.png", "ward/two.png", "scan.dcm"):
        visitor.page.locator("#answer summary", has_text=name).click()
        visitor.card(name)
    assert visitor.page.locator("#answer .ms-card").count() == 3


def test_last_image_is_corrupted_and_asked_of_all_models(visitor: Visitor) -> None:
    visitor.tab("Robustness")
    visitor.page.get_by_role("button", name="Corrupt this image").click()
    visitor.page.locator(".ms-work .ms-problem", has_text="Assess an image first").wait_for()
    visitor.tab("Assess")
    visitor.page.get_by_role("button", name="Simulated, malignant").first.click()
    visitor.card("simulated image 2")
    visitor.tab("Robustness")
    visitor.page.locator(".ms-one [name=family]").select_option("annotation")
    visitor.page.get_by_role("button", name="Corrupt this image").click()
    visitor.page.locator(".ms-robustness").wait_for()
    assert visitor.page.locator(".ms-robustness tbody tr").count() == 4
    visitor.said("corruptions")
    visitor.tab("Model")
    visitor.page.get_by_role("button", name="Compare on this image").click()
    compared = visitor.page.locator(".ms-outcome tbody tr th", has_text="resnet18")
    compared.wait_for()
    assert "Model card of busi-resnet18" in visitor.page.locator("body").text_content()


def test_what_stands_above_is_of_the_model_that_is_chosen(visitor: Visitor, server: Server) -> None:
    page, (first, second) = visitor.page, server.app.state.models.names
    told = page.locator(".prose", has=page.locator(".ms-head"))
    told.get_by_text(f"Model {first},").wait_for()
    figures = told.inner_text().replace(first, "")
    for name in (second, first):
        page.locator("#model input").click()
        page.get_by_role("option", name=name).click()
        told.get_by_text(f"Model {name},").wait_for()
        assert (told.inner_text().replace(name, "") == figures) == (name == first)


def test_everything_is_done_with_the_keyboard_alone(visitor: Visitor) -> None:
    keys = visitor.page.keyboard

    def tab_to(selector: str) -> None:
        for _ in range(60):
            keys.press("Tab")
            if visitor.page.evaluate("selector => document.activeElement.matches(selector)", selector):
                outline = "[getComputedStyle(document.activeElement).outlineStyle, document.activeElement.tagName]"
                assert visitor.page.evaluate(outline)[0] != "none", selector
                return
        raise AssertionError(f"the tab key never comes to {selector}")

    tab_to("[role=tab]")
    tab_to(".ms-example button")
    keys.press("Enter")
    visitor.card("simulated image 1")
    tab_to(".ms-frame")
    tab_to(".ms-opacity")
    keys.press("ArrowLeft")
    tab_to(".ms-zoom[value='1']")
    keys.press("Space")
    assert visitor.page.locator("#answer .ms-zoomed").text_content() == "150 %"
    tab_to(".ms-threshold summary")
    keys.press("Enter")
    tab_to(".ms-drawing")
    keys.press("Space")
    assert visitor.page.locator(".ms-drawing").is_checked()
    for side, value in (("left", 20), ("top", 30), ("right", 220), ("bottom", 200)):
        tab_to(f".ms-region [name={side}]")
        keys.type(str(value))
    keys.press("Enter")
    visitor.page.locator("#answer .ms-card[data-box='20,30,220,200']").wait_for()
    visitor.said("simulated image 1")
    # The focus is on the new answer's title, and does not begin again at the top.
    assert visitor.page.evaluate("document.activeElement.className") == "ms-name"


CONTRAST = Path(__file__).with_name("contrast.js")


@pytest.mark.parametrize(
    ("width", "dark", "by_system"),
    [(1280, False, False), (1280, True, True), (390, False, True), (390, True, False)],
    ids=["wide, light", "wide, dark by the system", "phone, light by the system", "phone, dark"],
)
def test_text_can_be_read_everything_has_a_name_and_nothing_is_wider_than_the_screen(
    server: Server, browser: Any, width: int, dark: bool, by_system: bool
) -> None:
    visitor = Visitor(server, browser, width=width, dark=dark, by_system=by_system)
    page = visitor.page

    def check(what: str) -> None:
        assert page.evaluate(CONTRAST.read_text()) == [], (what, width, dark)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, what

    page.locator(".ms-head h1").wait_for()
    ink = page.evaluate("getComputedStyle(document.querySelector('.ms-head h1')).color")
    assert (sum(map(int, re.findall(r"\d+", ink)[:3])) > 600) == dark, ink
    visitor.upload(file("case.png", png(4, "malignant")))
    visitor.card("case.png").get_by_text("What would another threshold bring?").click()
    for name in ("Assess", "Batch", "Robustness", "Model"):
        visitor.tab(name)
        page.get_by_role("tab", name=name, selected=True).wait_for()
        check(name)
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    notice = page.locator(".ms-banner").bounding_box()
    assert 0 <= notice["y"] < 100
    assert notice["height"] < 100
    page.get_by_role("button", name="Compare on this image").click()
    page.locator(".ms-outcome tbody tr th", has_text="resnet18").wait_for()
    check("models compared")
    visitor.tab("Robustness")
    page.locator(".ms-one [name=family]").select_option("annotation")
    page.get_by_role("button", name="Corrupt this image").click()
    page.locator(".ms-robustness").wait_for()
    check("a corrupted image")
    visitor.tab("Batch")
    page.locator(".ms-batch-form [name=images]").set_input_files(
        [file("case.png", png(4, "malignant")), file("black.png", plain()), file("words.png", b"words")]
    )
    page.get_by_role("button", name="Assess all").click()
    page.locator(".ms-batch").wait_for()
    check("a batch")
    visitor.tab("Assess")
    visitor.upload(file("black.png", plain()))
    visitor.card("black.png")
    check("a refusal")
    assert visitor.complaints == []
    visitor.context.close()
