"""What is measured on one core, and what is assumed of a cluster: all that the sums and simulations stand on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, ValidationError

from medsharp.config_text import refusal_of
from medsharp.errors import InputError
from medsharp.settings import Section
from medsharp.yaml_text import read_yaml

if TYPE_CHECKING:
    from medsharp.inference import Predictor


class Measured(Section):
    """Rates of one core; `medsharp bench scale BUNDLE --images DIR` measures the first four.

    By default they are those of the shipped model on BUS-BRA.
    """

    image_bytes: float = Field(27_000, gt=0, description="mean size of an image file")
    decode_seconds: float = Field(0.0035, gt=0, description="of a core: reading, checks and preprocessing of an image")
    network_seconds: float = Field(0.12, gt=0, description="of a core: the network, an image of a batch")
    call_seconds: float = Field(0.001, ge=0, description="of a core: a batch of the network, whatever its size")
    start_seconds: float = Field(4.0, ge=0, description="until a process with the bundle answers")
    row_bytes: float = Field(60, gt=0, description="an image's row of predictions in Parquet")
    statistics_seconds: float = Field(1e-5, ge=0, description="of one core: `score --stream`, a row")
    cell_seconds: float = Field(70, gt=0, description="of a core: mean run of a study, here the small one")
    cell_spread: float = Field(0.65, ge=0, description="standard deviation of the logarithm of that")
    cell_images: float = Field(910, gt=0, description="image files that a run reads, mean of the small study")
    cell_bytes: float = Field(5.9e6, gt=0, description="that a run leaves in its folder, the same")


class Assumed(Section):
    """What is not measured here: a cluster's network, store and prices."""

    node_cores: int = Field(16, ge=1, description="cores of a machine")
    node_bytes_per_second: float = Field(1.25e9, gt=0, description="into a machine: 10 Gbit/s")
    store_bytes_per_second: float = Field(2.5e10, gt=0, description="out of the store, all machines together")
    store_requests_per_second: float = Field(5500, gt=0, description="reads of a prefix of S3, as its manual states")
    store_prefixes: int = Field(1, ge=1, description="prefixes that the images are dealt over")
    images_per_object: int = Field(1, ge=1, description="1 for single files; more where they are packed")
    gpu_images_per_second: float = Field(2000, gt=0, description="of the network on a GPU; a guess, not measured")
    answer_bytes: float = Field(1000, gt=0, description="of an answer of the server, without a heat map")
    gpu_cells: float = Field(20, gt=0, description="runs of a study on a GPU in the time of one on a core; a guess")
    core_hour: float = Field(0.04, ge=0, description="price")
    gpu_hour: float = Field(3.0, ge=0, description="price")
    failures: float = Field(0.01, ge=0, lt=1, description="share of cells whose machine fails in the middle")


class Rates(Section):
    """Both."""

    measured: Measured = Measured()
    assumed: Assumed = Assumed()


def read_rates(path: str | Path) -> Rates:
    """Read a YAML file with sections `measured` and `assumed`; what it does not say is as by default.

    Raises:
        InputError: A key is unknown or a value out of range.
    """
    values = read_yaml(path)
    try:
        return Rates.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{path}: {refusal_of(error, values, Rates)}") from error


def measure(
    predictor: Predictor, paths: Sequence[Path], before: Measured | None = None, *, repeats: int = 5
) -> Measured:
    """Measure bytes, decoding and the network in seconds of this process on the CPU, so that others do not count.

    Args:
        predictor: On the CPU with one thread.
        paths: Image files; each is read `repeats` times and the least time counts.
        before: What is not measured stays as it is here; as by default without it.
        repeats: As above.

    Raises:
        InputError: None can be read.
    """
    from medsharp.images import read_image

    sizes, seconds, inputs = [], [], []
    for path in paths:
        best = float("inf")
        for _ in range(repeats):
            start = process_time()
            prepared = predictor.prepare(read_image(path.read_bytes(), limits=predictor.limits))
            best = min(best, process_time() - start)
        sizes.append(path.stat().st_size)
        seconds.append(best)
        inputs.append(prepared.pixels)
    if not inputs:
        raise InputError("there is no image to measure")
    one, many = (np.stack([inputs[number % len(inputs)] for number in range(count)]) for count in (1, 8))
    alone, together = (_least(predictor, images, repeats) for images in (one, many))
    each = max((together - alone) / (len(many) - 1), 1e-9)
    return (before or Measured()).model_copy(
        update={
            "image_bytes": float(np.mean(sizes)),
            "decode_seconds": float(np.mean(seconds)),
            "network_seconds": each,
            "call_seconds": max(alone - each, 0.0),
        }
    )


def _least(predictor: Predictor, images: np.ndarray, repeats: int) -> float:
    predictor.session.run(images)
    found = []
    for _ in range(repeats):
        start = process_time()
        predictor.session.run(images)
        found.append(process_time() - start)
    return min(found)
