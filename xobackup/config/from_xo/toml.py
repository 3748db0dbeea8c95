"""Writing TOML: the little that a configuration needs, laid out for a reader. It reads back as it was."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from xobackup.config.from_xo.remarks import plain
from xobackup.config.from_xo.sections import COMMENT, Section

WIDTH = 110
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_DOTTED = frozenset({"vms", "disks"})
"""Tables that are written as dotted keys."""


def write_toml(head: Iterable[str], sections: Iterable[Section]) -> str:
    """The whole file; ``head`` are the lines of the comment at its top."""
    lines = [comment(line) for line in head]
    for section in sections:
        lines.append("")
        lines += [comment(line) for line in section.comments]
        mark = "" if section.active else "# "
        lines.append(f"{mark}[{section.kind}.{_key(section.name)}]")
        for key, value in section.values.items():
            lines += [mark + line for line in _lines(key, value)]
    return "\n".join(lines) + "\n"


def comment(text: str) -> str:
    """One line, whatever ``text`` holds."""
    indent = " " * min(len(text) - len(text.lstrip(" ")), 8)
    return f"# {indent}{plain(text, most=1000)}".rstrip()


def _lines(key: str, value: Any) -> list[str]:
    if key in _DOTTED and isinstance(value, dict):
        return [line for name, member in value.items() for line in _lines(f"{key}.{name}", member)]
    name = key if "." in key else _key(key)
    if isinstance(value, list):
        line = f"{name} = {_value(value)}"
        if len(line) > WIDTH or any(isinstance(member, dict) and COMMENT in member for member in value):
            return [f"{name} = [", *(f"    {_member(member)}" for member in value), "]"]
        return [line]
    return [f"{name} = {_value(value)}"]


def _member(value: Any) -> str:
    told = value.get(COMMENT) if isinstance(value, dict) else None
    return f"{_value(value)},{f'  # {plain(told, most=80)}' if told else ''}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(_value(member) for member in value) + "]"
    assert isinstance(value, dict), f"no TOML for {type(value)}"
    members = [f"{_key(key)} = {_value(member)}" for key, member in value.items() if key != COMMENT]
    return "{ " + ", ".join(members) + " }" if members else "{}"


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(letter) or _escaped(letter) for letter in text) + '"'


def _escaped(letter: str) -> str:
    return letter if letter >= " " and letter != "\x7f" else f"\\u{ord(letter):04x}"


def value_text(value: Any, *, key: bool = False) -> str:
    """Anything of a configuration on one line; a ``key`` as a key."""
    return _key(str(value)) if key else _value(value)
