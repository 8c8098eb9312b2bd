"""Pydantic models of the training configuration; unknown keys are errors that name the nearest right key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from medsharp.errors import InputError, nearest
from medsharp.images import ImageLimits, ValueRange
from medsharp.preprocess import Crop, PreprocessSpec
from medsharp.recipes import RECIPES, Augmentation

Cache = Literal["disk", "memory"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LimitsConfig(_Section):
    """What is refused before an image is decoded; see `medsharp.images.ImageLimits`."""

    max_bytes: int = Field(ImageLimits.max_bytes, ge=1, description="bytes of a file")
    max_pixels: int = Field(ImageLimits.max_pixels, ge=1, description="width times height")
    max_side: int = Field(ImageLimits.max_side, ge=1, description="longest side in pixels")
    min_side: int = Field(ImageLimits.min_side, ge=1, description="shortest side in pixels")
    max_frames: int = Field(ImageLimits.max_frames, ge=1, description="frames of a DICOM clip")
    max_clip_pixels: int = Field(ImageLimits.max_clip_pixels, ge=1, description="pixels of all frames of a clip")

    def limits(self) -> ImageLimits:
        """Return them as `medsharp.images` takes them."""
        return ImageLimits(**self.model_dump())


class DataConfig(_Section):
    """What is trained on, how it is split and how an image becomes a network input."""

    path: str = Field("phantom", description="manifest, dataset folder, folder of class folders, or 'phantom'")
    source: str = Field(
        "auto", description="what the folder is: auto, folder (a hospital's own), or a data set such as busi"
    )
    label_from: str | None = Field(None, description="column that labels are made from, by label_values")
    label_values: dict[str, tuple[str | int, ...]] = Field(
        {}, description="values of that column that are each class, such as {benign: [2, 3], malignant: [4b, 4c, 5]}"
    )
    classes: tuple[str, ...] = Field(("benign", "malignant"), min_length=2)
    positive: str = Field("malignant", description="the class whose probability is reported and thresholded")
    fractions: tuple[float, float, float] = Field((0.7, 0.15, 0.15), description="train, validation, test")
    folds: int | None = Field(None, ge=3, le=20, description="k folds instead of fractions")
    official_folds: int | None = Field(None, ge=3, le=20, description="the k folds that the data set's authors dealt")
    fold: int = Field(0, ge=0, description="with folds of either kind: the test fold; the next one validates")
    leave_site: str | None = Field(None, description="the site that is tested; the others train and validate")
    split_seed: int = Field(0, ge=0)
    image_size: int = Field(128, ge=32, le=1024, description="side of the square network input in pixels")
    crop: Crop = Field(
        "scan",
        description="cut away first: scan: black borders; region: also rulers and banners; lesion: all but the lesion",
    )
    margin: float = Field(
        0.2, ge=0, le=10, description="with crop lesion: kept around it, in shares of its longer side"
    )
    fit: Literal["letterbox", "stretch"] = "letterbox"
    inpaint: bool = Field(False, description="replace burned-in calipers and text by what surrounds them")
    limits: LimitsConfig = LimitsConfig()
    range: tuple[float, float] | None = Field(
        None, description="values that are black and white in images of more than 8 bits; by default the manifest's"
    )
    augmentation: Annotated[
        Annotated[str, Tag("<name>")] | Annotated[Augmentation, Tag("<transforms>")],
        Discriminator(lambda given: "<name>" if isinstance(given, str) else "<transforms>"),
    ] = Field("standard", description="a recipe by name, or transforms with their parameters")
    sampling: Literal["shuffled", "balanced"] = Field(
        "shuffled", description="each image once an epoch, or drawn with replacement, every class as often"
    )
    cache: Cache = Field("disk", description="where decoded images are kept; memory: nothing is written")

    @model_validator(mode="after")
    def _consistent(self) -> DataConfig:
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
        ways = [name for name in ("folds", "official_folds", "leave_site") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise ValueError(f"give one of {' and '.join(ways)}, not both")
        folds = self.folds or self.official_folds
        if folds is not None and self.fold >= folds:
            raise ValueError(f"fold {self.fold} does not exist among {folds} folds (they count from 0)")
        return self

    def value_range(self) -> ValueRange | None:
        """Return the declared range of values as `medsharp.images` takes it."""
        return None if self.range is None else ValueRange(*self.range)

    def preprocessing(self) -> PreprocessSpec:
        """Return how an image becomes a network input."""
        return PreprocessSpec(self.image_size, self.crop, self.fit, self.margin, self.inpaint)


class NetworkConfig(_Section):
    """A timm network, by its timm name, or one of the narrow variants of `medsharp.networks`."""

    name: str = "resnet18"
    pretrained: bool = Field(False, description="timm's published weights (needs network access on first use)")
    checkpoint: str | None = Field(None, description="local .safetensors or .pt weights to start from")
    drop_rate: float = Field(0.0, ge=0, lt=1)
    drop_path_rate: float = Field(0.0, ge=0, lt=1)
    normalization: Literal["dataset", "image"] = Field(
        "dataset", description="mean and deviation of grey values: of all training images, or of each image by itself"
    )


class OptimizerConfig(BaseModel):
    """A method of `medsharp.optim` and its hyper-parameters.

    Keys beyond those named here (`rho`, `gamma`, ...) are hyper-parameters of the method; `training.resolve_config`
    checks them against the registry, because only it may import torch.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    name: str = "wsam"
    base: str = Field("adamw", description="sgd, adam or adamw: what a sharpness-aware method stands on")
    lr: float = Field(1e-3, gt=0, le=10)
    weight_decay: float = Field(0.05, ge=0, le=10)


