"""The folder of a bundle: its files, their hashes, writing and reading `bundle.yaml`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from medsharp.bundle.spec import BundleSpec, digest_of
from medsharp.errors import InputError
from medsharp.files import sha256_file, write_text
from medsharp.yaml_text import load_yaml

FORMAT = 1
SPEC = "bundle.yaml"
MODEL = "model.onnx"
METADATA = "metadata.json"
PARITY = "parity.json"
CHECKS = "checks.npz"
CARD = "MODEL_CARD.md"
INTERNAL = "internal.csv"
VALIDATION = "validation.csv"
TRAINING_HASHES = "training_images.sha256"
TRAINING_LOOKS = "training_images.dhash"
Precision = Literal["fp32", "fp16", "int8"]
"""What a graph computes in."""

MODELS: dict[Precision, str] = {"fp32": MODEL, "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
"""The file of each precision: the first is always there, the others where export was asked for them and they passed."""

BUNDLE_FILES = (*MODELS.values(), METADATA, PARITY, CHECKS, CARD, INTERNAL, VALIDATION, TRAINING_HASHES, TRAINING_LOOKS)
"""What may lie beside `bundle.yaml`; only `MODEL` must."""

_DEFAULT = "default"

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The same safe loader in C, where PyYAML was built with it: the statistics of a thousand features take it a sixth."""


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
        values = load_yaml(path.read_text(encoding="utf-8"), _LOADER)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
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
    # The names are joined to folders, of the bundle and of copies: none may lead out of them.
    strange = next((name for name in spec.files if name not in BUNDLE_FILES), None)
    if strange is not None:
        raise InputError(f"{path} is damaged: it lists {strange!r}, which is no file of a bundle")
    for name in BUNDLE_FILES:
        if name not in spec.files and (folder / name).exists():
            raise InputError(f"{folder / name} was added after the bundle was written; remove it")
    for name, expected in spec.files.items():
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} is missing; export the bundle again")
        if verify and sha256_file(folder / name) != expected:
            raise InputError(f"{folder / name} was changed after it was written; export the bundle again")
    return spec


def answers_digest_of(spec: BundleSpec) -> str:
    """Return `digest_of` without the model card, which `evaluate --card` writes anew: of what answers depend on."""
    files = {name: digest for name, digest in spec.files.items() if name != CARD}
    return digest_of(spec.model_copy(update={"files": files}))


def read_graphs(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what `parity.json` says of each graph, by name; nothing of bundles written before it said it by graph."""
    if not (folder / PARITY).is_file():
        return {}
    graphs: dict[str, dict[str, Any]] = json.loads((folder / PARITY).read_text(encoding="utf-8")).get("graphs", {})
    return graphs


def default_bundle() -> Path:
    """Return the bundle in `models/`, of the working folder or of the source checkout.

    It is the one that the file `models/default` names, else the first by name.

    Raises:
        InputError: There is none, or none of the name in the file.
    """
    for models in (Path("models"), Path(__file__).resolve().parents[2] / "models"):
        if (models / _DEFAULT).is_file():
            named = models / (models / _DEFAULT).read_text(encoding="utf-8").strip()
            if not (named / SPEC).is_file():
                raise InputError(f"{models / _DEFAULT} names {named.name}, which is no bundle there; give one")
            return named
        found = sorted(path.parent for path in models.glob(f"*/{SPEC}"))
        if found:
            return found[0]
    raise InputError("no bundle in models/; give one: medsharp serve BUNDLE")
