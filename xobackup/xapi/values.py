"""Values of XAPI's database: references, times, and the XML in which tasks give their results."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

from xobackup.xapi.errors import ProtocolError

NULL_REF = "OpaqueRef:NULL"

_COMPACT = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)[T ](\d\d):?(\d\d):?(\d\d)(\.\d{1,9})?\s*(Z|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)
_SECONDS = re.compile(r"-?\d{1,12}(\.\d+)?", re.ASCII)
_SIMPLE = re.compile(r"<value>(?:<string>)?([^<]*)(?:</string>)?</value>")
RESULT_DEPTH_MAX = 32
"""Nesting of a task's result; real ones have two levels."""


def is_null(ref: object) -> bool:
    """Whether a reference points to nothing (also in the forms old hosts and imports left behind)."""
    return not isinstance(ref, str) or not ref.startswith("OpaqueRef:") or ref == NULL_REF


def parse_time(value: object) -> datetime | None:
    """A time in any form hosts have used; ``None`` for *never* (1970, empty) and for what is not a time."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return _from_seconds(float(value))
    if not isinstance(value, str):
        return None
    text = value.strip()
    matched = _COMPACT.fullmatch(text)
    if matched is None:
        return _from_seconds(float(text)) if _SECONDS.fullmatch(text) else None
    year, month, day, hour, minute, second = (int(part) for part in matched.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        moment += timedelta(seconds=float(matched.group(7) or 0)) - _zone(matched.group(8))
    except (ValueError, OverflowError):
        return None
    return moment if moment.timestamp() > 0 else None


def format_time(moment: datetime) -> str:
    """XAPI's own form, ``YYYYMMDDTHH:MM:SSZ``."""
    return moment.astimezone(UTC).strftime("%Y%m%dT%H:%M:%SZ")


def decode_result(text: object) -> Any:
    """A task's ``result``: ``None`` for void, text, or lists and dicts of text."""
    if not isinstance(text, str) or not text.strip():
        return None
    stripped = text.strip()
    simple = _SIMPLE.fullmatch(stripped)
    if simple:
        return html.unescape(simple.group(1)) or None
    if not stripped.startswith("<value"):
        return stripped
    if "<!" in stripped or "<?" in stripped:
        raise ProtocolError("task result", "it holds an XML declaration, which XAPI never sends")
    try:
        root = ElementTree.fromstring(stripped)  # noqa: S314 - no DTD in it, checked above
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise ProtocolError("task result", f"expected an XML-RPC value, found {stripped[:80]!r}") from error
    return _value(root, 0)


def _value(element: ElementTree.Element, depth: int) -> Any:
    if depth > RESULT_DEPTH_MAX:
        raise ProtocolError("task result", f"nested more than {RESULT_DEPTH_MAX} deep")
    if len(element) == 0:
        return element.text or None
    inner = element[0]
    if inner.tag == "array":
        return [_value(item, depth + 1) for item in inner.iterfind("data/value")]
    if inner.tag == "struct":
        members: dict[str, Any] = {}
        for member in inner.iterfind("member"):
            value = member.find("value")
            members[member.findtext("name", "")] = None if value is None else _value(value, depth + 1)
        return members
    return inner.text or None


def _from_seconds(seconds: float) -> datetime | None:
    if not 0 < seconds < 253_402_300_800:
        return None
    return datetime.fromtimestamp(seconds, tz=UTC)


def _zone(text: str | None) -> timedelta:
    if not text or text == "Z":
        return timedelta(0)
    digits = text[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return -offset if text[0] == "-" else offset
