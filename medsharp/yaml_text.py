"""YAML of files that others wrote: nesting and aliases are bounded before anything is built of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medsharp.errors import InputError

MOST_NESTED = 100
"""So many sections lie in each other at most; libyaml's loader has no bound of its own, and ends the process."""

MOST_NODES = 1_000_000
"""So many values there are at most, where each is counted wherever an alias repeats it."""

_Loader = type[yaml.SafeLoader] | type["yaml.CSafeLoader"]


@dataclass
class _Node:
    """A value: how many it is with all that it holds, and how deep these lie."""

    anchor: str | None = None
    nodes: int = 1
    depth: int = 0


def load_yaml(text: str, loader: _Loader = yaml.SafeLoader) -> Any:
    """Read a YAML document, as `yaml.safe_load` does.

    Args:
        text: The document.
        loader: A safe loader.

    Raises:
        yaml.YAMLError: It is not YAML, or nests deeper or repeats more than anybody writes.
    """
    try:
        _check_size(text, loader)
        return yaml.load(text, Loader=loader)
    # Of a date that is none, such as 2024-13-01, of tags that their text does not fit (`!!bool x` is a KeyError,
    # `!!int ""` an IndexError, `!!timestamp x` an AttributeError), and of merges in a long row.
    except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError, RecursionError) as error:
        raise yaml.YAMLError(f"a value cannot be read ({type(error).__name__}: {error})") from error


def quoted(text: str) -> str:
    """Return text as YAML has it, on one line, whatever is in it.

    Unquoted, a folder named 2024 would be a number and one named on would be true; in single quotes a line break would
    be a blank.
    """
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=float("inf")).rstrip("\n")


def _check_size(text: str, loader: _Loader) -> None:
    """Follow the parser's events, which need no stack, and refuse what would overflow that of a loader."""
    anchored: dict[str, _Node] = {}
    within = [_Node()]
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            within.append(_Node(event.anchor))
            _refuse(event, len(within) - 1, 0)
            continue
        if isinstance(event, yaml.AliasEvent):
            if any(event.anchor == one.anchor for one in within):
                raise yaml.YAMLError(f"{_line(event)}: {event.anchor} holds itself")
            node = anchored.get(str(event.anchor), _Node())  # an unknown one is the loader's to refuse
        elif isinstance(event, yaml.ScalarEvent):
            node = _Node(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            node = within.pop()
        else:
            continue
        if node.anchor is not None:
            anchored[node.anchor] = node
        parent = within[-1]
        parent.nodes += node.nodes
        parent.depth = max(parent.depth, node.depth + 1)
        _refuse(event, len(within) - 1 + node.depth, parent.nodes)


def _refuse(event: yaml.Event, depth: int, nodes: int) -> None:
    if depth > MOST_NESTED:
        raise yaml.YAMLError(f"{_line(event)}: sections lie in each other more than {MOST_NESTED} deep")
    if nodes > MOST_NODES:
        raise yaml.YAMLError(f"{_line(event)}: there are more than {MOST_NODES} values")


def _line(event: yaml.Event) -> str:
    return "a line" if event.start_mark is None else f"line {event.start_mark.line + 1}"


class _EachKeyOnce(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, of which YAML would quietly take the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                continue  # no setting's name
            if key.value in seen:
                problem = f"'{key.value}' stands twice in one section"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of sections, in which no key stands twice.

    Raises:
        InputError: It cannot be read or is not YAML.
    """
    try:
        loaded = load_yaml(Path(path).read_text(encoding="utf-8"), _EachKeyOnce)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except yaml.constructor.ConstructorError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise InputError(f"{path}{line}: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if loaded is not None and not isinstance(loaded, dict):
        raise InputError(f"{path} must hold sections such as 'optimizer:', not a {type(loaded).__name__}")
    return loaded or {}
