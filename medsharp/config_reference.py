"""The page of all settings, made from the models that check them: `python -m medsharp.config_reference`."""

from __future__ import annotations

import json
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from medsharp.config import DataConfig, TrainConfig
from medsharp.optim.catalogue import CATALOGUE, OptimizerInfo
from medsharp.optimizer_config import METHODS, OptimizerConfig
from medsharp.recipes import RECIPES, Augmentation
from medsharp.settings import Section

_INTRODUCTION = """# Every setting

<!-- Made by `python -m medsharp.config_reference > docs/configuration.md`; change the models, not this page. -->

`medsharp train` takes these from a YAML file (`--config FILE`), from the command line (`--set section.key=value`, which
may be repeated and wins over the file), or from neither: the defaults are below. `--print-config` prints what they come
to. An unknown key is an error that offers the nearest right one. A run folder keeps its settings in `config.yaml`.

```yaml
seed: 0
data: {path: my_images, classes: [benign, malignant], augmentation: strong}
network: {name: resnet18_w32}
optimizer: {name: wsam, base: adamw, lr: 1.0e-3, wsam: {rho: 0.1}, sam: {rho: 0.05}}
schedule: {epochs: 60, rho: cosine}
```
"""

_METHODS = """### Methods and their settings

The settings of a method stand under its name, so that one file holds those of several, and `--optimizer NAME` compares
them: `optimizer: {name: asam, asam: {rho: 1.0}, sam: {rho: 0.1}, sgd: {momentum: 0.8}}`. A method that is chosen takes
what stands under its own name and under that of its base, and its own defaults for the rest; learning rate and weight
decay are shared by all. A short form does for one method: in `optimizer: {name: sam, rho: 0.1}` the key belongs to the
method that the file names, or to its base, and stays with it when another is chosen on the command line; where the file
names none, and in `--set optimizer.rho=0.1`, it belongs to the method that is chosen in the end. Names are found in
other spellings too (`CR-SAM`). `data_size` of Bayesian SAM is the number of training images where nothing is set. What
the methods do is told in [optimizers](optimizers.md).
"""

_AUGMENTATION = """### Augmentation

`data.augmentation` is a recipe by name ({recipes}), or transforms with
their parameters, as in `{{placement: {{degrees: 5}}, shadow: {{prob: 0.3}}}}`. What is not named is not done; the order
is the one below. `medsharp data preview` shows what comes of it.
"""


def configuration_page() -> str:
    """Return the page of all settings in Markdown: every key with its default, its range and its meaning."""
    parts = [_INTRODUCTION, _table(TrainConfig, sections=False)]
    for name, field in TrainConfig.model_fields.items():
        section = _section(field)
        if section is not None:
            parts += [f"## `{name}`\n", _paragraph(section), _table(section)]
            parts += [] if section is OptimizerConfig else _nested(name, section)
            parts += _augmentation() if section is DataConfig else []
            parts += [_METHODS, *(_method(info) for info in CATALOGUE)] if section is OptimizerConfig else []
    return "\n".join(parts)


def _nested(name: str, section: type[Section]) -> list[str]:
    parts = []
    for key, field in section.model_fields.items():
        below = _section(field)
        if below is not None:
            parts += [f"### `{name}.{key}`\n", _paragraph(below), _table(below)]
    return parts


def _augmentation() -> list[str]:
    parts = [_AUGMENTATION.format(recipes=", ".join(f"`{name}`" for name in RECIPES))]
    for name, field in Augmentation.model_fields.items():
        section = _section(field)
        if section is not None:
            parts += [f"#### `{name}`\n", _paragraph(section), _table(section)]
    return parts


def _method(info: OptimizerInfo) -> str:
    stands = "" if not info.sharpness_aware else "; no base" if info.own_step else "; settings of its base on top"
    heading = f"#### `optimizer.{info.name}`\n\n{METHODS[info.name].__doc__} {_passes(info)}{stands}.\n"
    return f"{heading}\n{_table(METHODS[info.name])}"


def _passes(info: OptimizerInfo) -> str:
    return "One pass a step" if info.passes == 1 else f"{info.passes:g} passes a step"


def _table(model: type[Section], sections: bool = True) -> str:
    lines = ["| key | default | values | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if name in METHODS and model is OptimizerConfig:
            continue
        if _section(field) is not None and not sections:
            continue
        nested = _section(field) is not None
        default = "see below" if nested else f"`{_plain(field)}`"
        values = "a section" if nested else _values(field)
        lines.append(f"| `{name}` | {default} | {values} | {str(field.description).replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def _paragraph(model: type[Section]) -> str:
    paragraphs = str(model.__doc__).strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs) + "\n"


def _plain(field: FieldInfo) -> str:
    """Return a default as YAML and JSON both spell it."""
    return json.dumps(TypeAdapter(Any).dump_python(field.default, mode="json"))


def _section(field: FieldInfo) -> type[Section] | None:
    """Return the section that a key holds, or None where it holds a value."""
    parts = [part for part in (get_args(field.annotation) or (field.annotation,)) if part is not NoneType]
    only = parts[0] if len(parts) == 1 else None
    return only if isinstance(only, type) and issubclass(only, Section) else None


def _values(field: FieldInfo) -> str:
    return _type_in_words(field.annotation, _bounds(field.metadata))


def _bounds(metadata: list[Any]) -> str:
    """Return the range that the constraints of a number allow, such as `0 to below 1`."""
    ends = {key: getattr(part, key) for part in metadata for key in ("ge", "gt", "le", "lt") if hasattr(part, key)}
    ends = {key: value for key, value in ends.items() if value is not None and value != float("inf")}
    low = f"above {ends['gt']:g}" if "gt" in ends else f"{ends['ge']:.7g}" if "ge" in ends else ""
    high = f"below {ends['lt']}" if "lt" in ends else f"{ends['le']}" if "le" in ends else ""
    if low and high:
        return f"{low} to {high}"
    return (low if low.startswith("above") or not low else f"{low} or more") or high


def _type_in_words(annotation: Any, bounds: str = "") -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if hasattr(annotation, "__metadata__"):
        inner = [part for entry in annotation.__metadata__ for part in getattr(entry, "metadata", [entry])]
        return _type_in_words(parts[0], _bounds(inner) or bounds)
    if origin is dict:
        return f"mapping of {_type_in_words(parts[0])} to {_type_in_words(parts[1])}"
    if origin is tuple:
        each = _type_in_words(parts[0])
        count = "" if parts[-1] is Ellipsis else f" of {len(parts)}"
        return f"list{count or ' of'} {each}s" if each in _PLURAL else f"list{count}, each {each}"
    if parts:
        return " or ".join(dict.fromkeys(_type_in_words(part, bounds) for part in parts))
    words = _WORDS.get(annotation, "transforms, see below")
    return f"{words} {bounds}".strip() if annotation in {int, float} else words


_WORDS: dict[Any, str] = {
    bool: "`true`, `false`",
    int: "integer",
    float: "number",
    str: "text",
    NoneType: "`null`",
}
_PLURAL = {"number", "integer", "text"}


if __name__ == "__main__":
    print(configuration_page(), end="")
