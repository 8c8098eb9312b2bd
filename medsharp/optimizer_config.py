"""The optimizer section of a configuration: made from the catalogue of methods, the settings of each under its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)

from medsharp.optim.catalogue import CATALOGUE, Hyperparameter, OptimizerInfo, optimizer_info
from medsharp.settings import Section, about

DEFAULT_METHOD = "wsam"
DEFAULT_BASE = "adamw"

_Decay = Annotated[float, Field(ge=0, lt=1)]


def _annotation(entry: Hyperparameter) -> Any:
    """Return the type of a hyper-parameter, of which the catalogue gives default, range and choices."""
    if entry.choices:
        return Literal[entry.choices]
    if isinstance(entry.default, bool):
        return Annotated[bool, Field(strict=True)]
    if isinstance(entry.default, tuple):
        return tuple[(_Decay,) * len(entry.default)]  # type: ignore[misc]
    bounds = _bounds(entry)
    if entry.default is None:
        # Nothing but its range tells what a value without a default is: counts begin at 1, norms at 0.
        counted = isinstance(entry.low, int) and entry.low >= 1
        return (Annotated[int, bounds] if counted else Annotated[float, bounds]) | None
    return Annotated[type(entry.default), bounds]


def _bounds(entry: Hyperparameter) -> Any:
    # The catalogue's ranges are closed: an open end stands there as the float next to it.
    low, high = entry.low, entry.high
    above = {"gt": 0} if low is not None and 0 < low < 1e-6 else {"ge": low}
    below = {"lt": 1} if high is not None and 1 - 1e-6 < high < 1 else {"le": high}
    return Field(**above, **below)


def _method_section(info: OptimizerInfo) -> type[Section]:
    fields: dict[str, Any] = {
        entry.name: (_annotation(entry), Field(entry.default, description=entry.doc)) for entry in info.hyperparameters
    }
    paper = f"{info.paper}, {info.venue} {info.year}."
    return create_model(f"{info.name}_settings", __base__=Section, __doc__=paper, **fields)


METHODS: dict[str, type[Section]] = {info.name: _method_section(info) for info in CATALOGUE}
"""The settings of each method, by its name."""

# Any, because a type checker knows no class that is made of data.
_MethodSections: Any = create_model(
    "_MethodSections",
    __base__=Section,
    **{name: (model, Field(model(), description=about(model))) for name, model in METHODS.items()},  # type: ignore[call-overload]
)


class OptimizerConfig(_MethodSections):
    """The method that trains, and settings of methods, each under the method's name.

    `{name: wsam, base: adamw, wsam: {rho: 0.1}, adamw: {betas: [0.9, 0.99]}}`. A file may hold settings of several
    methods: those of the method in use and of the base that it stands on apply, the others wait for their turn. A key
    that is no section's, as in `{name: wsam, rho: 0.1}`, is short for that of the method named beside it, or of its
    base.
    """

    name: str = Field(DEFAULT_METHOD, description="the method; `medsharp train --help` lists them")
    base: str = Field(DEFAULT_BASE, description="sgd, adam or adamw: what a sharpness-aware method stands on")
    lr: float = Field(1e-3, gt=0, le=10, description="learning rate, at the end of the warm-up")
    weight_decay: float = Field(
        0.05, ge=0, le=10, description="of weights; biases, norm layers and the like are not decayed"
    )
    backbone_lr_ratio: float = Field(
        1.0, gt=0, le=1, description="learning rate of all but the head (classifier, lesion map) as a share of lr"
    )
    layer_decay: float | None = Field(
        None,
        gt=0,
        le=1,
        description="learning rate of each layer as a share of that of the layer above it, by timm's groups of layers",
    )

    @model_validator(mode="before")
    @classmethod
    def _placed(cls, section: Any) -> Any:
        return place_settings(section) if isinstance(section, Mapping) else section

    @field_validator("name", "base")
    @classmethod
    def _known(cls, name: str) -> str:
        return optimizer_info(name).name

    @field_validator("base")
    @classmethod
    def _plain(cls, base: str) -> str:
        if optimizer_info(base).sharpness_aware:
            raise ValueError(f"must be sgd, adam or adamw, not {base}")
        return base

    @model_serializer(mode="wrap")
    def _used_and_given(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = serialize(self)
        shown = {*methods_in_use(self.name, self.base), *(self.model_fields_set & METHODS.keys())}
        fixed = {key: value for key, value in values.items() if key not in METHODS}
        return fixed | {key: values[key] for key in METHODS if key in shown}

    def hyperparameters(self) -> dict[str, Any]:
        """Return the settings of the method and of the base that it stands on, by their keywords."""
        return {
            key: getattr(getattr(self, method), key)
            for method in reversed(methods_in_use(self.name, self.base))
            for key in METHODS[method].model_fields
        }

    def summary(self) -> dict[str, Any]:
        """Return what trains as plain values: name, base, learning rates, weight decay and `hyperparameters()`.

        Shares of the learning rate are left out where the backbone has none of its own.
        """
        fixed = {"name": self.name, "base": self.base, "lr": self.lr, "weight_decay": self.weight_decay}
        if self.backbone_lr_ratio != 1:
            fixed["backbone_lr_ratio"] = self.backbone_lr_ratio
        if self.layer_decay is not None:
            fixed["layer_decay"] = self.layer_decay
        plain = {
            key: list(value) if isinstance(value, tuple) else value for key, value in self.hyperparameters().items()
        }
        return fixed | plain


def methods_in_use(name: str, base: str) -> tuple[str, ...]:
    """Return the method and, where it stands on one, its base: where a short key is looked for, in this order.

    Raises:
        ValueError: A name is unknown.
    """
    info = optimizer_info(name)
    if not info.sharpness_aware or info.own_step:
        return (info.name,)
    return (info.name, optimizer_info(base).name)


def short_keys(name: str, base: str) -> list[str]:
    """Return the keys of a method and of its base, which need not name it; none where one of them is unknown."""
    try:
        return [key for method in methods_in_use(name, base) for key in METHODS[method].model_fields]
    except ValueError:
        return []


def full_key(keys: tuple[str, ...], name: str, base: str) -> tuple[str, ...]:
    """Return the keys below `optimizer` that are meant: `wsam.rho` by `rho` for wsam, `crsam.rho` by `CR-SAM.rho`.

    Keys that nothing is known of, whatever the reason, stay as they are.

    Args:
        keys: Such as `("rho",)`, or none.
        name: The method that short keys belong to.
        base: What it stands on.
    """
    if not keys or keys[0] in OptimizerConfig.model_fields:
        return keys
    first, *rest = keys
    try:
        for method in methods_in_use(name, base):
            if first in METHODS[method].model_fields:
                return (method, *keys)
    except ValueError:
        return keys  # the name is wrong, which is told when it is validated
    try:
        return (optimizer_info(first).name, *rest)
    except ValueError:
        return keys


def place_settings(section: Mapping[str, Any], name: str = DEFAULT_METHOD, base: str = DEFAULT_BASE) -> dict[str, Any]:
    """Put each key beneath the method that it belongs to, under the name that the catalogue gives it.

    Args:
        section: What stands under `optimizer:`; short keys belong to the method that it names.
        name: The method that they belong to where it names none.
        base: Likewise.

    Returns:
        A new dictionary.

    Raises:
        ValueError: A setting is given twice.
    """
    name, base = section.get("name", name), section.get("base", base)
    if not isinstance(name, str) or not isinstance(base, str):
        return dict(section)  # whose type is told when it is validated
    placed: dict[str, Any] = {}
    for key, value in section.items():
        top, *rest = full_key((str(key),), name, base)
        given = {rest[0]: value} if rest else value
        if given is None and top in METHODS:
            given = {}  # `sam:` with nothing behind it
        placed[top] = _united(top, placed[top], given) if top in placed else given
    return placed


def _united(method: str, first: Any, second: Any) -> dict[str, Any]:
    if not isinstance(first, Mapping) or not isinstance(second, Mapping):
        raise ValueError(f"{method} is given twice")
    twice = sorted(first.keys() & second.keys())
    if twice:
        raise ValueError(f"{twice[0]} of {method} is given twice; give it once, as {method}: {{{twice[0]}: ...}}")
    return {**first, **second}
