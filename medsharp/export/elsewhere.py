"""A network that was trained elsewhere as a bundle: its weights in a file, and a YAML that says what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, ValidationError, model_validator

from medsharp.bundle import Average, BundleSpec, Precision, TrainingRecord
from medsharp.config import PixelDeviation, PixelMean
from medsharp.config_text import refusal_of
from medsharp.data.duplicates import tie_duplicates
from medsharp.data.exclusions import count_exclusions
from medsharp.data.leaks import assert_no_leak
from medsharp.data.manifest import SPLITS, Manifest
from medsharp.errors import InputError
from medsharp.export.export import export_network
from medsharp.export.half_weights import Weights
from medsharp.export.inputs import CALIBRATION_IMAGES, check_without_lesion, load_inputs, spread
from medsharp.export.metadata import NOT_STATED
from medsharp.images import ImageLimits
from medsharp.inference.leaks import RANGES
from medsharp.networks import Classifier, create_network
from medsharp.preprocess import Crop, PreprocessSpec
from medsharp.progress import Progress
from medsharp.settings import Section
from medsharp.yaml_text import read_yaml

_SETTINGS = {"pooling", "channels", "normalization", "mean", "std"}
"""Of a description, as a training configuration has them under `network`."""


class Description(Section):
    """What is known of weights that were trained elsewhere.

    Attributes:
        weights: Their file, relative to the description: safetensors, or what `torch.save` wrote of a state dict.
        network: timm's name of the architecture.
        classes: In the order of its logits.
        positive: The class that is thresholded.
        image_size: Side of the input in pixels.
        channels: Of its first layer; with 3 the grey image is given as three equal colours.
        mean: By which pixels were normalised in its training, scale 0 to 1: of grey, or of each colour. Where this
            project wrote the file, it may be left out, as the file has it.
        std: The same of the standard deviation.
        normalization: `image` where each image was normalised by its own mean and deviation instead, as this project
            does with `network.normalization: image`.
        pooling: How the feature map becomes one vector, as `network.pooling` of a training configuration.
        crop: What of an image is looked at, as `data.crop`.
        fit: How it is brought to a square, as `data.fit`.
        margin: Around the lesion where `crop` is `lesion`, as `data.margin`.
        inpaint: Whether drawings are replaced, as `data.inpaint`.
        dataset: What it was trained on.
        licence: Of those data.
        citation: The same.
        optimizer: What it was trained with.
        weights_licence: Of the weights.
        url: Where they can be had.
    """

    weights: str
    network: str
    classes: tuple[str, ...] = Field(min_length=2)
    positive: str
    image_size: int = Field(ge=32, le=1024)
    channels: Literal[1, 3] = 1
    mean: PixelMean | None = None
    std: PixelDeviation | None = None
    normalization: Literal["weights", "image"] = "weights"
    pooling: Literal["average", "lesion"] = "average"
    crop: Crop = "scan"
    fit: Literal["letterbox", "stretch"] = "letterbox"
    margin: float = Field(0.2, ge=0, le=2)
    inpaint: bool = False
    dataset: str = Field(min_length=1)
    licence: str = ""
    citation: str = ""
    optimizer: str = NOT_STATED
    weights_licence: str = ""
    url: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Description:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes {list(self.classes)} has one twice")
        if self.positive not in self.classes:
            raise ValueError(f"positive '{self.positive}' is not one of classes {list(self.classes)}")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together")
        if self.mean is not None and self.normalization == "image":
            raise ValueError("mean and std are those of weights, and normalization is 'image'")
        if self.channels == 3 and self.normalization == "image":
            raise ValueError("normalization 'image' is of one grey image, and channels is 3")
        for name, value in (("mean", self.mean), ("std", self.std)):
            if isinstance(value, tuple) and self.channels == 1:
                raise ValueError(f"{name} is of three colours, and channels is 1")
        return self

    def preprocessing(self) -> PreprocessSpec:
        """Return how an image becomes the network's input."""
        return PreprocessSpec(self.image_size, self.crop, self.fit, self.margin, self.inpaint)


def read_description(path: str | Path) -> Description:
    """Read the YAML that describes weights from elsewhere.

    Raises:
        InputError: It cannot be read, or a key or value is wrong; the sentence names it.
    """
    values = read_yaml(path)
    try:
        return Description.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{path}: {refusal_of(error, values, Description)}") from error


def load_described(description: Description, folder: Path) -> Classifier:
    """Build the network with the described weights, in eval mode on the CPU.

    Args:
        description: As above.
        folder: Where it lies, and its weights from there.

    Raises:
        InputError: The file is missing, damaged or of another network, lacks a tensor, or nobody says by which mean
            and standard deviation pixels were normalised.
    """
    network = create_network(
        description.network,
        num_classes=len(description.classes),
        image_size=description.image_size,
        checkpoint=folder / description.weights,
        normalization=description.normalization,
        mean=description.mean,
        std=description.std,
        pooling=description.pooling,
        channels=description.channels,
        whole=True,
    )
    by_weights = description.normalization == "weights" and description.mean is None
    if by_weights and network.origin is not None and network.origin.assumed:
        raise InputError(
            f"{folder / description.weights} does not state by which mean and standard deviation pixels were "
            "normalised in its training; give mean and std in the description"
        )
    return network.eval()


