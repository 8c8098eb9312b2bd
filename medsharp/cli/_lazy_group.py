"""A group of commands whose modules are imported when they are called for, so that each starts without the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

from typer import Typer
from typer.core import TyperGroup
from typer.main import get_command


@dataclass(frozen=True)
class Place:
    """Where a command is.

    Attributes:
        module: Its module's full name.
        name: Of its function there, or of the `Typer` of a group.
        epilog: Name of the function there that gives what stands below the command's help; empty without.
    """

    module: str
    name: str
    epilog: str = ""


class LazyGroup(TyperGroup):
    """Has commands by name; one is imported where it is run, completed or described.

    Attributes:
        lazy: Where each command is, in the order of the help page.
    """

    lazy: ClassVar[Mapping[str, Place]]

    def __init__(self, **settings: Any) -> None:
        settings["commands"] = _Commands(self.lazy, settings.get("rich_markup_mode"))
        super().__init__(**settings)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read what comes before a command."""
        _hide_types_of_flags(self, ctx)
        return super().parse_args(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, imported now, or None where there is none of this name."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _hide_types_of_flags(command, ctx)
        return command


class _Commands(Mapping[str, Any]):
    """What a group looks its commands up in."""

    def __init__(self, places: Mapping[str, Place], markup: Any) -> None:
        self._places = places
        self._markup = markup
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            self._built[name] = self._build(name, self._places[name])
        return self._built[name]

    def __contains__(self, name: object) -> bool:  # a mapping's own would import what it is asked for
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _build(self, name: str, place: Place) -> Any:
        module = import_module(place.module)
        command = getattr(module, place.name)
        alone = Typer(add_completion=False, rich_markup_mode=self._markup)
        alone.callback()(lambda: None)  # makes a group of it, though it has one command
        if isinstance(command, Typer):
            alone.add_typer(command, name=name)
        else:
            alone.command(name, epilog=getattr(module, place.epilog)() if place.epilog else None)(command)
        group: Any = get_command(alone)
        return group.commands[name]


def _hide_types_of_flags(command: Any, ctx: Any) -> None:
    """Leave `<bool>` out of the help of flags, which take no value."""
    for option in command.get_params(ctx):
        if getattr(option, "is_flag", False) and option.metavar is None:
            option.metavar = ""
    if not isinstance(command, LazyGroup):  # whose commands are imported later
        for below in getattr(command, "commands", {}).values():
            _hide_types_of_flags(below, ctx)
