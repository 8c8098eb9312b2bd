"""Pydantic models of the training configuration; unknown keys are errors that name the nearest right key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from medsharp.config_text import assign, chosen_method, parse_assignment, place_short_keys, refusal_of
from medsharp.errors import InputError, nearest
from medsharp.images import ImageLimits, ValueRange
from medsharp.optimizer_config import (
    OptimizerConfig,
    full_key,
)
from medsharp.preprocess import Crop, PreprocessSpec
from medsharp.recipes import RECIPES, Augmentation
from medsharp.settings import Section, about
from medsharp.yaml_text import load_yaml, read_yaml

Cache = Literal["disk", "memory"]
Precision = Literal["bf16", "fp16", "fp32"]
Sampling = Literal["shuffled", "balanced", "sites", "sites_and_classes"]
RhoSchedule = Literal["constant", "linear", "cosine", "lr"]
Keep = Literal["best", "last"]
Strategy = Literal["ddp", "fsdp"]
Perturbation = Literal["worker", "synchronised"]
_Level = Annotated[float, Field(ge=0, le=1)]
_Spread = Annotated[float, Field(gt=0, le=1)]
_GREY_OR_COLOURS = Discriminator(lambda given: "<colours>" if isinstance(given, (list, tuple)) else "<grey>")
PixelMean = Annotated[
    Annotated[tuple[_Level, _Level, _Level], Tag("<colours>")] | Annotated[_Level, Tag("<grey>")], _GREY_OR_COLOURS
]
"""Of pixels on the scale 0 to 1: of grey values, or of each colour."""
PixelDeviation = Annotated[
    Annotated[tuple[_Spread, _Spread, _Spread], Tag("<colours>")] | Annotated[_Spread, Tag("<grey>")], _GREY_OR_COLOURS
]
"""The standard deviation of the same."""


class LimitsConfig(Section):
    """What is refused before an image is decoded; see `medsharp.images.ImageLimits`."""

    max_bytes: int = Field(ImageLimits.max_bytes, ge=1, description="bytes of a file")
    max_pixels: int = Field(
        ImageLimits.max_pixels, ge=1, description="width times height; of pictures at most 178956970 all the same"
    )
    max_side: int = Field(ImageLimits.max_side, ge=1, description="longest side in pixels")
    min_side: int = Field(ImageLimits.min_side, ge=1, description="shortest side in pixels")
    max_frames: int = Field(ImageLimits.max_frames, ge=1, description="frames of a DICOM clip")
    max_clip_pixels: int = Field(ImageLimits.max_clip_pixels, ge=1, description="pixels of all frames of a clip")

    def limits(self) -> ImageLimits:
        """Return them as `medsharp.images` takes them."""
        return ImageLimits(**self.model_dump())


_OneOrSeveral = Annotated[
    Annotated[str, Tag("<one>")] | Annotated[tuple[str, ...], Tag("<several>")],
    Discriminator(lambda given: "<several>" if isinstance(given, (list, tuple)) else "<one>"),
]


class DataConfig(Section):
    """What is trained on, how it is split and how an image becomes a network input."""

    path: _OneOrSeveral = Field(
        "phantom",
        description="manifest, dataset folder, folder of class folders, or 'phantom'; several hospitals as a list",
    )
    source: _OneOrSeveral = Field(
        "auto",
        description="what the folder is: auto, folder (a hospital's own), or a data set such as busi; of several paths "
        "one for all, or one each",
    )
    label_from: str | None = Field(None, description="column that labels are made from, by label_values")
    label_values: dict[str, tuple[str | int, ...]] = Field(
        {}, description="values of that column that are each class, such as {benign: [2, 3], malignant: [4b, 4c, 5]}"
    )
    classes: tuple[str, ...] = Field(
        ("benign", "malignant"), min_length=2, description="labels that are learned, in the order of the logits"
    )
    positive: str = Field("malignant", description="the class whose probability is reported and thresholded")
    fractions: tuple[float, float, float] = Field((0.7, 0.15, 0.15), description="train, validation, test")
    folds: int | None = Field(None, ge=2, le=20, description="k folds instead of fractions")
    official_folds: int | None = Field(None, ge=3, le=20, description="the k folds that the data set's authors dealt")
    fold: int = Field(0, ge=0, description="with folds of either kind: which of them, from 0, has the role fold_role")
    fold_role: Literal["test", "val"] = Field(
        "test",
        description="of the fold: test: it is tested, the next one validates; val: it validates, all others train, and "
        "nothing is tested; with leave_site it validates",
    )
    leave_site: str | None = Field(
        None, description="the site that is tested; the others train and validate, by fractions or dealt into folds"
    )
    split_seed: int = Field(0, ge=0, description="of how patients are dealt to the splits")
    image_size: int = Field(128, ge=32, le=1024, description="side of the square network input in pixels")
    crop: Crop = Field(
        "scan",
        description="cut away first: scan: black borders; region: also rulers and banners; lesion: all but the lesion",
    )
    margin: float = Field(
        0.2, ge=0, le=10, description="with crop lesion: kept around it, in shares of its longer side"
    )
    fit: Literal["letterbox", "stretch"] = Field(
        "letterbox", description="how an oblong image becomes square: black bars, or stretched"
    )
    inpaint: bool = Field(False, description="replace burned-in calipers and text by what surrounds them")
    limits: LimitsConfig = Field(LimitsConfig(), description="what is refused before an image is decoded")
    range: tuple[float, float] | None = Field(
        None, description="values that are black and white in images of more than 8 bits; by default the manifest's"
    )
    augmentation: Annotated[
        Annotated[str, Tag("<name>")] | Annotated[Augmentation, Tag("<transforms>")],
        Discriminator(lambda given: "<name>" if isinstance(given, str) else "<transforms>"),
    ] = Field("standard", description="a recipe by name, or transforms with their parameters")
    sampling: Sampling = Field(
        "shuffled",
        description="each image once an epoch; or drawn with replacement, as often from every class (balanced), from "
        "every hospital, whose images are drawn as they are (sites), or from every class of every hospital "
        "(sites_and_classes)",
    )
    cache: Cache = Field("disk", description="where decoded images are kept; memory: nothing is written")

    @property
    def paths(self) -> tuple[str, ...]:
        """What is opened."""
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def sources(self) -> tuple[str, ...]:
        """What each of `paths` is."""
        given = (self.source,) if isinstance(self.source, str) else self.source
        return given * len(self.paths) if len(given) == 1 else given

    @model_validator(mode="after")
    def _consistent(self) -> DataConfig:
        if not self.paths:
            raise ValueError("path names no data set")
        if len(self.sources) != len(self.paths):
            raise ValueError(
                f"source has {len(self.sources)} entries for {len(self.paths)} of path; give one, or one each (auto to "
                "find out)"
            )
        if isinstance(self.augmentation, str) and self.augmentation not in RECIPES:
            raise ValueError(f"augmentation '{self.augmentation}' is no recipe{nearest(self.augmentation, RECIPES)}")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes {list(self.classes)} repeats a name")
        if (self.label_from is None) != (not self.label_values):
            raise ValueError("label_from and label_values go together")
        unknown = sorted(self.label_values.keys() - set(self.classes))
        if unknown:
            raise ValueError(f"label_values has '{unknown[0]}', which is not one of classes {list(self.classes)}")
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError(f"range {list(self.range)} must name the value of black, then the larger one of white")
        if self.positive not in self.classes:
            raise ValueError(f"positive '{self.positive}' is not one of classes {list(self.classes)}")
        if min(self.fractions) <= 0 or abs(sum(self.fractions) - 1) > 1e-6:
            raise ValueError(f"fractions {list(self.fractions)} must be positive and sum to 1")
        self._check_folds()
        return self

    def _check_folds(self) -> None:
        other = next((name for name in ("folds", "leave_site") if getattr(self, name) is not None), None)
        if self.official_folds is not None and other is not None:
            raise ValueError(f"give one of {other} and official_folds, not both")
        folds = self.folds or self.official_folds
        if folds is None and self.fold:
            raise ValueError(f"fold {self.fold} is one of folds or official_folds, and neither is given")
        if folds is not None and self.fold >= folds:
            raise ValueError(f"fold {self.fold} does not exist among {folds} folds (they count from 0)")

    def value_range(self) -> ValueRange | None:
        """Return the declared range of values as `medsharp.images` takes it."""
        return None if self.range is None else ValueRange(*self.range)

    def preprocessing(self) -> PreprocessSpec:
        """Return how an image becomes a network input."""
        return PreprocessSpec(self.image_size, self.crop, self.fit, self.margin, self.inpaint)


class NetworkConfig(Section):
    """A timm network, by its timm name, or one of the narrow variants of `medsharp.networks`."""

    name: str = Field(
        "resnet18",
        description="a timm network, with a tag for one of its published weights (vit_small_patch16_224.dino) or "
        "without, or resnet10_w16, resnet10_w32, resnet18_w16, resnet18_w32",
    )
    pretrained: bool = Field(
        False,
        description="start from timm's published weights, of its hub or an installed package of medsharp[weights]",
    )
    checkpoint: str | None = Field(
        None,
        description="file of weights to start from: .pth, .pt, .ckpt, .safetensors, of timm, torchvision and others",
    )
    drop_rate: float = Field(0.0, ge=0, lt=1, description="dropout before the classifier")
    drop_path_rate: float = Field(0.0, ge=0, lt=1, description="stochastic depth, for networks that have it")
    normalization: Literal["auto", "weights", "dataset", "image"] = Field(
        "auto",
        description="mean and deviation of grey values: of what the initial weights were trained on, of all training "
        "images, or of each image by itself; auto: weights where theirs are known, else dataset",
    )
    mean: PixelMean | None = Field(
        None,
        description="of the weights' own training images, scale 0 to 1, grey or a colour each; by default as timm "
        "or the checkpoint states it",
    )
    std: PixelDeviation | None = Field(None, description="their standard deviation, likewise")
    pooling: Literal["average", "lesion"] = Field(
        "average",
        description="how the feature map becomes one vector: all places count the same, or those of the lesion more, "
        "which is learned from masks (loss.mask_weight) and exported with the network",
    )

    @model_validator(mode="after")
    def _both_or_neither(self) -> NetworkConfig:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together")
        if self.mean is not None and self.normalization in ("dataset", "image"):
            raise ValueError(f"mean and std are those of weights, and normalization is '{self.normalization}'")
        if self.normalization == "weights" and not (self.pretrained or self.checkpoint or self.mean is not None):
            raise ValueError("normalization is 'weights', and there are none: give pretrained or checkpoint")
        return self

    def without_weights(self) -> NetworkConfig:
        """Return the section for a network whose weights and normalisation are restored: nothing is to be fetched."""
        normalization: Literal["dataset", "image"] = "image" if self.normalization == "image" else "dataset"
        return self.model_copy(
            update={"pretrained": False, "checkpoint": None, "normalization": normalization, "mean": None, "std": None}
        )


class ScheduleConfig(Section):
    """Learning rate, with linear warm-up and a cosine after it, and rho, both set anew for every batch."""

    epochs: int = Field(30, ge=1, le=100_000, description="how often the training images are gone through")
    warmup_epochs: float = Field(2.0, ge=0, description="over which the learning rate rises to lr")
    batch_size: int = Field(32, ge=1, le=65_536, description="images of a step, of all processes together")
    accumulation: int = Field(
        1,
        ge=1,
        le=65_536,
        description="parts of what a process has of a batch, evaluated one after another: less memory, the same step; "
        "batch norm normalises each part by itself",
    )
    final_lr_ratio: float = Field(0.01, ge=0, le=1, description="last learning rate as a share of lr")
    rho: RhoSchedule = Field(
        "constant",
        description="how the method's rho falls, from its value to final_rho_ratio of it: not at all, along a line, "
        "along a cosine, or as the learning rate does, warm-up included; methods without rho have no use for it",
    )
    final_rho_ratio: float = Field(0.0, ge=0, le=1, description="last rho as a share of the first, unless constant")
    frozen_epochs: int = Field(
        0, ge=0, description="first epochs in which the head alone learns; all of them: the backbone stays as it came"
    )
    keep: Keep = Field(
        "best",
        description="which weights stand for the run: best: of the epoch with the highest validation AUROC; last: of "
        "the last epoch, so that nothing is chosen by the validation images and predictions of them are clean",
    )

    @model_validator(mode="after")
    def _thaws(self) -> ScheduleConfig:
        if self.frozen_epochs > self.epochs:
            raise ValueError(f"frozen_epochs {self.frozen_epochs} is more than epochs {self.epochs}")
        return self


class LossConfig(Section):
    """Cross entropy, and optionally the Dice and cross-entropy loss of an auxiliary lesion-mask head."""

    label_smoothing: float = Field(0.1, ge=0, lt=1, description="share of a label that is spread over all classes")
    class_weights: Literal["balanced", "none"] = Field(
        "balanced", description="balanced: all classes weigh the same, however many images they have"
    )
    mask_weight: float = Field(0.0, ge=0, description="weight of the auxiliary lesion-mask loss; 0: off")


def check_device(name: str) -> None:
    """Check a device's name; whether it is there is another question.

    Raises:
        ValueError: It is none of auto, cpu, cuda and cuda:N.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name):
        raise ValueError(f"device '{name}' is not one of auto, cpu, cuda, or one GPU such as cuda:1")