class ScheduleConfig(_Section):
    """Cosine learning rate with linear warm-up, stepped every batch."""

    epochs: int = Field(30, ge=1, le=100_000)
    warmup_epochs: float = Field(2.0, ge=0)
    batch_size: int = Field(32, ge=1, le=65_536)
    final_lr_ratio: float = Field(0.01, ge=0, le=1, description="last learning rate as a share of lr")


class LossConfig(_Section):
    """Cross entropy, and optionally the Dice and cross-entropy loss of an auxiliary lesion-mask head."""

    label_smoothing: float = Field(0.1, ge=0, lt=1)
    class_weights: Literal["balanced", "none"] = "balanced"
    mask_weight: float = Field(0.0, ge=0, description="weight of the auxiliary lesion-mask loss; 0: off")


class RunConfig(_Section):
    """Where and how the loop runs."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["bf16", "fp32"] = "bf16"
    workers: int = Field(0, ge=0, le=256)
    clip_grad_norm: float | None = Field(5.0, gt=0)
    ema_decay: float | None = Field(None, gt=0, lt=1, description="exponential moving average of the weights")
    channels_last: bool = True


class TrainConfig(_Section):
    """Everything `medsharp train` needs; every default is visible with `medsharp train --print-config`."""

    seed: int = Field(0, ge=0, lt=2**31)
    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    run: RunConfig = RunConfig()


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file, apply `key=value` overrides, and validate.

    Args:
        path: A YAML file whose keys are those of `TrainConfig`; None means all defaults.
        overrides: Such as `"optimizer.lr=3e-4"`; the value is YAML.

    Raises:
        InputError: The file cannot be read, is not YAML, or a key or value is wrong; the sentence names the key.
    """
    values: dict[str, Any] = {}
    origin = str(path) if path is not None else "configuration"
    if path is not None:
        try:
            loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
        if loaded is not None and not isinstance(loaded, dict):
            raise InputError(f"{path} must hold sections such as 'optimizer:', not a {type(loaded).__name__}")
        values = loaded or {}
    for override in overrides:
        _override(values, override)
    return validate_config(values, origin)


def validate_config(values: dict[str, Any], origin: str = "configuration") -> TrainConfig:
    """Turn plain values into a `TrainConfig`.

    Raises:
        InputError: A key is unknown (the nearest right one is offered) or a value is out of range.
    """
    try:
        return TrainConfig.model_validate(_numbers(values))
    except ValidationError as error:
        raise InputError(f"{origin}: {_sentence(error.errors()[0])}") from error


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
            values[key.strip()] = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError) as error:
            raise InputError(f"--limit {pair}: '{text}' is not a number") from error
    try:
        return LimitsConfig.model_validate(_numbers(values)).limits()
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise InputError(f"--limit: unknown key '{key}'{nearest(key, LimitsConfig.model_fields)}") from error
        raise InputError(f"--limit {key}={first.get('input')}: {first['msg']}") from error


def dump_config(config: TrainConfig) -> str:
    """Write a configuration as YAML that `load_config` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=110)


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    keys = key.strip().split(".")
    if not equals or not all(keys):
        raise InputError(f"--set {override}: write it as section.key=value, such as optimizer.lr=3e-4")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {override}: the value is not YAML") from error
    section = values
    for part in keys[:-1]:
        section = section.setdefault(part, {})
        if not isinstance(section, dict):
            raise InputError(f"--set {override}: {part} is not a section")
    section[keys[-1]] = value


def _numbers(value: Any) -> Any:
    # YAML 1.1 reads 3e-4 (no dot) as a string; a person who writes it means a number.
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, str) and value[:1] in "+-.0123456789" and "e" in value.lower():
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _sentence(error: Any) -> str:
    # The parts in brackets say which kind of value pydantic took something for; no file has such a key.
    location = [str(part) for part in error["loc"] if not str(part).startswith("<")]
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        known = _keys_of(location[:-1])
        return f"unknown key '{key}'{nearest(location[-1], known)}"
    message = error["msg"].removeprefix("Value error, ")
    given = error.get("input")
    if isinstance(given, (str, int, float, bool)) or given is None:
        return f"{key} = {given!r}: {message}"
    return f"{key}: {message}" if key else message


def _keys_of(location: Sequence[str]) -> list[str]:
    model: Any = TrainConfig
    for part in location:
        field = model.model_fields.get(part)
        model = _section_of(field.annotation) if field is not None else None
        if model is None:
            return []
    return list(model.model_fields)


def _section_of(annotation: Any) -> Any:
    """Return the model in an annotation such as `Shadow | None`, or None."""
    if hasattr(annotation, "model_fields"):
        return annotation
    return next(filter(None, (_section_of(part) for part in get_args(annotation))), None)
