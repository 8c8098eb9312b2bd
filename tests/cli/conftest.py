"""Small folders in the layouts of BUSI and BUS-BRA, made of simulated images."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsharp.data.phantom import simulate_image


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `Dataset_BUSI_with_GT`, `BUSBRA` and two single images beside them."""
    root = tmp_path_factory.mktemp("workspace")
    rng = np.random.default_rng(0)
    for label, count in (("benign", 26), ("malignant", 22), ("normal", 2)):
        folder = root / "Dataset_BUSI_with_GT" / label
        folder.mkdir(parents=True)
        for number in range(1, count + 1):
            picture = simulate_image("A", "malignant" if label == "malignant" else "benign", rng, size=128)
            Image.fromarray(picture.pixels).save(folder / f"{label} ({number}).png")
            Image.fromarray(picture.mask.astype(np.uint8) * 255).save(folder / f"{label} ({number})_mask.png")
    for name in ("Images", "Masks"):
        (root / "BUSBRA" / name).mkdir(parents=True)
    rows = []
    for case in range(1, 25):
        label = "malignant" if case % 3 == 0 else "benign"
        for side in ("l", "r"):
            name = f"bus_{case:04d}-{side}"
            picture = simulate_image("B", label, rng, size=128)
            Image.fromarray(picture.pixels).save(root / "BUSBRA" / "Images" / f"{name}.png")
            mask = Image.fromarray(picture.mask.astype(np.uint8) * 255)
            mask.save(root / "BUSBRA" / "Masks" / f"{name.replace('bus', 'mask')}.png")
            sides = {"l": "left", "r": "right"}
            rows.append([name, case, "fibroadenoma", label, 4, "simulated", 128, 128, sides[side], "[1,1,2,2]"])
    with (root / "BUSBRA" / "bus_data.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Width", "Height", "Side", "BBOX"])
        writer.writerows(rows)
    Image.fromarray(simulate_image("C", "malignant", rng).pixels).save(root / "image.png")
    _write_dicom(root / "scan.dcm", simulate_image("C", "benign", rng).pixels)
    return root


def _write_dicom(path: Path, pixels: np.ndarray) -> None:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.PatientName = "Nobody^Real"
    dataset.Modality = "US"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path, enforce_file_format=True)