class RunConfig(Section):
    """Where and how the loop runs."""

    device: str = Field("auto", description="auto (the GPU where there is one), cpu, cuda, or one GPU such as cuda:1")
    precision: Literal["auto", Precision] = Field(
        "auto",
        description="of forward and backward passes; auto: bf16 where the device is faster with it, else fp32; fp16 "
        "scales the loss",
    )
    workers: int = Field(0, ge=0, le=256, description="processes that prepare batches; 0: this one, beside the steps")
    clip_grad_norm: float | None = Field(5.0, gt=0, description="largest norm of the gradient that is applied")
    ema_decay: float | None = Field(None, gt=0, lt=1, description="exponential moving average of the weights")
    channels_last: bool = Field(
        True, description="memory format of weights and feature maps; convolutions are faster with it"
    )
    compile: bool = Field(
        False, description="compile network and loss with torch.compile, which takes a while and then trains faster"
    )
    strategy: Strategy = Field(
        "ddp",
        description="of several processes: ddp: each has all weights; fsdp: weights, gradients and the optimizer's "
        "state are divided among them",
    )
    perturbation: Perturbation = Field(
        "worker",
        description="of several processes: each climbs along the gradient of its own images (worker), or all along "
        "that of the whole batch, as a single process does (synchronised)",
    )
    sync_batch_norm: bool = Field(
        False, description="of several processes, on GPUs: batch norm normalises by the images of all of them"
    )

    @field_validator("device")
    @classmethod
    def _known_device(cls, name: str) -> str:
        check_device(name)
        return name


