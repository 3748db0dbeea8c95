"""XAPI's types: parsed from the data model's notation, and values checked against them.

    notation                      value in a record
    string, datetime, X ref,      str (dates as YYYYMMDDTHH:MM:SSZ, the null reference "OpaqueRef:NULL")
    enum e, X record              str, dict
    int, float, bool              int, float, bool
    T set                         list
    (K -> V) map                  dict with string keys
    T option                      T

Values are kept as JSON-RPC sends them, so that reading a record needs no conversion.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from xobackup.simpool.failures import Failure

NULL = "OpaqueRef:NULL"
EPOCH = "19700101T00:00:00Z"
_DATE = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)T(\d\d):?(\d\d):?(\d\d)(?:\.\d+)?(Z|[+-]\d\d(?::?\d\d)?)?",
)


INT_LIMIT = 1 << 63
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML cannot carry, among it bytes that were no UTF-8 (as surrogates)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Type:
    """One type. ``kind``: a scalar's name, or enum, ref, record, set, map, option; ``of``: what is inside."""

    kind: str
    name: str = ""
    of: tuple[Type, ...] = ()


@cache
def parse_type(text: str) -> Type:
    """The type that ``text`` denotes in the data model."""
    text = text.strip()
    if text.startswith("(") and text.endswith(") map"):
        key, value = _split_arrow(text[1:-5])
        return Type(kind="map", of=(parse_type(key), parse_type(value)))
    for suffix in ("set", "option"):
        if text.endswith(" " + suffix):
            return Type(kind=suffix, of=(parse_type(text[: -len(suffix) - 1]),))
    for suffix in ("ref", "record"):
        if text.endswith(" " + suffix):
            return Type(kind=suffix, name=text[: -len(suffix) - 1])
    if text.startswith("enum "):
        return Type(kind="enum", name=text[5:])
    return Type(kind=text)


def _split_arrow(text: str) -> tuple[str, str]:
    depth = 0
    for position, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and text.startswith(" -> ", position):
            return text[:position], text[position + 4 :]
    raise ValueError(f"no arrow in {text!r}")


def zero(kind: Type, enums: dict[str, list[str]]) -> Any:
    """What a field without default holds."""
    match kind.kind:
        case "string" | "option" | "record":
            return ""
        case "datetime":
            return EPOCH
        case "int":
            return 0
        case "float":
            return 0.0
        case "bool":
            return False
        case "ref":
            return NULL
        case "enum":
            return enums.get(kind.name, [""])[0]
        case "set":
            return []
        case "map":
            return {}
    raise ValueError(f"no zero for {kind}")


def parse_default(text: str, kind: Type) -> Any:
    """The value of a default as the data model writes it (OCaml-like)."""
    match kind.kind:
        case "int":
            return int(text)
        case "float":
            return float(text)
        case "bool":
            return text == "true"
        case "ref":
            return NULL if text == "Null" else text
        case "set" | "map":
            return _parse_braces(text[1:-1].strip(), kind)
        case _:
            return text[1:-1] if text.startswith('"') else text


def _parse_braces(inside: str, kind: Type) -> Any:
    parts = [part.strip() for part in inside.split(",") if part.strip()]
    if kind.kind == "set":
        return [parse_default(part, kind.of[0]) for part in parts]
    pairs = (part.split(" -> ") for part in parts)
    return {key.strip('"'): parse_default(value.strip(), kind.of[1]) for key, value in pairs}


def check_value(value: Any, kind: Type, field: str, enums: dict[str, list[str]]) -> Any:
    """``value`` as a record keeps it. Raises ``FIELD_TYPE_ERROR`` when it is of another type, and ``INVALID_VALUE``
    for text that is no UTF-8 or that XML cannot carry."""
    wrong = Failure("FIELD_TYPE_ERROR", field)
    match kind.kind:
        case "int":
            return _integer(value, wrong)
        case "float":
            return _float(value, wrong)
        case "bool":
            if not isinstance(value, bool):
                raise wrong
            return value
        case "set":
            if not isinstance(value, list):
                raise wrong
            return [check_value(item, kind.of[0], field, enums) for item in value]
        case "map":
            if not isinstance(value, dict):
                raise wrong
            _printable("".join(value), field)
            return {str(key): check_value(item, kind.of[1], field, enums) for key, item in value.items()}
        case "record":
            if not isinstance(value, dict):
                raise wrong
            return value
        case "option":
            return value
    if isinstance(value, str):
        _printable(value, field)
    return _text(value, kind, wrong, enums)


def _printable(text: str, field: str) -> None:
    if _UNPRINTABLE.search(text):
        raise Failure("INVALID_VALUE", field, _UNPRINTABLE.sub("?", text))


def _integer(value: Any, wrong: Failure) -> int:
    if isinstance(value, bool):
        raise wrong
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and -INT_LIMIT <= value < INT_LIMIT:
        return value
    raise wrong


def _float(value: Any, wrong: Failure) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong
    return float(value)


def _text(value: Any, kind: Type, wrong: Failure, enums: dict[str, list[str]]) -> str:
    if not isinstance(value, str):
        raise wrong
    if kind.kind == "datetime":
        return parse_date(value, wrong)
    if kind.kind == "enum" and kind.name in enums and value not in enums[kind.name]:
        raise wrong
    if kind.kind == "ref" and not value:
        return NULL
    return value


def parse_date(text: str, wrong: Failure) -> str:
    """Any spelling of a date that xapi takes, in its own spelling; without a zone it is UTC."""
    found = _DATE.fullmatch(text)
    if not found:
        raise wrong
    zone = found[7]
    if zone in (None, "Z"):
        return "{}{}{}T{}:{}:{}Z".format(*found.groups()[:6])
    digits = zone[1:].replace(":", "").ljust(4, "0")
    iso = "{}-{}-{}T{}:{}:{}".format(*found.groups()[:6])
    return date_text(datetime.fromisoformat(f"{iso}{zone[0]}{digits[:2]}:{digits[2:]}").timestamp())


def date_text(unix_s: float) -> str:
    """Unix seconds as XAPI writes dates."""
    return datetime.fromtimestamp(unix_s, tz=UTC).strftime("%Y%m%dT%H:%M:%SZ")
