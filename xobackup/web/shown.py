"""Numbers as a page shows them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from urllib.parse import quote

_GOOD = {"ok", "good"}
_BAD = {"failed", "late", "never", "damage", "interrupted", "error"}
_WARN = {"some-failed", "locked", "cancelled", "warning", "paused", "no objective"}


def size(size_bytes: float | None) -> str:
    """``1.5 GiB``; ``–`` when it is not known."""
    if size_bytes is None:
        return "–"
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(value) < 1024 or unit == "PiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.1f} {unit}"


def length(seconds: float | None) -> str:
    """``42 s``, ``3 min 20 s``, ``2 h 05 min``, ``4 d 2 h``."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 2 * 86_400:
        minutes = whole % 3600 // 60
        return f"{whole // 3600} h {minutes:02d} min" if minutes else f"{whole // 3600} h"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


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


def line(text: str, limit: int = 200) -> str:
    """A name on one line: control characters as spaces, cut to a length that no layout suffers from."""
    flat = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"


def path(text: str) -> str:
    """A part of a URL's path."""
    return quote(text, safe="")
