"""Settings every test runs under, such as no network and two threads at most; and files as hospitals have them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

from medsharp.data.phantom.simulate import simulate_image

os.environ.setdefault("OMP_NUM_THREADS", "2")
# Threads that wait for each other sleep. By default they spin, and where another process has the core that one of them
# needs, a training takes twenty times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# The console keeps the width that it finds when it is made, whatever a test asks for; processes of xdist are given one.
os.environ.pop("COLUMNS", None)
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


@pytest.fixture(scope="session", autouse=True)
def own_cache() -> Iterator[None]:
    """Decoded images and simulated hospitals go into a cache of the tests' own."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="medsharp-tests-")
    yield
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets, or a skip where there is none."""
    folder = os.environ.get("MEDSHARP_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MEDSHARP_DATA does not name a folder of real data")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def speckle_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained network as a bundle."""
    import torch

    from medsharp.bundle import TrainingRecord
    from medsharp.export import export_network
    from medsharp.networks import create_network
    from medsharp.preprocess import PreprocessSpec

    rng = np.random.default_rng(1)
    images = np.clip(rng.rayleigh(60.0, size=(24, 64, 64)), 0, 255).astype(np.uint8)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("served") / "speckle-model"
    export_network(
        create_network("resnet10_w16", num_classes=2, image_size=64).eval(),
        folder,
        classes=("benign", "malignant"),
        positive="malignant",
        preprocess_spec=PreprocessSpec(size=64),
        validation_images=images,
        validation_labels=np.arange(len(images)) % 2,
        training=TrainingRecord(
            dataset="Speckle", images={"val": 24}, network="resnet10_w16", optimizer={"name": "wsam"}
        ),
    )
    return folder


@pytest.fixture(autouse=True)
def own_key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Patients are numbered with a key of the test's own, which is not there before it is needed."""
    folder = tmp_path_factory.mktemp("config")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    monkeypatch.delenv("MEDSHARP_PATIENT_KEY", raising=False)
    return folder / "medsharp" / "patients.key"


@pytest.fixture
def save_picture() -> Callable[..., Path]:
    """Write simulated ultrasound, each other than the last; folders are made."""
    rng = np.random.default_rng(0)

    def save(path: Path, white: bool = False) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = simulate_image("A", "benign", rng, size=96).pixels
        Image.fromarray(np.full_like(pixels, 255) if white else pixels).save(path)
        return path

    return save


@pytest.fixture
def save_dicom() -> Callable[..., Dataset]:
    """Write a DICOM file with simulated ultrasound; `frames` of them, and whatever attributes are given."""
    rng = np.random.default_rng(1)

    def save(path: Path, patient: str = "ID-1", *, frames: int = 1, pixels: bool = True, **attributes: Any) -> Dataset:
        dataset = Dataset()
        dataset.SOPClassUID = UltrasoundImageStorage
        dataset.SOPInstanceUID = generate_uid()
        dataset.StudyInstanceUID = f"1.2.3.{sum(patient.encode())}"
        dataset.SeriesInstanceUID = f"{dataset.StudyInstanceUID}.1"
        dataset.PatientID, dataset.PatientName, dataset.Modality = patient, "Secretname^Anna", "US"
        dataset.Manufacturer, dataset.ManufacturerModelName = "ACME", "Scan 1"
        if pixels:
            values = np.stack([simulate_image("A", "benign", rng, size=96).pixels for _ in range(frames)])
            dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
            dataset.Rows, dataset.Columns = values.shape[1:]
            dataset.BitsAllocated = dataset.BitsStored = 8
            dataset.HighBit, dataset.PixelRepresentation = 7, 0
            if frames > 1:
                dataset.NumberOfFrames = frames
            dataset.PixelData = values.tobytes()
        for name, value in attributes.items():
            setattr(dataset, name, value)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
        return dataset

    return save


@pytest.fixture
def stub_findings(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], tuple[Any, ...]]], None]:
    """Let a function of an image's name say what the checks find in it, in place of the checks that there are."""
    from medsharp.inference import Predictor

    answer = Predictor._answer

    def stub(found: Callable[[str], tuple[Any, ...]]) -> None:
        def with_stub(self: Predictor, one: Any, part: Any, share: Any, _: Any, *rest: Any) -> Any:
            return answer(self, one, part, share, found(one.name), *rest)

        monkeypatch.setattr(Predictor, "_answer", with_stub)
        monkeypatch.setattr("medsharp.inference.checks.judge.Judge.of_image", lambda self, image: ())

    return stub


@pytest.fixture
def stub_checks(stub_findings: Callable[[Callable[[str], tuple[Any, ...]]], None]) -> None:
    """Refuse images whose names say `refuse` and mark those that say `mark`."""
    from medsharp.inference.checks import Finding

    def found(name: str) -> tuple[Finding, ...]:
        marked = (Finding("stub_dark", "caution", "very dark for a test", 3.0, 10.0),) if "mark" in name else ()
        refused = (Finding("stub_photograph", "refusal", "a photograph in a test", 0.9, 0.5, "upload a scan"),)
        return (*marked, *refused) if "refuse" in name else marked

    stub_findings(found)
