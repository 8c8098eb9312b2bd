"""Writing a bundle of one or several networks at hand."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from medsharp import __version__
from medsharp.bundle import (
    CHECKS,
    FORMAT,
    INTERNAL,
    METADATA,
    MODEL,
    VALIDATION,
    Average,
    BundleSpec,
    HeldOut,
    Precision,
    Preprocessing,
    TrainingRecord,
    write_spec,
)
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.evaluation.statistics.operating_point import LEAST_POSITIVES, check_choice, choose_operating_point
from medsharp.export.calibration import estimate_temperature
from medsharp.export.checks import answer_limits, measured, picture_limits
from medsharp.export.gates import Decisions, check_finite, run_all
from medsharp.export.graph import write_onnx
from medsharp.export.half_weights import Weights
from medsharp.export.held_out import held_out_figures
from medsharp.export.members import Ensemble
from medsharp.export.metadata import monai_metadata, onnx_properties
from medsharp.export.parity import prove_float32, write_parity, write_precisions
from medsharp.export.tables import internal_table, validation_table
from medsharp.files import atomic_folder, sha256_file
from medsharp.images import DecodedImage
from medsharp.inference.card import write_card
from medsharp.inference.external import evaluate_internal
from medsharp.inference.leaks import write_hashes
from medsharp.inference.predictor import softmax
from medsharp.inference.session import Session
from medsharp.keys import clusters_of
from medsharp.networks import Classifier
from medsharp.preprocess import PreprocessSpec


def export_network(
    networks: Classifier | Sequence[Classifier],
    out: str | Path,
    *,
    classes: Sequence[str],
    positive: str,
    preprocess_spec: PreprocessSpec,
    validation_images: np.ndarray,
    validation_labels: np.ndarray,
    training: TrainingRecord,
    average: Average = "probabilities",
    flip: bool = False,
    smaller: Sequence[int] = (),
    weights: Weights = "fp32",
    precisions: Sequence[Precision] = ("fp32",),
    calibration_images: np.ndarray | None = None,
    validation_rows: pd.DataFrame | None = None,
    answered_by: np.ndarray | None = None,
    pictures: Mapping[str, np.ndarray] | None = None,
    without_lesion: np.ndarray | None = None,
    internal: pd.DataFrame | None = None,
    internal_images: np.ndarray | None = None,
    left_out: str = "",
    seen: Manifest | None = None,
    held_out: Sequence[HeldOut] = (),
    sensitivity: float = 0.95,
    overwrite: bool = False,
) -> BundleSpec:
    """Write one or several networks as a bundle with one graph.

    Args:
        networks: In eval mode, on the CPU; several answer together (see `medsharp.export.members.Ensemble`).
        out: The bundle's folder.
        classes: In the order of the logits.
        positive: The class that is thresholded.
        preprocess_spec: How images were placed in training.
        validation_images: uint8 [N, S, S]; they fix temperature, operating point and input checks, and prove parity.
        validation_labels: int [N].
        training: What the networks were trained on and how.
        average: What the answer of several networks or views is the mean of.
        flip: Whether each network also sees the mirror image.
        smaller: Sides in pixels, less than S, at which each network sees the image too.
        weights: How `model.onnx`, which computes in float32, stores them.
        precisions: `fp32` is always written; `fp16` and `int8` beside it, where they pass their gates on the validation
            images, which `parity.json` tells.
        calibration_images: uint8 [M, S, S], training images that the ranges of int8 are taken from.
        validation_rows: Manifest rows of the validation images, which tell patients apart for the threshold's interval;
            without them each image is a patient.
        answered_by: bool [N, networks], which networks answer each validation image: those that did not learn from it.
            All do by default.
        pictures: What the checks of the picture measure of the validation images as they were decoded
            (`medsharp.export.checks.measured`); of the network's inputs without it.
        without_lesion: uint8 [K, S, S], images that show no lesion: the bundle then says where there may be none.
        internal: Manifest rows of the internal test split; names of images and patients are hashed.
        internal_images: uint8 [M, S, S], theirs.
        left_out: The site that these rows are of where no network learned from it. They are then figures of a hospital
            left out, and the internal ones are of the validation images.
        seen: The manifest with splits, as `write_hashes` takes it: hashes of its training and validation images are
            written, so that evaluation on them is noticed.
        held_out: Figures at hospitals left out wholly, of models made in the same way.
        sensitivity: What the operating point reaches on the validation images.
        overwrite: Replace an existing bundle.

    Raises:
        ValueError: One of `smaller` is not smaller.
        InputError: A network does not take one of the sizes, ONNX and PyTorch disagree, the validation images are of
            one class or have fewer than three positives, or int8 is asked for without training images; nothing is
            written then.
    """
    out = Path(out)
    if "int8" in precisions and (calibration_images is None or not len(calibration_images)):
        raise InputError("int8 is calibrated on training images, and there are none; leave out int8")
    given = [networks] if isinstance(networks, Classifier) else list(networks)
    if any(not 0 < size < given[0].image_size for size in smaller):
        raise ValueError(f"smaller sizes {list(smaller)} are not all between 0 and {given[0].image_size}, the input's")
    number = list(classes).index(positive)
    if answered_by is None:
        answered_by = np.ones((len(validation_labels), len(given)), dtype=bool)
    pooled = not answered_by.all()
    check_choice(validation_labels == number, sensitivity, _DECIDING[pooled], least=LEAST_POSITIVES)
    network = Ensemble(given, average=average, flip=flip, sizes=[given[0].image_size, *smaller]).eval()
    with atomic_folder(out, overwrite=overwrite) as folder, tempfile.TemporaryDirectory() as aside:
        properties = onnx_properties(classes, positive, preprocess_spec, training)
        unrounded = None if weights == "fp32" else Path(aside) / MODEL
        alone = write_onnx(
            network,
            folder / MODEL,
            properties,
            weights=weights,
            members_to=Path(aside) if pooled else None,
            unrounded=unrounded,
        )
        session, members = Session(folder / MODEL, device="cpu"), [Session(path, device="cpu") for path in alone]
        outputs = run_all(session, validation_images)
        logits = _out_of_fold(members, validation_images, answered_by, average) if pooled else outputs["logits"]
        check_finite(logits)
        temperature = estimate_temperature(logits, validation_labels)
        shares = softmax(logits.astype(np.float64) / temperature.value)
        validation_table(validation_labels, shares, classes).to_csv(
            folder / VALIDATION, index=False, lineterminator="\n"
        )
        point = choose_operating_point(
            shares[:, number],
            validation_labels == number,
            sensitivity,
            clusters=None if validation_rows is None else clusters_of(validation_rows),
            where=_DECIDING[pooled],
        )
        decisions = Decisions(validation_labels, number, temperature.value, point.threshold)
        graphs = prove_float32(network, folder, unrounded, validation_images, decisions, members)
        if calibration_images is None:
            calibration_images = validation_images[:0]
        graphs |= write_precisions(
            folder, unrounded or folder / MODEL, precisions, validation_images, decisions, calibration_images
        )
        write_parity(folder, graphs)
        checks, learned = answer_limits(
            outputs["features"],
            outputs["logits"],
            validation_labels,
            np.arange(len(validation_labels)) if validation_rows is None else clusters_of(validation_rows),
            outputs["features"][:0] if without_lesion is None else run_all(session, without_lesion)["features"],
        )
        if learned is not None:
            learned.write(folder / CHECKS)
        own = pictures or measured(DecodedImage(image, "input") for image in validation_images)
        if seen is not None:
            write_hashes(folder, seen)
        if internal is not None and internal_images is not None and len(internal):
            tested = softmax(run_all(session, internal_images)["logits"].astype(np.float64) / temperature.value)
            table = internal_table(internal, tested, classes, "test")
            if left_out:
                there = table.assign(left_out=left_out, threshold=point.threshold)
                held_out = held_out or held_out_figures(there, classes, positive)
            else:
                table.to_csv(folder / INTERNAL, index=False, lineterminator="\n")
        if not (folder / INTERNAL).exists() and validation_rows is not None and (pooled or left_out):
            split = "out-of-fold" if pooled else "val"
            internal_table(validation_rows, shares, classes, split).to_csv(
                folder / INTERNAL, index=False, lineterminator="\n"
            )
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
            operating_point=point,
            outputs=session.outputs,
            weights=weights,
            combination=network.combination if network.answers > 1 else None,
            training=training,
            held_out=tuple(held_out),
            checks=picture_limits(own) | checks,
            files={},
        )
        metadata = monai_metadata(spec, evaluate_internal(spec, folder))
        (folder / METADATA).write_text(json.dumps(metadata, indent=1) + "\n", encoding="utf-8")
        write_card(folder, spec)
        spec = spec.model_copy(update={"files": {file.name: sha256_file(file) for file in sorted(folder.iterdir())}})
        write_spec(folder, spec)
    return spec


_DECIDING = {False: "internal validation images", True: "pooled out-of-fold predictions"}
"""What temperature and operating point stand on."""


def _out_of_fold(
    members: Sequence[Session], images: np.ndarray, answered_by: np.ndarray, average: Average
) -> np.ndarray:
    """Return logits [N, C] of each image by the mean of the members that did not learn from it.

    Args:
        members: The graph of each member by itself.
        images: uint8 [N, S, S].
        answered_by: bool [N, members], at least one of each image.
        average: What is averaged.
    """
    total: np.ndarray | None = None
    for session, own in zip(members, answered_by.T, strict=True):
        if not own.any():
            continue
        answers = run_all(session, images[own])[session.outputs[0]].astype(np.float64)
        answers = softmax(answers) if average == "probabilities" else answers
        total = np.zeros((len(images), answers.shape[1])) if total is None else total
        total[own] += answers
    assert total is not None
    mean = total / answered_by.sum(axis=1, keepdims=True)
    return np.log(np.maximum(mean, 1e-30)) if average == "probabilities" else mean
