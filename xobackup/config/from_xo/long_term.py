"""``longTermRetention``, which becomes the table ``keep`` of a job: all of it, or nothing."""

from __future__ import annotations

from typing import Any

from schedules.periods import zone_of
from xobackup.config.from_xo.remarks import plain

_PERIODS = {
    "daily": ("firstHourOfTheDay", "first_hour_of_day", 23),
    "weekly": ("firstDayOfWeek", "first_day_of_week", 6),
    "monthly": ("firstDayOfMonth", "first_day_of_month", 30),
    "yearly": ("firstDayOfYear", "first_day_of_year", 364),
}


class BadRetention(ValueError):
    """What is wrong with it, as a sentence without its subject."""


def keep_of(value: Any, timezone: Any) -> dict[str, Any]:
    """Our keys. ``value`` is ``{"daily": {"retention": 7, "settings": {...}}, ...}``; raises ``BadRetention``."""
    if not isinstance(value, dict):
        raise BadRetention(f"expected a table of daily, weekly, monthly and yearly, found {plain(value, most=60)}")
    keep: dict[str, Any] = {}
    for period, rule in value.items():
        if period not in _PERIODS:
            raise BadRetention(f"{plain(period, most=40)} is not known here")
        settings = rule.get("settings") if isinstance(rule, dict) else None
        if not isinstance(rule, dict) or not isinstance(settings, dict | None):
            raise BadRetention(f"{period}: expected retention and settings, found {plain(rule, most=60)}")
        theirs, ours, most = _PERIODS[period]
        keep[period] = _whole(f"{period}.retention", rule.get("retention"), 1, 100_000)
        if offset := _whole(f"{period}.{theirs}", (settings or {}).get(theirs, 0), 0, most):
            keep[ours] = offset
    try:
        zone_of(timezone if isinstance(timezone, str) else "")
    except ValueError:
        raise BadRetention(
            f"its days are counted in a time zone, and timezone is {plain(timezone, most=40)}"
        ) from None
    return {**keep, "timezone": timezone}


def _whole(name: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadRetention(f"{name}: expected a whole number from {least} to {most}, found {plain(value, most=40)}")
    return value
