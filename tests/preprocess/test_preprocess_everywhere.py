"""Training, the exporter and the server give the network the same bytes for the same file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medsharp.bundle import CHECKS, read_bundle
from medsharp.config import load_config
from medsharp.data.manifest import read_manifest
from medsharp.data.pipeline import make_dataset
from medsharp.export import from_runs as exporter
from medsharp.inference import Predictor, predict_manifest
from medsharp.inference.checks.learned import Learned
from medsharp.inference.session import Session
from serve.engine import Engine, Shared
from serve.engine.capacity import Admission
from serve.engine.lanes import Lanes
from serve.metrics import Metrics

BUNDLE = Path(__file__).parents[2] / "models" / "busi-resnet18"
SETTINGS = [
    {"crop": "scan", "fit": "letterbox"},
    {"crop": "region", "fit": "stretch"},
    {"crop": "none", "fit": "letterbox", "inpaint": True},
    {"crop": "lesion", "fit": "letterbox", "margin": 0.3, "inpaint": True},
]


class Recorder:
    """Stands in for the network and keeps what it is given."""

    outputs = ("logits", "features")
    device = "cpu"

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def run(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        self.seen += list(inputs)
        features = len(Learned.read(BUNDLE / CHECKS).mean)
        return {
            "logits": np.zeros((len(inputs), 2), dtype=np.float32),
            "features": np.zeros((len(inputs), features), dtype=np.float32),
        }


@pytest.fixture
def hospital(tmp_path: Path, simulated: Any, vendor_screen: Any) -> Path:
    """Grey and coloured screens of several sizes and kinds of file, with masks and a box."""
    rows = ["image,label,split,mask,box"]
    for number in range(6):
        scan, _, _ = simulated("ABC"[number % 3], number)
        screen, (top, left, *_) = vendor_screen(scan, number)
        picture = Image.fromarray(screen)
        if number % 2:
            picture = picture.convert("RGB")
            picture.paste((255, 220, 0), (left + 40, top + 60, left + 90, top + 62))
        kind = ("png", "bmp", "tif")[number % 3]
        picture.save(tmp_path / f"{number}.{kind}")
        mask = Image.new("L", (640, 480))
        mask.paste(255, (left + 50, top + 50, left + 130, top + 110))
        mask.save(tmp_path / f"mask{number}.png")
        where = f"mask{number}.png," if number < 4 else f',"{left + 50},{top + 50},{left + 130},{top + 110}"'
        rows.append(f"{number}.{kind},{('benign', 'malignant')[number % 2]},val,{where}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings["crop"])
def test_training_exporter_and_server_see_the_same_bytes(
    hospital: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = load_config(None, [f"data.{key}={value}" for key, value in settings.items()])
    spec = config.data.preprocessing()
    manifest = read_manifest(hospital)
    trained = make_dataset(manifest.table, manifest, spec=spec, classes=("benign", "malignant"))
    training = np.stack([trained[index]["image"].numpy()[0] for index in range(len(trained))])
    assert np.array_equal(training, training.astype(np.uint8))

    handed: dict[str, Any] = {}
    run = SimpleNamespace(
        finished=True,
        config=config,
        manifest=manifest,
        folder=tmp_path,
        origin=None,
        load_network=lambda image_size: image_size,
    )
    monkeypatch.setattr(exporter, "Run", SimpleNamespace(load=lambda folder: run))
    monkeypatch.setattr(
        exporter, "export_network", lambda networks, out, **options: handed.update(options | {"networks": networks})
    )
    exporter.export_run(tmp_path, tmp_path / "bundle")
    assert handed["networks"] == [spec.size]
    assert np.array_equal(handed["validation_images"], training.astype(np.uint8))
    assert handed["preprocess_spec"] == spec

    recorder = Recorder()
    predictor = Predictor(BUNDLE, read_bundle(BUNDLE, verify=False), recorder)  # type: ignore[arg-type]
    predictor.preprocessing = spec
    table = predict_manifest(predictor, manifest)
    assert (table["error"] == "").all()
    assert np.array_equal(np.stack(recorder.seen), training.astype(np.uint8))

    if spec.crop != "lesion":  # which an upload cannot show
        recorder.seen.clear()
        files = [manifest.path(name) for name in manifest.table["image"]]
        shared = Shared(Lanes(), Admission(64), Metrics())
        engine = Engine(predictor, shared, max_file_bytes=2**26, deadline_seconds=60.0)
        for file in files:  # one after the other, as the engine takes whichever is decoded first
            asyncio.run(engine.assess([file.read_bytes()], [file.name]))
        engine.close()
        assert np.array_equal(np.stack(recorder.seen), training.astype(np.uint8))


def test_predictor_gives_the_network_what_the_bundle_froze() -> None:
    predictor = Predictor.load(BUNDLE, device="cpu")
    assert isinstance(predictor.session, Session)
    assert predictor.preprocessing == predictor.spec.preprocess.spec()
