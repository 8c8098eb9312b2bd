"""The bundle: what is shipped and served. Its files, their hashes, and what `bundle.yaml` says."""

from __future__ import annotations

import hashlib
import json
import math
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


Average = Literal["probabilities", "logits"]
"""What an ensemble takes the mean of."""


_DEFAULT = "default"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_LATER: dict[str, Any] = {"later": True}
"""Marks a key that is written only where it says something."""


class _Growing(_Part):
    """A part that has got keys since: those that say nothing are left out, so that older bundles keep their digest."""

    @model_serializer(mode="wrap")
    def _as_written(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = plain(self)
        fields = type(self).model_fields
        later = (name for name, field in fields.items() if (field.json_schema_extra or {}) == _LATER)
        for name in later:
            if getattr(self, name) == fields[name].default:
                del values[name]
        return values


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


class OperatingPoint(_Growing):
    """The threshold on the positive class's probability, and what it reached where it was chosen.

    `interval` is that of the threshold over resampled patients, 95 %.
    """

    threshold: float = Field(ge=0, le=1)
    rule: str
    sensitivity: float
    specificity: float
    images: int
    positives: int
    interval: tuple[float, float] | None = Field(None, json_schema_extra=_LATER)


class InputCheck(_Part):
    """What the internal validation images look like; predictions on images far from them are flagged.

    `distance_limit` bounds the root mean square of `(features - feature_mean) / feature_scale`; brightness is the mean
    grey level of the network's input.
    """

    feature_mean: tuple[float, ...]
    feature_scale: tuple[float, ...]
    distance_limit: float
    brightness: tuple[float, float]


class Member(_Part):
    """One of several runs in a bundle.

    Attributes:
        seed: Of initial weights, order and augmentation.
        fold: Which fold was not learned from, such as `2 of 5`; empty without folds.
        left_out: The site that was left out of training; empty without one.
        images: How many were in each of its splits.
        out_of_fold: How many of its predictions decide temperature and operating point.
        weights: SHA-256 of the weights' file.
        differences: Settings in which its configuration differs from `TrainingRecord.config`, `section.key` to value.
    """

    seed: int
    fold: str = ""
    left_out: str = ""
    images: dict[str, int]
    out_of_fold: int
    weights: str
    differences: dict[str, Any] = {}


class TrainingRecord(_Growing):
    """What the network was trained on and how; of several what they have in common, and each under `members`.

    `weights` is what it started from, None for random ones. With several, `images` counts under `train` what any of
    them learned from, under `val` what besides was used to choose, and under `test` what is left.
    """

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
    weights: WeightsOrigin | None = Field(None, json_schema_extra=_LATER)
    members: tuple[Member, ...] = Field((), json_schema_extra=_LATER)


class Combination(_Growing):
    """How one graph makes one answer of several networks, or of several views of an image.

    Attributes:
        members: How many networks.
        average: What the answer is the mean of.
        flip: Whether each also sees the mirror image.
        sizes: Sides in pixels at which each sees the image, the largest, that of the input, first; empty for it alone.
    """

    members: int
    average: Average
    flip: bool
    sizes: tuple[int, ...] = Field((), json_schema_extra=_LATER)

    @property
    def answers(self) -> int:
        """How many answers the mean is of: networks times views."""
        return self.members * (2 if self.flip else 1) * (len(self.sizes) or 1)

    def sentence(self) -> str:
        """Say in words what the answer is the mean of: a sentence without a full stop."""
        views = "the image and its mirror image" if self.flip else "the image"
        if self.sizes:
            *larger, smallest = map(str, self.sizes)
            views += f"{', each' if self.flip else ''} at {', '.join(larger)} and {smallest} pixels"
        who = "one network gives" if self.members == 1 else f"{self.members} networks give"
        return f"the answer is the mean of the {self.average} that {who} of {views}"


class Figure(_Part):
    """A figure with its 95 % interval; None where it does not exist for these images."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


class HeldOut(_Growing):
    """How models made in the same way do at a hospital that they never saw, at the threshold frozen without it.

    Attributes:
        site: The hospital.
        images: How many, of `patients` patients or groups; `positives` of the images are of the positive class.
        threshold: Frozen for the model that never saw it; None where several models with several thresholds share it.
        figures: `auroc`, `sensitivity`, `specificity` and `calibration_slope`.
        bundle: Digest of the bundle that was measured there; empty where it was a cross-validation.
    """

    site: str
    images: int
    patients: int
    positives: int
    threshold: float | None = None
    figures: dict[str, Figure]
    bundle: str = Field("", json_schema_extra=_LATER)


UpdateMethod = Literal["none", "intercept", "slope", "threshold"]
"""What is changed on local data; `slope` is intercept and slope, and both bring a threshold of their own."""


class LocalPart(_Part):
    """One of the two parts of the local data: its patients (or groups of near-duplicates), images and positives.

    Attributes:
        patients: Patients, or groups of near-duplicates where patients are not known.
        positive_patients: Those with an image of the positive class.
        images: How many were predicted; `positives` of them are of the positive class.
    """

    patients: int
    positive_patients: int
    images: int
    positives: int


class NestedTest(_Part):
    """A test of one update against a more extensive one.

    Attributes:
        kept: What is kept where the test is not significant.
        against: The more extensive update.
        statistic: Twice the difference of the log likelihoods.
        df: How many parameters more.
        design_effect: How far images of a patient inflate the statistic; it is divided by this.
        p: Of the statistic so corrected.
    """

    kept: UpdateMethod
    against: UpdateMethod
    statistic: float
    df: int
    design_effect: float
    p: float


class Update(_Part):
    """One update of a bundle on local data: its lineage.

    Attributes:
        parent: Name of the bundle that was updated, and `parent_digest`, that of its `bundle.yaml`.
        created: The day; `medsharp`, the version that did it.
        method: What was changed.
        chosen_by: `closed test`, or `asked` where the method was given.
        tests: The closed test, in the order in which it was made; empty where the method was given.
        intercept: `a` of `logit(new) = a + b logit(old)`, of the positive class; 0 where it was not changed.
        slope: `b`; 1 where it was not changed.
        parent_point: The operating point before.
        dataset: The local data, of which `calibration` changed the bundle and `evaluation` measured it.
        share: Asked for the calibration part, of the images.
        seed: Of the drawing of parts.
        parts: SHA-256 of the list of parts, written before any image was predicted.
        before: Figures of the parent on the evaluation part, with 95 % intervals.
        after: Those of the updated bundle.
        change: After minus before, paired over the same resamples.
    """

    parent: str
    parent_digest: str
    created: str
    medsharp: str
    method: UpdateMethod
    chosen_by: Literal["closed test", "asked"]
    tests: tuple[NestedTest, ...] = ()
    intercept: float
    slope: float = Field(gt=0)
    parent_point: OperatingPoint
    dataset: str
    calibration: LocalPart
    evaluation: LocalPart
    share: float
    seed: int
    parts: str
    before: dict[str, Figure]
    after: dict[str, Figure]
    change: dict[str, Figure]

    def sentence(self) -> str:
        """Say in words what was done to which bundle: a sentence without a full stop."""
        part = self.calibration
        who = (
            f"{part.images} images of {part.patients} patients or groups of {self.dataset} "
            f"({part.positive_patients} with a positive image)"
        )
        parent = f"{self.parent} (digest {self.parent_digest[:12]})"
        return f"{parent} was updated on {who} on {self.created}: {self._changes()}"

    def _changes(self) -> str:
        if self.method == "none":
            return "nothing was changed"
        if self.method == "threshold":
            return "the threshold alone was chosen anew"
        slope = f", slope {self.slope:.4f}" if self.method == "slope" else ""
        return f"intercept {self.intercept:+.4f}{slope} of the log odds, and a threshold chosen anew on that scale"


class BundleSpec(_Growing):
    """All of `bundle.yaml` but its digest.

    Attributes:
        temperature: What logits are divided by before softmax; 1 where it could not be estimated.
        uncalibrated: Why it could not be: the end of a sentence; empty where it was.
        weights: How the graph stores them; it computes in float32 either way.
        combination: How the graph makes one answer of several; None for one network that sees one view.
        held_out: Figures at each hospital left out wholly; empty where none was measured.
        updates: What `medsharp recalibrate` did, the oldest first; empty for a bundle as it was exported.
    """

    format: int
    name: str
    created: str
    medsharp: str
    classes: tuple[str, ...]
    positive: str
    preprocess: Preprocessing
    temperature: float = Field(gt=0)
    uncalibrated: str = Field("", json_schema_extra=_LATER)
    operating_point: OperatingPoint
    input_check: InputCheck
    heatmap_reference: float = Field(gt=0)
    outputs: tuple[str, ...]
    weights: Literal["fp32", "fp16"] = Field("fp32", json_schema_extra=_LATER)
    combination: Combination | None = Field(None, json_schema_extra=_LATER)
    training: TrainingRecord
    held_out: tuple[HeldOut, ...] = Field((), json_schema_extra=_LATER)
    updates: tuple[Update, ...] = Field((), json_schema_extra=_LATER)
    files: dict[str, str]

    @property
    def exact_map(self) -> bool:
        """Whether the class activation map, where the graph has one, explains the answer's logits exactly."""
        return self.combination is None or self.combination.average == "logits"

    @property
    def pooled(self) -> bool:
        """Whether predictions of members out of their folds fixed the temperature and the operating point."""
        members = self.training.members
        return any(member.out_of_fold < self.exported_point.images for member in members)

    @property
    def exported_point(self) -> OperatingPoint:
        """The operating point as it was exported, before any update."""
        return self.updates[0].parent_point if self.updates else self.operating_point

    @property
    def exported_temperature(self) -> float:
        """The temperature as it was exported: a slope divides it."""
        return self.temperature * math.prod(update.slope for update in self.updates)

    @property
    def decided_on(self) -> str:
        """Which images the operating point was chosen on, in words."""
        local = next((update for update in reversed(self.updates) if update.method != "none"), None)
        if local is not None:
            return f"images of {local.dataset}, its calibration part"
        return "images out of the folds of its members" if self.pooled else "internal validation images"

    @property
    def left_out_itself(self) -> bool:
        """Whether the figures at a hospital left out are of the bundle itself, whose runs left it out."""
        site = self.training.config.get("data", {}).get("leave_site")
        return [(one.site, one.threshold) for one in self.held_out] == [(site, self.operating_point.threshold)]

    @property
    def learned_from(self) -> str:
        """The data sets, and which hospital of theirs all runs left out: what training and internal figures are of."""
        left_out = self.training.config.get("data", {}).get("leave_site")
        return f"{self.training.dataset} without {left_out}" if left_out else self.training.dataset

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

    It is the one that the file `models/default` names, else the first by name.

    Raises:
        InputError: There is none, or none of the name in the file.
    """
    for models in (Path("models"), Path(__file__).resolve().parents[1] / "models"):
        if (models / _DEFAULT).is_file():
            named = models / (models / _DEFAULT).read_text(encoding="utf-8").strip()
            if not (named / SPEC).is_file():
                raise InputError(f"{models / _DEFAULT} names {named.name}, which is no bundle there; give one")
            return named
        found = sorted(path.parent for path in models.glob(f"*/{SPEC}"))
        if found:
            return found[0]
    raise InputError("no bundle in models/; give one: medsharp serve BUNDLE")
