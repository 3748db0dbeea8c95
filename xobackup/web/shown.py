"""Numbers as a page shows them. Pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime, tzinfo
from urllib.parse import quote

from xobackup.texts import duration_text, one_line, size_text

_GOOD = {"ok", "good", "done", "ready"}
_BAD = {"failed", "late", "never", "damage", "interrupted", "error", "lost"}
_WARN = {
    "some-failed",
    "locked",
    "cancelled",
    "warning",
    "paused",
    "no objective",
    "draining",
    "older",
    "newer",
    "another",
}


def size(size_bytes: float | None) -> str:
    """``1.5 GiB``; ``–`` when it is not known."""
    return "–" if size_bytes is None else size_text(size_bytes)


def length(seconds: float | None) -> str:
    """``3 min 20 s``; ``–`` when it is not known."""
    return "–" if seconds is None else duration_text(seconds)


def moment(at: float | None, zone: tzinfo | None = None) -> str:
    """``2026-11-27 03:00``, in the service's zone."""
    if at is None:
        return "–"
    return f"{datetime.fromtimestamp(at, tz=UTC).astimezone(zone):%Y-%m-%d %H:%M}"


def exact(at: float | None) -> str:
    """For machines: ISO 8601 in UTC."""
    return "" if at is None else datetime.fromtimestamp(at, tz=UTC).isoformat(timespec="seconds")


def tone(state: str) -> str:
    """How a word is coloured: ``good``, ``bad``, ``warn``, ``plain``. The word itself is always there too."""
    for words, name in ((_GOOD, "good"), (_BAD, "bad"), (_WARN, "warn")):
        if state in words:
            return name
    return "plain"


_DEEDS = {
    "pin": "Pin", "unpin": "Unpin", "verify": "Verification", "restore-plan": "Plan of a restore",
    "restore": "Restore", "retry": "Once more", "plan": "Plan of a job", "dr-plan": "Plan of a failover",
    "dr-test": "Test of a failover", "command": "Command",
}  # fmt: skip


def deed(kind: str) -> str:
    """What an operation is called on a page."""
    return _DEEDS.get(kind, kind)


def record(value: object) -> str:
    """A record of a command as it printed it, without its kind, which is shown before it."""
    shown = {key: one for key, one in value.items() if key != "kind"} if isinstance(value, dict) else value
    return json.dumps(shown, ensure_ascii=False)


def line(text: str, limit: int = 200) -> str:
    """A name on one line, cut to a length that no layout suffers from."""
    return one_line(text, limit)


def path(text: str) -> str:
    """A part of a URL's path."""
    return quote(text, safe="")
