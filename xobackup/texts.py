"""Sizes, times and counts as people read them: the same words on a terminal, on a page, and in a mail. Pure."""

from __future__ import annotations

import re

_UUID = re.compile(r"\b([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")


def count_text(count: int, noun: str) -> str:
    """``1 disk``, ``2 disks``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def short_uuids(text: str) -> str:
    """``text`` with every uuid cut to the eight digits a person compares."""
    return _UUID.sub(r"\1", text)


def size_text(size_bytes: float) -> str:
    """``1.5 GiB``: three significant digits at most."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(value) < 1024 or unit == "PiB":
            break
        value /= 1024
    if unit == "B":
        return f"{int(value)} B"
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"


def duration_text(seconds: float) -> str:
    """``4.2 s``, ``42 s``, ``3 min 20 s``, ``2 h 05 min``, ``4 d 2 h``: what something took."""
    whole = round(seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return _long(whole)


def age_text(seconds: float) -> str:
    """``42 s``, ``12 min``, ``3 h 05 min``, ``4 d 2 h``: as precise as one asks of an age."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    return _long(whole)


def _long(whole_s: int) -> str:
    if whole_s < 2 * 86_400:
        minutes = whole_s % 3600 // 60
        return f"{whole_s // 3600} h {minutes:02d} min" if minutes else f"{whole_s // 3600} h"
    return f"{whole_s // 86_400} d {whole_s % 86_400 // 3600} h"


def one_line(text: str, limit: int) -> str:
    """Without line breaks and control characters, cut: fit for a cell, a title, the head of a mail."""
    flat = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"