class TrainConfig(Section):
    """Everything `medsharp train` needs; every default is visible with `medsharp train --print-config`."""

    seed: int = Field(0, ge=0, lt=2**31, description="of initial weights, order, augmentation, dropout and the method")
    data: DataConfig = Field(DataConfig(), description=about(DataConfig))
    network: NetworkConfig = Field(NetworkConfig(), description=about(NetworkConfig))
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description=about(OptimizerConfig))
    schedule: ScheduleConfig = Field(ScheduleConfig(), description=about(ScheduleConfig))
    loss: LossConfig = Field(LossConfig(), description=about(LossConfig))
    run: RunConfig = Field(RunConfig(), description=about(RunConfig))

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, values: Any) -> Any:
        # `data:` with nothing behind it means the section with its defaults.
        if isinstance(values, dict):
            return {key: {} if value is None and key != "seed" else value for key, value in values.items()}
        return values


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file, apply `key=value` overrides, and validate.

    Args:
        path: A YAML file whose keys are those of `TrainConfig`; None means all defaults.
        overrides: Such as `"optimizer.lr=3e-4"`; the value is YAML.

    Raises:
        InputError: The file cannot be read, is not YAML, or a key or value is wrong; the sentence names the key.
    """
    origin = str(path) if path is not None else "configuration"
    values = {} if path is None else read_yaml(path)
    assignments = [parse_assignment(override) for override in overrides]
    name, base = chosen_method(values, assignments)
    # Before the command line is heard: what is short for the settings of the method that the file names stays with it.
    place_short_keys(values, name, base, origin)
    for override, keys, value in assignments:
        if keys[0] == "optimizer":
            keys = ("optimizer", *full_key(keys[1:], name, base))
        assign(values, keys, value, override)
        if len(keys) == 1:
            place_short_keys(values, name, base, f"--set {override}")
    return validate_config(values, origin)


def validate_config(values: dict[str, Any], origin: str = "configuration") -> TrainConfig:
    """Turn plain values into a `TrainConfig`.

    Raises:
        InputError: A key is unknown (the nearest right one is offered) or a value is out of range.
    """
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{origin}: {refusal_of(error, values, TrainConfig)}") from error


def read_limits(pairs: Sequence[str]) -> ImageLimits:
    """Read what is refused before decoding from `key=value` pairs, such as `max_frames=5000`.

    Raises:
        InputError: A key is unknown or a value is out of range.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or "." in key:
            raise InputError(f"--limit {pair}: write it as key=value, such as max_frames=5000")
        try:
            values[key.strip()] = load_yaml(text)
        except yaml.YAMLError as error:
            raise InputError(f"--limit {pair}: '{text}' is not a number") from error
    try:
        return LimitsConfig.model_validate(values).limits()
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise InputError(f"--limit: unknown key '{key}'{nearest(key, LimitsConfig.model_fields)}") from error
        raise InputError(f"--limit {key}={first.get('input')}: {first['msg']}") from error


def dump_config(config: TrainConfig) -> str:
    """Write a configuration as YAML that `load_config` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=110)
