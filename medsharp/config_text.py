"""What people write of a configuration, `key=value` and short keys, and what is said of values that are wrong."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from medsharp.errors import InputError, nearest
from medsharp.optimizer_config import DEFAULT_BASE, DEFAULT_METHOD, METHODS, place_settings, short_keys
from medsharp.settings import Section
from medsharp.yaml_text import load_yaml

Assignment = tuple[str, tuple[str, ...], Any]


def parse_assignment(override: str) -> Assignment:
    """Part `a.b=value` into itself, its keys and its value.

    Raises:
        InputError: It is not of that form, or the value is not YAML.
    """
    key, equals, text = override.partition("=")
    keys = tuple(part.strip() for part in key.split("."))
    if not equals or not all(keys):
        raise InputError(f"--set {override}: write it as section.key=value, such as optimizer.lr=3e-4")
    try:
        return override, keys, load_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {override}: the value is not YAML") from error


def chosen_method(values: dict[str, Any], assignments: Sequence[Assignment]) -> tuple[str, str]:
    """Return the method and the base that all assignments together choose."""
    section = values.get("optimizer")
    chosen = {"name": DEFAULT_METHOD, "base": DEFAULT_BASE, **(section if isinstance(section, dict) else {})}
    for _, keys, value in assignments:
        if keys in {("optimizer", "name"), ("optimizer", "base")}:
            chosen[keys[1]] = value
        elif keys == ("optimizer",) and isinstance(value, dict):
            chosen = {"name": DEFAULT_METHOD, "base": DEFAULT_BASE, **value}
    return str(chosen["name"]), str(chosen["base"])


def assign(values: dict[str, Any], keys: Sequence[str], value: Any, override: str) -> None:
    """Set the value of nested keys, making the sections that are not there.

    Raises:
        InputError: One of the keys holds something else than a section.
    """
    section = values
    for part in keys[:-1]:
        if section.get(part) is None:
            section[part] = {}
        section = section[part]
        if not isinstance(section, dict):
            raise InputError(f"--set {override}: {part} is not a section")
    section[keys[-1]] = value


def place_short_keys(values: dict[str, Any], name: str, base: str, origin: str) -> None:
    """Put short keys of the optimizer beneath the method that the section names, or the one that is chosen at last.

    Raises:
        InputError: A short key is of neither.
    """
    section = values.get("optimizer")
    if isinstance(section, dict):
        try:
            # With a method that the section names goes the base that it names, or the default: not a later choice.
            chosen = (DEFAULT_METHOD, DEFAULT_BASE) if "name" in section else (name, base)
            values["optimizer"] = place_settings(section, *chosen)
        except ValueError as error:
            raise InputError(f"{origin}: optimizer: {error}") from error


_PLAIN = {
    "dict_type": "Input should be a section of keys",
    "model_type": "Input should be a section of keys",
    "model_attributes_type": "Input should be a section of keys",
    "tuple_type": "Input should be a list in brackets, such as [a, b]",
    "list_type": "Input should be a list in brackets, such as [a, b]",
}
"""What pydantic says in words of Python, by its kind of error."""


def refusal_of(error: ValidationError, values: dict[str, Any], model: type[Section]) -> str:
    """Return what is wrong with values of a YAML file in one sentence that names the key.

    Args:
        error: The first of its errors is told.
        values: As the file has them.
        model: What they should be.
    """
    return _sentence(error.errors()[0], values, model)


def _sentence(error: Any, values: dict[str, Any], root: type[Section]) -> str:
    # The parts in brackets say which kind of value pydantic took something for; no file has such a key.
    location = [str(part) for part in error["loc"] if not str(part).startswith("<")]
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        where = ""
        known = _keys_of(root, location[:-1])
        if location[:-1] == ["optimizer"]:
            name, base = chosen_method(values, [])
            known = [*[key for key in known if key not in METHODS], *short_keys(name, base)]
            if not difflib.get_close_matches(location[-1], known) and location[-1] not in known:
                # Perhaps the section of another method was meant, though a list of all would not help.
                known = [*known, *difflib.get_close_matches(location[-1], METHODS)]
            where = f" for {name}"
        return f"unknown key '{key}'{where}{nearest(location[-1], known)}"
    if error["type"] == "missing" and isinstance(error["loc"][-1], int):
        # A list is too short; its places are counted from 0, and the list itself was given.
        number = int(location.pop()) + 1
        about = _description(root, location)
        missing = f"value {number} is missing{f' ({about})' if about else ''}"
        return f"{'.'.join(location)} = {error['input']!r}: {missing}"
    message = _PLAIN.get(error["type"], error["msg"].removeprefix("Value error, "))
    given = error.get("input")
    if isinstance(given, (str, int, float, bool, list, tuple)) or given is None:
        about = _description(root, location)
        named = f"'{given}'" in message
        return f"{key}{'' if named else f' = {given!r}'}: {message}{f' ({about})' if about and not named else ''}"
    return f"{key}: {message}" if key else message


def _keys_of(root: type[Section], location: Sequence[str]) -> list[str]:
    model = _model_at(root, location)
    return [] if model is None else list(model.model_fields)


def _description(root: type[Section], location: Sequence[str]) -> str:
    """Return what a key means, or nothing where it is none, such as a place in a list."""
    model = _model_at(root, location[:-1])
    field = None if model is None or not location else model.model_fields.get(location[-1])
    return "" if field is None or field.description is None or _section_of(field.annotation) else field.description


def _model_at(root: type[Section], location: Sequence[str]) -> Any:
    model: Any = root
    for part in location:
        field = model.model_fields.get(part)
        model = _section_of(field.annotation) if field is not None else None
        if model is None:
            return None
    return model


def _section_of(annotation: Any) -> Any:
    """Return the model in an annotation such as `Shadow | None`, or None."""
    if hasattr(annotation, "model_fields"):
        return annotation
    return next(filter(None, (_section_of(part) for part in get_args(annotation))), None)
