"""Which rate is in force at what time: pure; the clock and the time zone are arguments.

A timetable has windows of the week and a rate for the rest. The first window that a moment lies in counts. A window
whose end is not after its beginning goes on into the next day; its ``days`` are those on which it begins. Moments are
judged by the clock on the wall of the zone, so a window keeps its hours over a change of summer time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from xobackup.clock import utc

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MIN = 24 * 60
MIB = 1 << 20
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")


class BadWindow(ValueError):
    """``text`` is no ``what``."""

    def __init__(self, what: str, text: str, expected: str) -> None:
        super().__init__(f"{what}: expected {expected}, found {text!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Minutes of the day from ``begin_min`` (included) to ``end_min``; ``days`` from 0 (Monday)."""

    begin_min: int
    end_min: int
    days: frozenset[int]
    rate_bytes_s: float

    def holds(self, moment: datetime) -> bool:
        """Whether ``moment``, by the clock on the wall, lies in it."""
        minute, today = moment.hour * 60 + moment.minute, moment.weekday()
        if self.begin_min < self.end_min:
            return today in self.days and self.begin_min <= minute < self.end_min
        if minute >= self.begin_min:
            return today in self.days
        return minute < self.end_min and (today - 1) % 7 in self.days


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
                    return Limit(rate_bytes_s=window.rate_bytes_s, reason=window_text(window))
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
    first, last = _minutes("from", begin), _minutes("to", end)
    if first in (last, DAY_MIN):
        raise BadWindow("from and to", f"{begin} and {end}", "two different times; the whole day is 00:00 to 24:00")
    return Window(begin_min=first, end_min=last, days=parse_days(days), rate_bytes_s=rate_bytes_s)


def parse_days(text: str) -> frozenset[int]:
    """``mon-fri``, ``sat,sun``, ``fri-mon``; ``""``: every day."""
    if not text.strip():
        return frozenset(range(7))
    found: set[int] = set()
    for part in text.lower().split(","):
        first, dash, last = (one.strip() for one in part.partition("-"))
        if first not in DAYS or (dash and last not in DAYS):
            raise BadWindow("days", text, "days such as mon-fri or sat,sun")
        begin = DAYS.index(first)
        length = (DAYS.index(last) - begin) % 7 if dash else 0
        found |= {(begin + step) % 7 for step in range(length + 1)}
    return frozenset(found)


def _minutes(what: str, text: str) -> int:
    matched = _TIME.fullmatch(text.strip())
    if not matched:
        raise BadWindow(what, text, "a time such as 08:00")
    return DAY_MIN if matched[1] is None else int(matched[1]) * 60 + int(matched[2])


def window_text(window: Window) -> str:
    """``from 08:00 to 18:00 on mon, tue``."""
    begin, end = (f"{minute // 60:02}:{minute % 60:02}" for minute in (window.begin_min, window.end_min))
    days = "" if len(window.days) == 7 else f" on {days_text(window.days)}"
    return f"from {begin} to {end}{days}"


def days_text(days: Iterable[int]) -> str:
    """Days in the order of the week, runs of three and more as ``mon-fri``."""
    ordered, parts = sorted(days), []
    while ordered:
        run = [ordered.pop(0)]
        while ordered and ordered[0] == run[-1] + 1:
            run.append(ordered.pop(0))
        names = [DAYS[day] for day in run]
        parts += [f"{names[0]}-{names[-1]}"] if len(names) > 2 else names
    return ", ".join(parts)


def rate_text(rate_bytes_s: float | None) -> str:
    """``50 MiB/s``."""
    return "no limit" if rate_bytes_s is None else f"{rate_bytes_s / MIB:g} MiB/s"


def limit_text(limit: Limit) -> str:
    """``50 MiB/s from 08:00 to 18:00``."""
    return f"{rate_text(limit.rate_bytes_s)} {limit.reason}".strip()
