"""Reading single fields of a record, tolerant about what hosts of different ages send.

Absent members get a default (old hosts lack fields). Present ones are converted where several forms are in use:
integers as text (XML-RPC), booleans as 0 and 1, references that point to nothing. Anything else is a
:class:`BadRecord`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

from xobackup.xapi.errors import BadRecord, clean_text
from xobackup.xapi.values import is_null, parse_time

_TRUE = frozenset({"true", "1"})
_FALSE = frozenset({"false", "0", ""})


class Fields:
    """One record with its class and reference, for messages."""

    __slots__ = ("cls", "raw", "ref")

    def __init__(self, cls: str, ref: str, raw: Mapping[str, Any]) -> None:
        self.cls = cls
        self.ref = ref
        self.raw = raw

    def text(self, name: str, default: str = "") -> str:
        value = self.raw.get(name, default)
        if not isinstance(value, str):
            self._wrong(name, "text", value)
        return value

    def integer(self, name: str, default: int = 0) -> int:
        value = self.raw.get(name, default)
        if isinstance(value, bool):
            self._wrong(name, "an integer", value)
        try:
            return int(value)
        except (TypeError, ValueError, OverflowError):
            self._wrong(name, "an integer", value)

    def truth(self, name: str, *, default: bool = False) -> bool:
        value = self.raw.get(name, default)
        if isinstance(value, bool):
            return value
        shown = str(value).strip().lower()
        if not isinstance(value, int | str) or shown not in _TRUE | _FALSE:
            self._wrong(name, "true or false", value)
        return shown in _TRUE

    def moment(self, name: str) -> datetime | None:
        """A time; ``None`` for never."""
        return parse_time(self.raw.get(name))

    def link(self, name: str) -> str | None:
        """A reference; ``None`` if it points to nothing."""
        value = self.raw.get(name)
        return None if is_null(value) else str(value)

    def must_link(self, name: str) -> str:
        """A reference that must point to something."""
        return self.link(name) or self._wrong(name, "a reference", self.raw.get(name))

    def links(self, name: str) -> tuple[str, ...]:
        return tuple(ref for ref in self.names(name) if not is_null(ref))

    def names(self, name: str) -> tuple[str, ...]:
        """A set of texts."""
        value = self.raw.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._wrong(name, "a list of texts", value)
        return tuple(value)

    def mapping(self, name: str) -> Mapping[str, str]:
        """A map of texts; values of other kinds become text."""
        value = self.raw.get(name, {})
        if not isinstance(value, dict):
            self._wrong(name, "a map", value)
        return {str(key): item if isinstance(item, str) else str(item) for key, item in value.items()}

    def _wrong(self, name: str, expected: str, found: object) -> NoReturn:
        raise BadRecord(self.cls, self.ref, f"{name}: expected {expected}, found {clean_text(repr(found))[:80]}")
