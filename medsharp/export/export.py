"""Writing a bundle, from a run folder or from a network at hand."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medsharp import __version__
from medsharp.bundle import (
    FORMAT,
    INTERNAL,
    METADATA,
    MODEL,
    PARITY,
    VALIDATION,
    BundleSpec,
    InputCheck,
    Preprocessing,
    TrainingRecord,
    write_spec,
)
from medsharp.config import DataConfig, TrainConfig
from medsharp.cores import usable_cores
from medsharp.data.exclusions import count_exclusions
from medsharp.data.lesion import BOX, lesion_box
from medsharp.data.manifest import AUDITED, Manifest
from medsharp.export.calibration import check_choice, choose_operating_point, estimate_temperature
from medsharp.export.graph import check_parity, write_onnx
from medsharp.export.metadata import monai_metadata
from medsharp.files import atomic_folder, sha256_file
from medsharp.inference.card import write_card
from medsharp.inference.external import evaluate_internal
from medsharp.inference.heatmap import evidence_of_cam, evidence_of_occlusion
from medsharp.inference.leaks import write_hashes
from medsharp.inference.predictor import softmax
from medsharp.inference.session import Session
from medsharp.keys import patients_of
from medsharp.networks import Classifier
from medsharp.preprocess import PreprocessSpec, preprocess
from medsharp.progress import Progress
from medsharp.runs import ENVIRONMENT, Run

_BATCH = 64
_PARITY_IMAGES = 64
_AFTER_AUDIT = "medsharp data audit DATA --out AUDIT\nmedsharp train --data AUDIT --config settings.yaml --out RUN"
"""What the card says of a run on an audited manifest."""


def export_run(
    run_folder: str | Path,
    out: str | Path,
    *,
    sensitivity: float = 0.95,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> BundleSpec:
    """Write the weights that a run keeps as a bundle.

    Args:
        run_folder: As `training.train` leaves it; its images must still be where the manifest says.
        out: The bundle's folder; its name becomes the model's.
        sensitivity: What the operating point reaches on the validation images.
        overwrite: Replace an existing bundle.
        progress: Called with images done, images in all and what is being done.

    Raises:
        InputError: The run has no weights, an image is missing, or ONNX and PyTorch disagree; nothing is written then.
    """
    run = Run.load(run_folder)
    config, manifest = run.config, run.manifest
    network = run.load_network()
    place = config.data.preprocessing()
    validation, test = (manifest.of_split(split) for split in ("val", "test"))
    classes = config.data.classes
    environment = run.folder / ENVIRONMENT
    record = TrainingRecord(
        dataset=manifest.info.name,
        licence=manifest.info.licence,
        citation=manifest.info.citation,
        images={split: len(manifest.of_split(split)) for split in ("train", "val", "test")},
        excluded=count_exclusions(manifest.table["exclude"]),
        network=config.network.name,
        optimizer=config.optimizer.summary(),
        command=_AFTER_AUDIT if any(note.startswith(AUDITED) for note in manifest.notes) else "",
        config=_told(config),
        environment=json.loads(environment.read_text(encoding="utf-8")) if environment.exists() else {},
        weights=run.origin,
    )
    return export_network(
        network,
        out,
        classes=classes,
        positive=config.data.positive,
        preprocess_spec=place,
        validation_images=_load(validation, manifest, config.data, progress),
        validation_labels=np.array([classes.index(label) for label in validation["label"]]),
        training=record,
        internal=test,
        internal_images=_load(test, manifest, config.data, progress),
        seen=manifest,
        sensitivity=sensitivity,
        overwrite=overwrite,
    )


def export_network(
    network: Classifier,
    out: str | Path,
    *,
    classes: Sequence[str],
    positive: str,
    preprocess_spec: PreprocessSpec,
    validation_images: np.ndarray,
    validation_labels: np.ndarray,
    training: TrainingRecord,
    internal: pd.DataFrame | None = None,
    internal_images: np.ndarray | None = None,
    seen: Manifest | None = None,
    sensitivity: float = 0.95,
    overwrite: bool = False,
) -> BundleSpec:
    """Write a network as a bundle.

    Args:
        network: In eval mode, on the CPU.
        out: The bundle's folder.
        classes: In the order of the logits.
        positive: The class that is thresholded.
        preprocess_spec: How images were placed in training.
        validation_images: uint8 [N, S, S]; they fix temperature, operating point and input check, and prove parity.
        validation_labels: int [N].
        training: What the network was trained on and how.
        internal: Manifest rows of the internal test split; names of images and patients are hashed.
        internal_images: uint8 [M, S, S], theirs.
        seen: The manifest with splits: hashes of its training and validation images are written, so that evaluation on
            them is noticed.
        sensitivity: What the operating point reaches on the validation images.
        overwrite: Replace an existing bundle.

    Raises:
        InputError: ONNX and PyTorch disagree, or the validation images are of one class; nothing is written then.
    """
    out = Path(out)
    network = network.eval()
    number = list(classes).index(positive)
    check_choice(validation_labels == number, sensitivity)
    with atomic_folder(out, overwrite=overwrite) as folder:
        write_onnx(network, folder / MODEL, {"medsharp": __version__, "classes": ",".join(classes)})
        session = Session(folder / MODEL, device="cpu")
        parity = check_parity(network, session, validation_images[:_PARITY_IMAGES])
        (folder / PARITY).write_text(json.dumps(parity, indent=1) + "\n", encoding="utf-8")

        outputs = _run(session, validation_images)
        temperature = estimate_temperature(outputs["logits"], validation_labels)
        validation_shares = softmax(outputs["logits"].astype(np.float64) / temperature.value)
        scores = validation_shares[:, number]
        table = _validation_table(validation_labels, validation_shares, classes)
        table.to_csv(folder / VALIDATION, index=False, lineterminator="\n")
        if seen is not None:
            write_hashes(folder, seen)
        if internal is not None and internal_images is not None and len(internal):
            shares = softmax(_run(session, internal_images)["logits"].astype(np.float64) / temperature.value)
            _internal_table(internal, shares, classes).to_csv(folder / INTERNAL, index=False, lineterminator="\n")
        spec = BundleSpec(
            format=FORMAT,
            name=out.resolve().name,
            created=datetime.now(UTC).strftime("%Y-%m-%d"),
            medsharp=__version__,
            classes=tuple(classes),
            positive=positive,
            preprocess=Preprocessing(**asdict(preprocess_spec)),
            temperature=temperature.value,
            uncalibrated=temperature.obstacle,
            operating_point=choose_operating_point(scores, validation_labels == number, sensitivity),
            input_check=_input_check(outputs["features"], validation_images),
            heatmap_reference=_heatmap_reference(session, outputs, validation_images, number),
            outputs=session.outputs,
            training=training,
            files={},
        )
        metadata = monai_metadata(spec, evaluate_internal(spec, folder))
        (folder / METADATA).write_text(json.dumps(metadata, indent=1) + "\n", encoding="utf-8")
        write_card(folder, spec)
        spec = spec.model_copy(update={"files": {file.name: sha256_file(file) for file in sorted(folder.iterdir())}})
        write_spec(folder, spec)
    return spec


def _told(config: TrainConfig) -> dict[str, Any]:
    """Return the settings as a bundle tells them: without folders of the machine that it was made on."""
    values = config.model_dump(mode="json")
    values["data"]["path"] = "DATA"
    if config.network.checkpoint is not None:
        values["network"]["checkpoint"] = Path(config.network.checkpoint).name
    return values


def _validation_table(labels: np.ndarray, shares: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """Return the predictions that fixed temperature and operating point, numbered, for conformal prediction sets."""
    return pd.DataFrame(
        {
            "image": [f"validation {number}" for number in range(1, len(labels) + 1)],
            "label": [classes[label] for label in labels],
            **{f"p_{name}": shares[:, column].round(6) for column, name in enumerate(classes)},
        }
    )


def _load(rows: pd.DataFrame, manifest: Manifest, data: DataConfig, progress: Progress | None) -> np.ndarray:
    place, limits = data.preprocessing(), data.limits.limits()

    def load(row: dict[Hashable, Any]) -> np.ndarray:
        name = row["image"]
        image = manifest.read(row, limits)
        lesion = None
        if place.crop == "lesion":
            lesion = lesion_box(name, row.get(BOX, ""), manifest.masks(row), image, limits)
        return preprocess(image.pixels, place, lesion=lesion, coloured=image.coloured)

    loaded = []
    with ThreadPoolExecutor(usable_cores()) as pool:
        for image in pool.map(load, rows.to_dict("records")):
            loaded.append(image)
            if progress is not None:
                progress(len(loaded), len(rows), "reading internal images")
    return np.stack(loaded) if loaded else np.zeros((0, place.size, place.size), dtype=np.uint8)


def _run(session: Session, images: np.ndarray) -> dict[str, np.ndarray]:
    parts = [session.run(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in session.outputs}


def _input_check(features: np.ndarray, images: np.ndarray) -> InputCheck:
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    distances = np.sqrt((((features - mean) / scale) ** 2).mean(axis=1))
    brightness = images.mean(axis=(1, 2))
    # Half as far again as anything in the validation images: these checks shall speak rarely.
    spread = (brightness.max() - brightness.min()) / 4
    return InputCheck(
        feature_mean=tuple(round(float(value), 6) for value in mean),
        feature_scale=tuple(round(float(value), 6) for value in scale),
        distance_limit=float(1.5 * distances.max()),
        brightness=(float(max(1.0, brightness.min() - spread)), float(min(254.0, brightness.max() + spread))),
    )


def _heatmap_reference(session: Session, outputs: dict[str, np.ndarray], images: np.ndarray, positive: int) -> float:
    """Return the evidence that is shown at full strength: the 99th percentile over validation images."""
    if "cam" in outputs:
        evidence = evidence_of_cam(outputs["cam"], positive)
    else:
        evidence = np.stack([evidence_of_occlusion(session, image, positive) for image in images[:16]])
    return float(max(np.percentile(evidence, 99), 1e-6))


def _internal_table(rows: pd.DataFrame, shares: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    # The key is thrown away: names cannot be found again by hashing a list of likely ones.
    hashed = partial(_hashed, key=secrets.token_bytes(32))
    group = rows["group"].where(rows["group"] != "", rows["image"])
    # A patient who is not known stays so: the report says patients only of patients.
    patients = patients_of(rows)
    patient = patients.map(hashed).where(patients != "", "")
    return pd.DataFrame(
        {
            "image": rows["image"].map(hashed),
            "patient": patient,
            "group": group.map(hashed),
            "site": rows["site"],
            "label": rows["label"],
            **{f"p_{name}": shares[:, number].round(6) for number, name in enumerate(classes)},
            "device": rows["device"],
            "birads": rows["birads"],
            "split": "test",
        }
    )


def _hashed(text: str, key: bytes) -> str:
    return hashlib.blake2b(text.encode("utf-8"), key=key, digest_size=8).hexdigest()