def export_described(
    description: str | Path,
    data: Manifest,
    out: str | Path,
    *,
    average: Average = "probabilities",
    flip: bool = False,
    weights: Weights = "fp32",
    precisions: Sequence[Precision] = ("fp32",),
    sensitivity: float = 0.95,
    no_lesion: Manifest | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> BundleSpec:
    """Write weights that were trained elsewhere as a bundle.

    Args:
        description: A YAML file, as `Description` has it.
        data: Labelled images that the network did not learn from: its validation split fixes temperature and operating
            point, its test split gives the internal figures, and training images calibrate int8. Without splits all
            images fix the two. Duplicates are tied and contradictory ones left out, as for training.
        out: The bundle's folder; its name becomes the model's.
        average: What the answer is the mean of, where the network sees two views.
        flip: Whether the network also sees the mirror image.
        weights: How `model.onnx` stores them.
        precisions: In which the graph is written too, where it passes its gate.
        sensitivity: What the operating point reaches on the validation images.
        no_lesion: Images that show no lesion.
        overwrite: Replace an existing bundle.
        progress: Called with images done, images in all and what is being done.

    Raises:
        InputError: The description, the weights or the data are wrong, or ONNX and PyTorch disagree; nothing is
            written then.
    """
    path = Path(description)
    said = read_description(path)
    check_without_lesion(no_lesion, said.classes)
    network = load_described(said, path.parent)
    manifest = tie_duplicates(_with_splits(data), progress=progress)
    assert_no_leak(manifest)
    _check_data(manifest, said, path)
    deciding, test, train = (manifest.of_split(split) for split in ("val", "test", "train"))
    place, limits = said.preprocessing(), ImageLimits()
    images, pictures = load_inputs(deciding, manifest, limits, place, progress)
    tested, _ = load_inputs(test, manifest, limits, place, progress)
    ranging = spread(train, CALIBRATION_IMAGES if "int8" in precisions else 0)
    calibration, _ = load_inputs(ranging, manifest, limits, place, progress)
    lesionless = None
    if no_lesion is not None:
        lesionless, _ = load_inputs(no_lesion.included, no_lesion, limits, place, progress)
    return export_network(
        network,
        out,
        classes=said.classes,
        positive=said.positive,
        preprocess_spec=place,
        average=average,
        flip=flip,
        weights=weights,
        precisions=precisions,
        calibration_images=calibration,
        validation_images=images,
        validation_labels=np.array([said.classes.index(label) for label in deciding["label"]], dtype=int),
        validation_rows=deciding,
        pictures=pictures,
        without_lesion=lesionless,
        training=_record(said, network, manifest),
        internal=test,
        internal_images=tested,
        seen=_seen(manifest, deciding.index, ranging.index),
        sensitivity=sensitivity,
        overwrite=overwrite,
    )


def _with_splits(data: Manifest) -> Manifest:
    """Return a manifest in which every image decides where none has a split."""
    if (data.included["split"] != "").any():
        return data
    return replace(data, table=data.table.assign(split="val"))


def _seen(manifest: Manifest, deciding: pd.Index, ranging: pd.Index) -> Manifest:
    """Return the images that the bundle knows: their training split is not what the network learned from."""
    table = manifest.table.assign(split="")
    table.loc[deciding, "split"] = "val"
    table.loc[ranging, "split"] = RANGES
    return manifest.replace(table=table)


def _check_data(manifest: Manifest, said: Description, path: Path) -> None:
    if manifest.of_split("val").empty:
        raise InputError(f"{manifest.info.name} has splits, and no image in val to fix the operating point on")
    rows = pd.concat([manifest.of_split("val"), manifest.of_split("test")])
    unknown = sorted(set(rows["label"]) - set(said.classes))
    if unknown:
        raise InputError(
            f"{manifest.info.name} has images labelled '{unknown[0]}', and {path} has the classes "
            f"{', '.join(said.classes)}"
        )


def _record(said: Description, network: Classifier, manifest: Manifest) -> TrainingRecord:
    origin: Any = network.origin
    return TrainingRecord(
        dataset=said.dataset,
        licence=said.licence,
        citation=said.citation,
        images={split: len(manifest.of_split(split)) for split in SPLITS},
        excluded=count_exclusions(manifest.table["exclude"]),
        network=said.network,
        optimizer={"name": said.optimizer},
        config={"network": said.model_dump(mode="json", include=_SETTINGS)},
        elsewhere=origin.model_copy(update={"licence": said.weights_licence, "url": said.url}),
        validated_on=manifest.info.name,
    )
