"""What every section of a configuration has in common."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Section(BaseModel):
    """Settings under one key of a YAML file: unknown keys are refused, and no number is true, false or not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_as_people_write_them(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[str(info.field_name)].annotation
        if _contains_bool(value) and not _mentions(annotation, bool):
            raise ValueError("true and false are no value here")  # pydantic would read `lr: true` as 1
        return value if _mentions(annotation, str) else _number(value)


def _number(value: Any) -> Any:
    # YAML 1.1 reads 1e6 (no dot) as text; a person who writes it means a number.
    if isinstance(value, (list, tuple)):
        return [_number(item) for item in value]
    if isinstance(value, str) and "e" in value.lower():
        try:
            return float(value)
        except ValueError:
            return value
    return value


def about(section: type[Section]) -> str:
    """Return the first paragraph of a section's docstring on one line, without its full stop."""
    return " ".join(str(section.__doc__).strip().split("\n\n")[0].split()).removesuffix(".")


def _contains_bool(value: Any) -> bool:
    return any(map(_contains_bool, value)) if isinstance(value, (list, tuple)) else isinstance(value, bool)


def _mentions(annotation: Any, kind: type) -> bool:
    return annotation is kind or any(_mentions(part, kind) for part in get_args(annotation))
