"""When something is due: a cron expression in a time zone, or an interval. Pure.

Summer time is settled as Debian's cron does it. A time that does not exist on a day (the night the clocks go forward)
is due at once after the gap; one that exists twice is due the first time only. What has ``*`` or a step for its hour
or minute is about real time: it goes on through the gap and through the hour that comes twice.

An interval is counted from the beginning of 1970 in UTC, so that it does not depend on when a process was started.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile

from cronsim import CronSim, CronSimError

from schedules.periods import zone_of

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_INTERVAL = re.compile(r"(\d{1,6}) ?(min|m|h|d)")
_SECONDS = {"m": 60, "min": 60, "h": 3600, "d": 86_400}
AHEAD_MAX = timedelta(days=4 * 366)
"""What is not due within that long never is: the 29th of February is."""


class BadTiming(ValueError):
    """No cron expression, or no interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """Five fields (``30 2 * * mon-fri``), or an alias like ``@daily``; days of the week from Sunday, 0 or 7."""

    expression: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        zone_of(self.timezone)
        if len(self._fields.split()) != 5:
            raise BadTiming(
                f"cron {self.expression!r}: expected five fields, minute hour day month weekday, or @daily"
            )
        try:
            self._iterator(datetime(2026, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise BadTiming(f"cron {self.expression!r}: {str(error).lower()}") from error
        if next(self.after(datetime(2026, 1, 1, tzinfo=UTC)), None) is None:
            raise BadTiming(f"cron {self.expression!r}: there is no such day")

    @property
    def _fields(self) -> str:
        return ALIASES.get(self.expression.strip(), self.expression)

    def _iterator(self, moment: datetime) -> CronSim:
        return CronSim(self._fields, moment.astimezone(zone_of(self.timezone)))

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Instants in the zone, strictly after ``moment``, in order; ends where nothing comes for years."""
        last = moment
        iterator = self._iterator(moment)
        while True:
            try:
                due = next(iterator)
            except (StopIteration, OverflowError):
                return
            if due.astimezone(UTC) <= moment.astimezone(UTC):
                continue  # asked in the second pass of an hour that comes twice, cronsim answers with the first
            if due - last > AHEAD_MAX:
                return
            last = due
            yield due

    def remarks(self, begin: datetime, end: datetime) -> list[str]:
        """What changes of summer time between two instants do to it, as sentences."""
        zone, told = zone_of(self.timezone), []
        for change, gained in _changes(begin, end, self.timezone):
            wall = change.astimezone(zone)
            if gained < timedelta(0):  # the clocks go back: an hour comes twice
                told += self._once(wall, -gained)
            else:
                told += self._moved(wall, gained)
        return told

    def _moved(self, wall: datetime, gained: timedelta) -> list[str]:
        """``wall`` is the first instant after the gap."""
        end = wall.replace(tzinfo=UTC)  # the wall's hours, in a zone where all of them exist
        in_order = Cron(expression=self.expression).after(end - gained - timedelta(seconds=1))
        lost = list(takewhile(lambda due: due <= end, in_order))
        if not lost or end in lost:  # what is due at that time of day anyway is not moved
            return []
        return [f"{wall:%Y-%m-%d}: {lost[0]:%H:%M} does not exist in {self.timezone}; it is due at {wall:%H:%M}"]

    def _once(self, wall: datetime, again: timedelta) -> list[str]:
        """``wall`` is the first instant of the second time."""
        begin = wall.astimezone(UTC) - again - timedelta(seconds=1)
        end = begin + 2 * again
        due = list(takewhile(lambda one: one.astimezone(UTC) <= end, self.after(begin)))
        first = [one for one in due if not one.fold]
        if not first or len(first) != len(due):
            return []
        return [
            f"{wall:%Y-%m-%d}: {one:%H:%M} comes twice in {self.timezone}; it is due the first time" for one in first
        ]

    def __str__(self) -> str:
        return f"cron {self.expression} ({self.timezone})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """An interval, such as ``10m``, ``6h``, ``1d``."""

    interval: str
    timezone: str = "UTC"
    """Only for how moments are shown."""

    def __post_init__(self) -> None:
        zone_of(self.timezone)
        matched = _INTERVAL.fullmatch(self.interval.strip())
        if matched is None or not int(matched[1]):
            raise BadTiming(f"every {self.interval!r}: expected an interval such as 10m, 6h or 1d")

    @property
    def seconds(self) -> int:
        matched = _INTERVAL.fullmatch(self.interval.strip())
        assert matched is not None
        return int(matched[1]) * _SECONDS[matched[2]]

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Instants in the zone, strictly after ``moment``, in order, without end."""
        zone, number = zone_of(self.timezone), int(moment.timestamp() // self.seconds)
        while True:
            number += 1
            yield datetime.fromtimestamp(number * self.seconds, UTC).astimezone(zone)

    def remarks(self, begin: datetime, end: datetime) -> list[str]:
        """Nothing: an interval is real time."""
        del begin, end
        return []

    def __str__(self) -> str:
        return f"every {self.interval}"


Timing = Cron | Every


def _changes(begin: datetime, end: datetime, timezone: str) -> Iterator[tuple[datetime, timedelta]]:
    """Every change of the zone's offset: its first instant, and by how much the clocks go forward."""
    zone, day = zone_of(timezone), timedelta(days=1)

    def offset(moment: datetime) -> timedelta:
        return moment.astimezone(zone).utcoffset() or timedelta(0)

    moment = begin.astimezone(UTC)
    while moment < end:
        following = moment + day
        if offset(moment) != offset(following):
            low, high = moment, following
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) / 2
                low, high = (middle, high) if offset(middle) == offset(moment) else (low, middle)
            first = high.replace(microsecond=0)
            if begin <= first < end:
                yield first, offset(following) - offset(moment)
        moment = following
