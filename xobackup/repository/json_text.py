"""JSON as Xen Orchestra reads and writes it: compact, in order, numbers as JavaScript prints them; bounded input."""

from __future__ import annotations

import json
from typing import Any

from xobackup.repository.errors import BadMetadata

METADATA_BYTES_MAX = 32 * 1024 * 1024
"""Far above any VM's records (about 100 KiB, virtual TPMs included); more is not a restore point."""
EXACT_IN_DOUBLE = 2**53


def parse_object(raw: bytes, name: str) -> dict[str, Any]:
    """The object in ``raw``; anything else raises :class:`BadMetadata`."""
    if len(raw) > METADATA_BYTES_MAX:
        raise BadMetadata(name, f"expected at most {METADATA_BYTES_MAX} bytes, found {len(raw)}")
    value = parse_value(raw, name)
    if not isinstance(value, dict):
        raise BadMetadata(name, f"expected a JSON object, found {type(value).__name__}")
    return value


def parse_value(raw: bytes, name: str) -> Any:
    """Whatever JSON value is in ``raw``; nesting and number lengths are bounded by the interpreter's own limits."""
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except (UnicodeDecodeError, ValueError) as error:
        raise BadMetadata(name, f"not JSON: {error}") from None
    except RecursionError:
        raise BadMetadata(name, "not JSON of ours: nested too deeply") from None


def dump(value: object, name: str = "value") -> bytes:
    """Compact UTF-8, as ``JSON.stringify`` writes it."""
    try:
        text = json.dumps(_as_javascript(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
        raise BadMetadata(name, f"cannot be written as JSON: {error}") from None


def _as_javascript(value: object) -> object:
    """Floats without a fraction become integers: JavaScript knows one kind of number and prints 1.0 as 1."""
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT_IN_DOUBLE:
        return int(value)
    if isinstance(value, dict):
        return {key: _as_javascript(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_javascript(item) for item in value]
    return value


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")
