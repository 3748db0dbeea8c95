"""The command line as data, made of the commands themselves and of what was decided about them."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from xobackup.cli.serving.decisions import EXCUSED, RULES, TEXTS, Rule
from xobackup.web.commands import Catalogue, Command, Kind, LeftOut, Parameter

UNDECIDED = "nobody has decided yet whether a request may give it"
FIXED = {"config": "", "as_json": "--json", "log_format": "--log-format=text"}
"""Parameters that the service gives: the option, or what it finds out when it is begun."""


@functools.cache
def catalogue() -> Catalogue:
    """Every command; put together once."""
    from xobackup.cli.main import program

    commands: dict[str, Command] = {}
    left_out: list[LeftOut] = []
    for name, command in _walk(program()):
        rule = RULES.get(name)
        if rule is None:
            left_out.append(LeftOut(name=name, why=EXCUSED.get(name, UNDECIDED)))
        else:
            commands[name] = _described(name, command, rule)
    return Catalogue(commands=commands, left_out=tuple(left_out))


def undecided() -> list[str]:
    """Commands and options without a decision, and decisions about what there is not: a test wants none."""
    known = catalogue()
    wrong = [one.name for one in known.left_out if one.why == UNDECIDED]
    names = {*known.commands, *(one.name for one in known.left_out)}
    wrong += [f"{name}: there is no such command" for name in sorted({*RULES, *EXCUSED} - names)]
    wrong += [f"{name}: both a rule and an excuse" for name in set(RULES) & set(EXCUSED)]
    for command in known.commands.values():
        wrong += [f"{command.name}: {one.name}" for one in command.left_out if one.why == UNDECIDED]
        there = {one.name for one in command.parameters} | {one.name for one in command.left_out}
        rule = RULES[command.name]
        named = {*rule.admin, *rule.work, *rule.remotes, *rule.reads, *rule.writes, *rule.texts, *rule.required}
        named |= {*rule.choices, *rule.without}
        wrong += [f"{command.name}: there is no {name}" for name in sorted(named - there)]
    return wrong


def _walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield " ".join(path), command
        return
    for name, one in command.commands.items():
        yield from _walk(one, (*path, name))


def _described(name: str, command: Any, rule: Rule) -> Command:
    hints = typing.get_type_hints(inspect.unwrap(command.callback), include_extras=True)
    parameters: list[Parameter] = []
    left_out: list[LeftOut] = []
    positional = {one.name for one in command.params if not _option(one)}
    for one in command.params:
        if one.name in FIXED:
            continue
        called = _called(one, positional)
        kind = None if called in rule.without else _kind(called, hints[one.name], rule)
        if kind is None:
            left_out.append(LeftOut(name=called, why=rule.without.get(called, UNDECIDED)))
        else:
            parameters.append(_parameter(called, kind, one, hints[one.name], rule))
    there = {one.name for one in command.params}
    return Command(
        name=name,
        help=" ".join((command.help or "").split()),
        role=rule.role,
        lane=rule.lane,
        parameters=tuple(parameters),
        left_out=tuple(left_out),
        fixed=tuple("config" if key == "config" else text for key, text in FIXED.items() if key in there),
    )


def _option(one: Any) -> str:
    """Its long option; ``""`` for an argument."""
    return next((str(text) for text in one.opts if str(text).startswith("--")), "")


def _called(one: Any, positional: set[str]) -> str:
    """As its option is, unless an argument is called so."""
    name = _option(one).removeprefix("--").replace("-", "_")
    return name if name and name not in positional else str(one.name)


def _plain(hint: Any) -> tuple[Any, Any]:
    """The type of a single value, and what Typer was told of it."""
    told = next(iter(getattr(hint, "__metadata__", ())), None)
    kind = typing.get_args(hint)[0] if told is not None else hint
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(one for one in typing.get_args(kind) if one is not type(None))
    if typing.get_origin(kind) is list:
        kind = typing.get_args(kind)[0]
    return kind, told


def _kind(called: str, hint: Any, rule: Rule) -> Kind | None:
    """``None``: undecided."""
    kind, _ = _plain(hint)
    if called in rule.reads:
        return Kind.FILE_READ
    if called in rule.writes:
        return Kind.FILE_WRITTEN
    if isinstance(kind, type) and issubclass(kind, Path):
        return None
    if called == "remote" or called in rule.remotes:
        return Kind.REMOTE
    simple = {bool: Kind.SWITCH, int: Kind.INTEGER, float: Kind.NUMBER}.get(kind)
    if simple is not None:
        return simple
    return Kind.TEXT if _choices(kind) or called in TEXTS or called in rule.texts else None


def _choices(kind: Any) -> tuple[str, ...]:
    if typing.get_origin(kind) is typing.Literal:
        return tuple(str(one) for one in typing.get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return tuple(str(one.value) for one in kind)
    return ()


def _parameter(called: str, kind: Kind, one: Any, hint: Any, rule: Rule) -> Parameter:
    plain, told = _plain(hint)
    many = bool(getattr(one, "multiple", False)) or one.nargs == -1
    default = one.default.value if isinstance(one.default, Enum) else one.default
    return Parameter(
        name=called,
        kind=kind,
        help=" ".join((getattr(one, "help", None) or "").split()),
        option=_option(one),
        off=next((str(text) for text in one.secondary_opts if str(text).startswith("--")), ""),
        required=bool(one.required) or called in rule.required,
        many=many,
        choices=rule.choices.get(called, _choices(plain)),
        default=default if isinstance(default, str | int | float) and not one.required else None,
        least=getattr(told, "min", None),
        most=getattr(told, "max", None),
        admin=called in rule.admin,
        work=called in rule.work,
    )
