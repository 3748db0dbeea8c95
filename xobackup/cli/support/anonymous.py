"""JSON data without names. What is not known to be harmless becomes a word that says nothing: the same one for the
same text in one bundle, another one in the next.

Harmless are numbers, times, uuids, ids of restore points, and short words under keys whose values this program makes
itself. Errors and remarks are not: a message may name anything.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

OWN_KEYS = frozenset(
    {"kind", "outcome", "mode", "via", "phase", "why", "error_class", "version", "verb", "level", "state"}
    | {"compression", "on", "bottleneck", "layout", "format", "look", "role", "at_end", "missed"}
    | {"placement", "began", "nominal", "at"}
)
"""Their values are words of this program's."""
TABLES = frozenset(
    {"pools", "remotes", "targets", "dr", "jobs", "metadata_jobs", "mirror_jobs", "schedules", "notify", "users"}
    | {"settled", "running", "paused", "notified", "networks", "headers"}
)
"""Their keys are names that somebody chose."""
_OWN = re.compile(r"[A-Za-z][A-Za-z0-9 +_.-]{0,39}", re.ASCII)
_KEY = re.compile(r"[A-Za-z_.][A-Za-z0-9_.-]{0,39}", re.ASCII)
_PLAIN = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{8}T\d{6}Z"
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?"
    r"|[-+0-9.]*|\(removed\)",
    re.ASCII,
)


class Anonymous:
    """``key``: random bytes, kept by nobody."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def word(self, text: str) -> str:
        """What stands for ``text``."""
        return "text-" + hmac.new(self._key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:10]

    def data(self, value: object, key: str = "") -> object:
        if isinstance(value, str):
            harmless = _PLAIN.fullmatch(value) or (key in OWN_KEYS and _OWN.fullmatch(value))
            return value if harmless else self.word(value)
        if isinstance(value, Mapping):
            names = key in TABLES
            return {
                str(name) if not names and _KEY.fullmatch(str(name)) else self.word(str(name)): self.data(
                    one, "" if names else str(name)
                )
                for name, one in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.data(one, key) for one in value]
        return value
