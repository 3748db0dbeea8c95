"""Which rate is in force at what time: pure; the clock and the time zone are arguments.

A timetable has windows of the week (:mod:`schedules.windows`) and a rate for the rest. The first window that a moment
lies in counts. Moments are judged by the clock on the wall of the zone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from schedules.windows import BadWindow, Span, parse_span, span_text
from xobackup.clock import utc

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Window(Span):
    """A span of the week and the rate that holds in it."""

    rate_bytes_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What is in force at a moment; ``rate_bytes_s`` ``None``: no limit."""

    rate_bytes_s: float | None
    reason: str = ""
    """The window, as a person would say it; ``""`` outside of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """``rate_bytes_s``: outside of all windows. ``zone``: an IANA name, ``""`` for the machine's own."""

    rate_bytes_s: float | None = None
    windows: tuple[Window, ...] = ()
    zone: str = ""

    def at(self, now_s: float) -> Limit:
        """The limit at a Unix time."""
        if self.windows:
            moment = utc(now_s).astimezone(zone_of(self.zone))
            for window in self.windows:
                if window.holds(moment):
                    return Limit(rate_bytes_s=window.rate_bytes_s, reason=span_text(window))
        return Limit(rate_bytes_s=self.rate_bytes_s)

    @property
    def limited(self) -> bool:
        return self.rate_bytes_s is not None or bool(self.windows)


def zone_of(name: str) -> tzinfo | None:
    """``None`` means the machine's own zone to :meth:`datetime.astimezone`. Raises :class:`BadWindow`."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadWindow("timezone", name, "a name such as Europe/Paris that this machine knows") from error


def parse_window(*, begin: str, end: str, days: str, rate_bytes_s: float) -> Window:
    """``08:00``, ``18:00``, ``mon-fri``. Raises :class:`BadWindow`."""
    span = parse_span(begin=begin, end=end, days=days)
    return Window(begin_min=span.begin_min, end_min=span.end_min, days=span.days, rate_bytes_s=rate_bytes_s)


def rate_text(rate_bytes_s: float | None) -> str:
    """``50 MiB/s``."""
    return "no limit" if rate_bytes_s is None else f"{rate_bytes_s / MIB:g} MiB/s"


def limit_text(limit: Limit) -> str:
    """``50 MiB/s from 08:00 to 18:00``."""
    return f"{rate_text(limit.rate_bytes_s)} {limit.reason}".strip()
