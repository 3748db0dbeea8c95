"""The calendar of one schedule: what its timing makes due, less what is excluded, in its window, spread by jitter.

Everything is decided from the schedule and the instant alone, so that a process that was started again, and a page
that shows next week, come to the same answer. Pure.

- What falls on an excluded day, by the clock on the wall of the schedule's zone, is not due at all.
- What falls outside the window waits for its beginning.
- Jitter puts it off by up to so much: always by the same amount for one schedule and one moment.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile

from schedules.periods import zone_of
from schedules.timing import AHEAD_MAX, BadTiming, Cron, Every, Timing
from schedules.windows import DAYS, Span, parse_days, span_text

_DATE = re.compile(r"(?:(\d{4})-)?(\d{2})-(\d{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """Days that are left out. ``weekdays`` from 0 (Monday); ``yearly``: month, day; ``spans``: first and last."""

    weekdays: frozenset[int] = frozenset()
    yearly: frozenset[tuple[int, int]] = frozenset()
    spans: tuple[tuple[date, date], ...] = ()

    def has(self, day: date) -> bool:
        return (
            day.weekday() in self.weekdays
            or (day.month, day.day) in self.yearly
            or any(first <= day <= last for first, last in self.spans)
        )


NO_DAYS = Days()


def parse_excluded(texts: tuple[str, ...]) -> Days:
    """``sun``, ``mon-fri``, ``2026-12-25``, ``12-25`` (every year), ``2026-12-24..2027-01-02``.

    Raises ``BadTiming``.
    """
    weekdays: set[int] = set()
    yearly: set[tuple[int, int]] = set()
    spans: list[tuple[date, date]] = []
    for text in texts:
        first, dots, last = text.strip().lower().partition("..")
        if not dots and first[:3] in DAYS:
            weekdays |= parse_days(first)
            continue
        begin = _date(text, first)
        if dots:
            end = _date(text, last)
            if not isinstance(begin, date) or not isinstance(end, date) or end < begin:
                raise BadTiming(f"exclude {text!r}: expected two days with their years, the earlier first")
            spans.append((begin, end))
        elif isinstance(begin, date):
            spans.append((begin, begin))
        else:
            yearly.add(begin)
    if len(weekdays) == 7:
        raise BadTiming("exclude: no day of the week is left")
    return Days(weekdays=frozenset(weekdays), yearly=frozenset(yearly), spans=tuple(spans))


def _date(text: str, part: str) -> date | tuple[int, int]:
    matched = _DATE.fullmatch(part.strip())
    try:
        if matched is None:
            raise ValueError
        year, month, day = matched[1], int(matched[2]), int(matched[3])
        found = date(int(year or 2024), month, day)  # 2024: has the 29th of February
    except ValueError:
        raise BadTiming(
            f"exclude {text!r}: expected a day like sun, 2026-12-25 or 12-25, or 2026-12-24..2027-01-02"
        ) from None
    return found if year else (month, day)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire:
    """One time something is due. ``nominal``: by the timing, which is what is remembered; ``at``: when it starts."""

    nominal: datetime
    at: datetime
    why: str = ""
    """Why these differ, as a person would say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """See the module's head."""

    name: str
    timing: Timing
    excluded: Days = NO_DAYS
    window: Span | None = None
    jitter_s: int = 0

    def __post_init__(self) -> None:
        if self.jitter_s < 0:
            raise BadTiming(f"jitter must be at least 0, got {self.jitter_s} s")
        every_year = self.excluded.weekdays or self.excluded.yearly
        if every_year and next(self.after(datetime(2026, 1, 1, tzinfo=UTC)), None) is None:
            raise BadTiming(f"exclude: nothing is left of {self.timing}")

    @property
    def timezone(self) -> str:
        return self.timing.timezone

    def after(self, nominal: datetime) -> Iterator[Fire]:
        """What is due strictly after a nominal instant, in order of those."""
        last = nominal
        for due in self.timing.after(nominal):
            if not self.excluded.has(due.date()):
                last = due
                yield self._fire(due)
            elif due - last > AHEAD_MAX:
                return

    def between(self, begin: datetime, end: datetime) -> list[Fire]:
        """What starts from ``begin`` (included) to ``end``, in order of starting."""
        slack = timedelta(seconds=self.jitter_s) + (timedelta(days=8) if self.window else timedelta(0))
        wide = takewhile(lambda fire: fire.nominal < end, self.after(begin - slack - timedelta(seconds=1)))
        inside = [fire for fire in wide if begin <= fire.at < end]
        return sorted(inside, key=lambda fire: (fire.at.timestamp(), fire.nominal.timestamp()))

    def remarks(self, begin: datetime, end: datetime) -> list[str]:
        """What changes of summer time do between two instants."""
        return self.timing.remarks(begin, end)

    def closes(self, moment: datetime) -> datetime | None:
        """When the window that ``moment`` lies in ends; ``None`` without one, or outside of it."""
        if self.window is None:
            return None
        wall = moment.astimezone(zone_of(self.timezone))
        return self.window.changes(wall) if self.window.holds(wall) else None

    def _fire(self, due: datetime) -> Fire:
        at, why = due, ""
        if self.window is not None and not self.window.holds(due):
            at = self.window.changes(due)
            why = f"due at {due:%H:%M}, outside of the window {span_text(self.window)}"
        if self.jitter_s:
            late = timedelta(seconds=self._jitter(due))
            if self.window is None or self.window.holds(at + late):
                at = (at.astimezone(UTC) + late).astimezone(zone_of(self.timezone))
        return Fire(nominal=due, at=at, why=why)

    def _jitter(self, due: datetime) -> int:
        digest = hashlib.sha256(f"{self.name}\0{int(due.timestamp())}".encode()).digest()
        return int.from_bytes(digest[:8]) % (self.jitter_s + 1)

    def __str__(self) -> str:
        return str(self.timing)


def timing_of(*, cron: str | None, every: str | None, timezone: str) -> Timing:
    """One of both, from a configuration. Raises ``BadTiming``."""
    if (cron is None) == (every is None):
        raise BadTiming("expected either cron or every")
    if cron is not None:
        return Cron(expression=cron, timezone=timezone)
    assert every is not None
    return Every(interval=every, timezone=timezone)
