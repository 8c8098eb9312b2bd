"""`parity.json`: every graph of a bundle, written where it passes its gate and left out where it does not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medsharp.bundle import MODEL, MODELS, PARITY, Precision
from medsharp.errors import InputError
from medsharp.export.gates import BATCHES, Decisions, Parity, compare_with_float32, compare_with_float64, run_all
from medsharp.export.graph import OPSET
from medsharp.export.members import Ensemble
from medsharp.export.precisions import SPARED, write_half, write_int8
from medsharp.files import write_text
from medsharp.inference.session import Session

ROUNDED = "fp32, weights in 16 bits"
"""What the record of `model.onnx` is called where its weights were rounded."""


def prove_float32(
    network: Ensemble,
    folder: Path,
    unrounded: Path | None,
    images: np.ndarray,
    decisions: Decisions,
    members: Sequence[Session] = (),
) -> dict[str, Parity]:
    """Prove `model.onnx`: its arithmetic against PyTorch in float64, and the rounding of its weights, if it was done.

    Args:
        network: In eval mode.
        folder: Holds `model.onnx`.
        unrounded: The graph with weights as they are, where those of `model.onnx` are rounded.
        images: The validation images, uint8 [N, S, S].
        decisions: What the bundle freezes.
        members: The graph of each member by itself, with weights as stored, where they decided apart.

    Returns:
        How it was compared, by name.

    Raises:
        InputError: It does not answer as PyTorch does.
    """
    exact = Session(unrounded or folder / MODEL, device="cpu")
    found = {
        "fp32": compare_with_float64(
            network, exact, images, decisions, file=MODEL, members=members, rounded=unrounded is not None
        )
    }
    if unrounded is not None:
        stored = Session(folder / MODEL, device="cpu")
        reference = run_all(exact, images)
        found[ROUNDED] = compare_with_float32(stored, reference, images, decisions, file=MODEL, precision="fp16")
    for parity in found.values():
        if parity.failure is not None:
            raise InputError(f"ONNX Runtime and PyTorch differ by {parity.failure}")
    return found


def write_precisions(
    folder: Path,
    full: Path,
    precisions: Sequence[Precision],
    images: np.ndarray,
    decisions: Decisions,
    calibration_images: np.ndarray,
) -> dict[str, Parity]:
    """Write the graphs of lower precision that were asked for; one that fails its gate is not left behind.

    Of int8, ever more of the first layers are left in float32 until it passes.

    Args:
        folder: The bundle's.
        full: The float32 graph, with weights as they are.
        precisions: Which; `fp32` is there already.
        images: The validation images, uint8 [N, S, S].
        decisions: What the bundle freezes.
        calibration_images: Training images that int8 is calibrated with, uint8 [M, S, S].

    Returns:
        How each was compared, by name.
    """
    wanted = [precision for precision in MODELS if precision in precisions and precision != "fp32"]
    reference = run_all(Session(full, device="cpu"), images) if wanted else {}
    found: dict[str, Parity] = {}
    for precision in wanted:
        file = MODELS[precision]
        for spared in SPARED if precision == "int8" else (0.0,):
            if precision == "int8":
                write_int8(full, folder / file, calibration_images, spared=spared)
            else:
                write_half(full, folder / file)
            session = Session(folder / file, device="cpu")
            found[precision] = compare_with_float32(
                session, reference, images, decisions, file=file, precision=precision, spared=spared
            )
            if found[precision].failure is None:
                break
        else:
            (folder / file).unlink()
    return found


def write_parity(folder: Path, graphs: dict[str, Parity]) -> None:
    """Write the record of all graphs."""
    content = {
        "opset": OPSET,
        "runtime": "ONNX Runtime, CPU",
        "batches": list(BATCHES),
        "graphs": {name: parity.as_dict() for name, parity in graphs.items()},
    }
    write_text(folder / PARITY, json.dumps(content, indent=1) + "\n")
