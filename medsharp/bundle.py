"""The bundle: what is shipped and served. Its files, their hashes, and what `bundle.yaml` says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from medsharp.errors import InputError
from medsharp.files import sha256_file, write_text
from medsharp.preprocess import Crop, PreprocessSpec
from medsharp.weights_origin import WeightsOrigin

FORMAT = 1
SPEC = "bundle.yaml"
MODEL = "model.onnx"
METADATA = "metadata.json"
PARITY = "parity.json"
CARD = "MODEL_CARD.md"
INTERNAL = "internal.csv"
VALIDATION = "validation.csv"
TRAINING_HASHES = "training_images.sha256"
TRAINING_LOOKS = "training_images.dhash"
BUNDLE_FILES = (MODEL, METADATA, PARITY, CARD, INTERNAL, VALIDATION, TRAINING_HASHES, TRAINING_LOOKS)
"""What may lie beside `bundle.yaml`; only `MODEL` must."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Preprocessing(_Part):
    """How an image becomes the network's input; see `medsharp.preprocess.PreprocessSpec`."""

    size: int
    crop: Crop
    fit: Literal["letterbox", "stretch"]
    margin: float = 0.2
    inpaint: bool = False

    def spec(self) -> PreprocessSpec:
        """Return it as `medsharp.preprocess` takes it."""
        return PreprocessSpec(self.size, self.crop, self.fit, self.margin, self.inpaint)

    @model_serializer(mode="wrap")
    def _as_written(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what says nothing, so that bundles written before these keys existed keep their digest."""
        values: dict[str, Any] = plain(self)
        if self.crop != "lesion":
            del values["margin"]
        if not self.inpaint:
            del values["inpaint"]
        return values


class OperatingPoint(_Part):
    """The threshold on the positive class's probability, and what it reached where it was chosen."""

    threshold: float = Field(ge=0, le=1)
    rule: str
    sensitivity: float
    specificity: float
    images: int
    positives: int


class InputCheck(_Part):
    """What the internal validation images look like; predictions on images far from them are flagged.

    `distance_limit` bounds the root mean square of `(features - feature_mean) / feature_scale`; brightness is the mean
    grey level of the network's input.
    """

    feature_mean: tuple[float, ...]
    feature_scale: tuple[float, ...]
    distance_limit: float
    brightness: tuple[float, float]


class TrainingRecord(_Part):
    """What the network was trained on and how; `weights` is what it started from, None for random ones."""

    dataset: str
    licence: str = ""
    citation: str = ""
    images: dict[str, int]
    excluded: dict[str, int] = {}
    network: str
    optimizer: dict[str, Any]
    command: str = ""
    config: dict[str, Any] = {}
    environment: dict[str, Any] = {}
    weights: WeightsOrigin | None = None

    @model_serializer(mode="wrap")
    def _as_written(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out an origin that random weights have not, so that bundles written before it keep their digest."""
        values: dict[str, Any] = plain(self)
        if self.weights is None:
            del values["weights"]
        return values


class BundleSpec(_Part):
    """All of `bundle.yaml` but its digest.

    Attributes:
        temperature: What logits are divided by before softmax; 1 where it could not be estimated.
        uncalibrated: Why it could not be: the end of a sentence; empty where it was.
    """

    format: int
    name: str
    created: str
    medsharp: str
    classes: tuple[str, ...]
    positive: str
    preprocess: Preprocessing
    temperature: float = Field(gt=0)
    uncalibrated: str = ""
    operating_point: OperatingPoint
    input_check: InputCheck
    heatmap_reference: float = Field(gt=0)
    outputs: tuple[str, ...]
    training: TrainingRecord
    files: dict[str, str]

    @model_serializer(mode="wrap")
    def _as_written(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a reason that there is none of, so that bundles written before it existed keep their digest."""
        values: dict[str, Any] = plain(self)
        if not self.uncalibrated:
            del values["uncalibrated"]
        return values

    @property
    def network(self) -> str:
        """The network's name."""
        return self.training.network

    @property
    def optimizer(self) -> str:
        """The optimizer's name, and what it stands on."""
        return str(self.training.optimizer.get("name", ""))


def write_spec(folder: Path, spec: BundleSpec) -> None:
    """Write `bundle.yaml` with a digest over its own content."""
    values = spec.model_dump(mode="json")
    text = yaml.safe_dump({**values, "digest": digest_of(spec)}, sort_keys=False, default_flow_style=None, width=110)
    write_text(folder / SPEC, text)


def read_bundle(folder: str | Path, *, verify: bool = True) -> BundleSpec:
    """Read `bundle.yaml` and check every file of the bundle against it.

    Args:
        folder: The bundle.
        verify: Compute the SHA-256 of each file.

    Raises:
        InputError: The folder or a file is missing, was changed, or is of a newer format; the sentence names the file.
    """
    folder = Path(folder)
    path = folder / SPEC
    if not folder.is_dir():
        raise InputError(f"bundle {folder} does not exist")
    if not path.is_file():
        raise InputError(f"{folder} is not a bundle: it has no {SPEC}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    # PyYAML answers an impossible date with a plain ValueError, of which UnicodeDecodeError is one too.
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path} is damaged: it is not YAML") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is damaged: it holds no keys")
    if values.get("format") != FORMAT:
        raise InputError(f"{path} has format {values.get('format')}; this version of medsharp reads format {FORMAT}")
    digest = values.pop("digest", None)
    try:
        spec = BundleSpec.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path} is damaged: {where}: {first['msg']}") from error
    if digest != digest_of(spec):
        raise InputError(f"{path} was changed after it was written; export the bundle again")
    if MODEL not in spec.files:
        raise InputError(f"{path} is damaged: it lists no {MODEL}")
    for name in BUNDLE_FILES:
        if name not in spec.files and (folder / name).exists():
            raise InputError(f"{folder / name} was added after the bundle was written; remove it")
    for name, expected in spec.files.items():
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} is missing; export the bundle again")
        if verify and sha256_file(folder / name) != expected:
            raise InputError(f"{folder / name} was changed after it was written; export the bundle again")
    return spec


def digest_of(spec: BundleSpec) -> str:
    """Return the SHA-256 over the content of `bundle.yaml`, and so over the hashes of all files."""
    text = json.dumps(spec.model_dump(mode="json"), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def default_bundle() -> Path:
    """Return the bundle in `models/`, of the working folder or of the source checkout.

    Raises:
        InputError: There is none.
    """
    for models in (Path("models"), Path(__file__).resolve().parents[1] / "models"):
        found = sorted(path.parent for path in models.glob(f"*/{SPEC}"))
        if found:
            return found[0]
    raise InputError("no bundle in models/; give one: medsharp serve BUNDLE")
