"""What is to be started now: pure. The service asks every few seconds, and after having been away.

The state is one instant per schedule: the nominal time up to which everything is *settled*, that is started, or
skipped for a reason that was told. It only moves forward, so nothing is started twice for one time, whatever happens
to the clock.

- Several times due at once are one run (*coalesced*), that of the newest.
- Times that passed while nobody watched are *missed*: run once at the next start, unless the schedule says to skip
  them or they are older than it allows.
- A clock that goes back starts nothing again. One that jumps forward makes times missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from schedules.calendar import Calendar, Fire

ON_TIME = timedelta(minutes=2)
"""What is found due within that long was not missed."""
WINDOW_WAIT = timedelta(days=8)
"""What is due may wait that long for its window."""


class Missed(StrEnum):
    """What becomes of times that passed while nobody watched."""

    RUN = "run"
    SKIP = "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A calendar and how it is followed."""

    calendar: Calendar
    enabled: bool = True
    missed: Missed = Missed.RUN
    missed_max_s: int = 86_400
    """Older ones are skipped in any case."""
    priority: int = 0
    """Of two that are due, the higher one first."""

    @property
    def name(self) -> str:
        return self.calendar.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What one schedule has to do now: start, or (not ``start``) only be told of, for so many ``times``."""

    schedule: str
    start: bool
    fire: Fire
    times: int
    reason: str = ""
    """Why late, why one for several, or why it is skipped."""

    @property
    def settled(self) -> datetime:
        """The new state of the schedule."""
        return self.fire.nominal


def due(
    schedules: Iterable[Schedule],
    settled: Mapping[str, datetime],
    now: datetime,
    paused: Mapping[str, str] | None = None,
) -> list[Due]:
    """What is due at ``now``, the most urgent first. ``settled``: by name; a schedule that is not in it is new, and
    begins at ``now``: the caller remembers that. ``paused``: reasons, by name.
    """
    found: list[tuple[int, datetime, Due]] = []
    for schedule in schedules:
        since = settled.get(schedule.name)
        if since is None or not schedule.enabled:
            continue
        one = _due(schedule, since, now, (paused or {}).get(schedule.name, ""))
        if one is not None:
            found.append((-schedule.priority, one.fire.at, one))
    return [one for _, _, one in sorted(found, key=lambda item: (item[0], item[1], item[2].schedule))]


def _due(schedule: Schedule, since: datetime, now: datetime, paused: str) -> Due | None:
    """Everything that should have started by now, as one."""
    fires: list[Fire] = []
    horizon = _horizon(schedule, now)
    for fire in schedule.calendar.after(max(since, horizon)):
        if fire.at > now:  # waits for its window or by its jitter; what comes after it waits with it
            break
        fires.append(fire)
    if not fires:
        first = next(schedule.calendar.after(since), None) if since < horizon else None
        if first is None or first.nominal > horizon:
            return None
        told = f"missed: it was due at {_shown(first.at)}, longer ago than {timedelta(seconds=schedule.missed_max_s)}"
        return _told(schedule, False, replace(first, nominal=horizon), 1, told)
    last = fires[-1]
    late = now - last.at
    several = f"{len(fires)} times in one" if len(fires) > 1 else ""
    if paused:
        return _told(schedule, False, last, len(fires), f"paused: {paused}")
    if late > ON_TIME:
        away = f"missed: it was due at {_shown(last.at)}"
        if schedule.missed is Missed.SKIP:
            return _told(schedule, False, last, len(fires), f"{away}, and missed times are skipped")
        if late > timedelta(seconds=schedule.missed_max_s):
            most = timedelta(seconds=schedule.missed_max_s)
            return _told(schedule, False, last, len(fires), f"{away}, longer ago than {most}")
        return _told(schedule, True, last, len(fires), ", ".join(filter(None, [away, several])))
    return _told(schedule, True, last, len(fires), ", ".join(filter(None, [last.why, several])))


def _told(schedule: Schedule, start: bool, fire: Fire, times: int, reason: str) -> Due:
    return Due(schedule=schedule.name, start=start, fire=fire, times=times, reason=reason)


def next_start(schedule: Schedule, settled: datetime | None, now: datetime) -> Fire | None:
    """When it starts next, as far as can be told."""
    if not schedule.enabled:
        return None
    since = now if settled is None else max(settled, _horizon(schedule, now))
    return next((fire for fire in schedule.calendar.after(since) if fire.at >= now), None)


def _horizon(schedule: Schedule, now: datetime) -> datetime:
    """What was due before is too old to be run."""
    patience = timedelta(seconds=schedule.missed_max_s + schedule.calendar.jitter_s) + ON_TIME
    return now - max(patience, timedelta(days=1)) - (WINDOW_WAIT if schedule.calendar.window else timedelta(0))


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M %Z}" if moment.tzinfo else f"{moment.replace(tzinfo=UTC):%Y-%m-%d %H:%M UTC}"
