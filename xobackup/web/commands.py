"""The commands of the command line as data: what each takes, who may order it, and how its line is made. Pure.

A value never becomes an option, a word of a shell or a second argument: each is one element of the line, options as
``--name=value``, what has no option after ``--``. What may not be asked for by a request has no parameter here; the
reason is kept beside (:class:`LeftOut`).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from xobackup.service.operations import Lane
from xobackup.web.access import Role

Value = str | int | float | bool


class Kind(StrEnum):
    """What the value of a parameter is."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    SWITCH = "switch"
    REMOTE = "remote"
    """The name of a remote of the configuration."""
    FILE_READ = "file read"
    """The name of a file in the directory of exchange, which has to be there."""
    FILE_WRITTEN = "file written"


FILES = (Kind.FILE_READ, Kind.FILE_WRITTEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """``name``: as in a request; ``option``: as on the command line, ``""`` for what has none; ``off``: its
    opposite.
    """

    name: str
    kind: Kind
    help: str
    option: str = ""
    off: str = ""
    required: bool = False
    many: bool = False
    choices: tuple[str, ...] = ()
    default: Value | None = None
    least: float | None = None
    most: float | None = None
    admin: bool = False
    """Giving it needs an admin."""
    work: bool = False
    """Giving it makes a look a deed that waits for its turn."""

    def values(self, given: Mapping[str, Any]) -> list[Value]:
        """Those given; an only one as a list too."""
        value = given.get(self.name)
        if value is None:
            return []
        return list(value) if self.many else [value]

    def says_something(self, given: Mapping[str, Any]) -> bool:
        """A switch that is off does not."""
        return any(one is not False for one in self.values(given))

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A command, or an option of one, that no request may ask for."""

    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """``name``: ``dr failover``; ``fixed``: options that the service gives it."""

    name: str
    help: str
    role: Role
    lane: Lane
    parameters: tuple[Parameter, ...]
    left_out: tuple[LeftOut, ...] = ()
    fixed: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Of its route: ``dr/failover``."""
        return self.name.replace(" ", "/")

    def role_for(self, values: Mapping[str, Any]) -> Role:
        """Who may order it with these values."""
        return Role.ADMIN if any(one.admin and one.says_something(values) for one in self.parameters) else self.role

    def lane_for(self, values: Mapping[str, Any]) -> Lane:
        """Whose turn it is with these values."""
        return Lane.WORK if any(one.work and one.says_something(values) for one in self.parameters) else self.lane

    def arguments(self, values: Mapping[str, Any], place: Callable[[str], str] = str) -> list[str]:
        """The line: the command's words, options, and the rest. ``place``: where a file of that name is."""
        options: list[str] = []
        rest: list[str] = []
        for one in self.parameters:
            for value in one.values(values):
                if one.kind is Kind.SWITCH:
                    options += [flag for flag in [one.option if value else one.off] if flag]
                    continue
                text = place(str(value)) if one.kind in FILES else str(value)
                (options if one.option else rest).append(f"{one.option}={text}" if one.option else text)
        return [*self.name.split(), *options, *(["--", *rest] if rest else [])]

    def written(self, values: Mapping[str, Any]) -> list[str]:
        """Names of the files that it writes with these values."""
        return [
            str(value) for one in self.parameters if one.kind is Kind.FILE_WRITTEN for value in one.values(values)
        ]

    def line(self, values: Mapping[str, Any]) -> str:
        """As one would type it."""
        return shlex.join(["xobackup", *self.arguments(values)])

    def as_data(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "help": self.help,
            "href": f"/api/v1/commands/{self.path}",
            "role": self.role.name.lower(),
            "lane": self.lane,
            "parameters": [one.as_data() for one in self.parameters],
            "left_out": [asdict(one) for one in self.left_out],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Every command: those that can be ordered, by name, and those that cannot."""

    commands: Mapping[str, Command]
    left_out: tuple[LeftOut, ...]

    def as_data(self) -> dict[str, Any]:
        return {
            "commands": [one.as_data() for one in self.commands.values()],
            "left_out": [asdict(one) for one in self.left_out],
        }
