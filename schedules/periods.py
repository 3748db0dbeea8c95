"""The names of periods of the calendar: which hour, day, week, month or year an instant belongs to.

Weeks are those of the English locale of the library Xen Orchestra uses, since its repositories are shared: they begin
on Sunday, and week 1 is the one that has the 1st of January. A period may begin later than usual: its *offset* is
taken off the time before it is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

PERIODS = ("hourly", "daily", "weekly", "monthly", "yearly")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offsets:
    """When periods begin: hours after midnight; days after Sunday, after the 1st, after the 1st of January."""

    hour_of_day: int = 0
    day_of_week: int = 0
    day_of_month: int = 0
    day_of_year: int = 0

    def __post_init__(self) -> None:
        for name, most in (("hour_of_day", 23), ("day_of_week", 6), ("day_of_month", 30), ("day_of_year", 364)):
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise ValueError(f"{name} must be from 0 to {most}, got {value}")


def label_of(timestamp_ms: int, period: str, *, timezone: str, offsets: Offsets) -> str:
    """The name of the period an instant (Unix time in ms) belongs to: ``2026-11-27T15+0100``, ``2026-11-27``,
    ``2026-48``, ``2026-11``, ``2026``. Raises ``ValueError`` for a time zone that there is not.
    """
    at = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    zone = zone_of(timezone)
    if period == "hourly":  # the hour that comes twice in autumn is two hours
        return at.astimezone(zone).strftime("%Y-%m-%dT%H%z")
    if period == "daily":  # hours are taken off the instant, days off the calendar
        return f"{(at - timedelta(hours=offsets.hour_of_day)).astimezone(zone).date():%Y-%m-%d}"
    day = at.astimezone(zone).date()
    if period == "weekly":
        year, week = week_of(day - timedelta(days=offsets.day_of_week))
        return f"{year:04}-{week:02}"
    if period == "monthly":
        return f"{day - timedelta(days=offsets.day_of_month):%Y-%m}"
    if period == "yearly":
        return f"{day - timedelta(days=offsets.day_of_year):%Y}"
    raise ValueError(f"no such period: {period!r}; there are {', '.join(PERIODS)}")


def week_of(day: date) -> tuple[int, int]:
    """Year and number of the week of ``day``, as the module's head says."""
    saturday = day + timedelta(days=6 - day.isoweekday() % 7)
    return saturday.year, (saturday.timetuple().tm_yday - 1) // 7 + 1


@lru_cache(maxsize=64)
def zone_of(name: str) -> ZoneInfo:
    """The time zone called ``name``. Raises ``ValueError`` when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"no such time zone: {name!r}; expected a name like Europe/Paris or UTC") from error
