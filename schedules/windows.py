"""Hours of the week, by the clock on the wall: pure.

A span whose end is not after its beginning goes on into the next day; its ``days`` are those on which it begins. So a
span keeps its hours over a change of summer time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MIN = 24 * 60
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")


class BadWindow(ValueError):
    """``text`` is no ``what``."""

    def __init__(self, what: str, text: str, expected: str) -> None:
        super().__init__(f"{what}: expected {expected}, found {text!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Minutes of the day from ``begin_min`` (included) to ``end_min``; ``days`` from 0 (Monday)."""

    begin_min: int
    end_min: int
    days: frozenset[int]

    def holds(self, moment: datetime) -> bool:
        """Whether ``moment``, by the clock on the wall, lies in it."""
        minute, today = moment.hour * 60 + moment.minute, moment.weekday()
        if self.begin_min < self.end_min:
            return today in self.days and self.begin_min <= minute < self.end_min
        if minute >= self.begin_min:
            return today in self.days
        return minute < self.end_min and (today - 1) % 7 in self.days

    def changes(self, moment: datetime) -> datetime:
        """When it is next entered or left after ``moment`` (aware): the first whole minute that differs. Within two
        weeks there is one, unless it holds always; then ``moment`` plus two weeks is returned."""
        now = self.holds(moment)
        minute = moment.replace(second=0, microsecond=0)
        for edge in self._edges(minute):
            if edge > moment and self.holds(edge) != now:
                return edge
        return moment + timedelta(days=14)

    def _edges(self, moment: datetime) -> list[datetime]:
        """Its beginnings and ends of two weeks, as instants in the moment's zone, in order."""
        found = []
        for ahead in range(-1, 15):
            day = (moment + timedelta(days=ahead)).replace(hour=0, minute=0)
            for edge in (self.begin_min % DAY_MIN, self.end_min % DAY_MIN, 0):
                found.append(day.replace(hour=edge // 60, minute=edge % 60))
        return sorted(found)


def parse_span(*, begin: str, end: str, days: str) -> Span:
    """``08:00``, ``18:00``, ``mon-fri``. Raises :class:`BadWindow`."""
    first, last = _minutes("from", begin), _minutes("to", end)
    if first in (last, DAY_MIN):
        raise BadWindow("from and to", f"{begin} and {end}", "two different times; the whole day is 00:00 to 24:00")
    return Span(begin_min=first, end_min=last, days=parse_days(days))


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


def span_text(span: Span) -> str:
    """``from 08:00 to 18:00 on mon, tue``."""
    begin, end = (f"{minute // 60:02}:{minute % 60:02}" for minute in (span.begin_min, span.end_min))
    days = "" if len(span.days) == 7 else f" on {days_text(span.days)}"
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
