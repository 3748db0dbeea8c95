"""Every call the pool was asked, in order: what tests use to prove "at most once" and "in this order"."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

ENTRIES_MAX = 200_000
"""Older entries fall out, so that a pool may run for days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One RPC or HTTP transfer. ``outcome``: ``ok`` or the failure's code (HTTP: the status)."""

    method: str
    args: tuple[Any, ...]
    digest: str
    at_s: float
    duration_s: float
    outcome: str


class Journal:
    """A bounded list of entries, written by the server's threads."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=ENTRIES_MAX)
        self._lock = threading.Lock()

    def note(self, method: str, args: list[Any], *, at_s: float, duration_s: float, outcome: str) -> None:
        text = json.dumps(args, sort_keys=True, default=str)
        digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        hidden = ["…" if method.startswith("session.") else arg for arg in args]
        entry = Entry(
            method=method,
            args=tuple(hidden),
            digest=digest,
            at_s=at_s,
            duration_s=duration_s,
            outcome=outcome,
        )
        with self._lock:
            self._entries.append(entry)

    def entries(self, pattern: str = "*") -> list[Entry]:
        """Entries whose method matches (shell-style), oldest first. HTTP ones look like ``GET /export_raw_vdi``.

        What was sent: the last argument of an export (answer and body) and of ``NBD`` (disk, requests, their bytes,
        all bytes of the protocol).
        """
        with self._lock:
            return [entry for entry in self._entries if fnmatchcase(entry.method, pattern)]

    def count(self, pattern: str) -> int:
        return len(self.entries(pattern))

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
