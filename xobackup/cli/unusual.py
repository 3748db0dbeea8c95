"""What is unusual here: from the history, the schedules and their state. Asks no pool and no remote."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xobackup.config.model import Configuration
    from xobackup.history.standing import Overview
    from xobackup.history.store import Store
    from xobackup.notify.oddities import Oddities, ScheduleFacts
    from xobackup.service.store import State

AHEAD_DAYS = 366
GRACE = timedelta(hours=1)
"""A start may wait so long for its place."""
MISSED_MAX = 100
POOL_KNOWN_S = 14 * 86_400.0
"""What was seen in a pool longer ago says nothing of now."""
"""Counted at most."""


def unusual(configuration: Configuration, store: Store, found: Overview, now_s: float) -> Oddities:
    """All of it. Raises ``HistoryError``."""
    from xobackup.history import ask
    from xobackup.notify.oddities import Oddities

    oddities = Oddities()
    oddities.vms(found)
    oddities.jobs(found, delta_jobs(configuration))
    oddities.pools(
        row for row in ask.pools(store) if row["pool"] in configuration.pools and now_s - row["at"] < POOL_KNOWN_S
    )
    oddities.schedules(schedule_facts(configuration, store, now_s), now_s)
    return oddities


def delta_jobs(configuration: Configuration) -> set[str]:
    """Jobs that are meant to read only what changed, at least now and then."""
    found = set()
    for name, job in configuration.jobs.items():
        schedules = [section for section in configuration.schedules.values() if name in section.jobs]
        always_full = bool(schedules) and all(section.full for section in schedules)
        if job.mode == "delta" and job.full_interval != 1 and not always_full and (job.remotes or job.replicate_to):
            found.add(name)
    return found


def schedule_facts(configuration: Configuration, store: Store, now_s: float) -> Iterator[ScheduleFacts]:
    """How each schedule stands."""
    from xobackup.cli.schedule_state import look_at_schedules
    from xobackup.clock import utc
    from xobackup.config.errors import ConfigError
    from xobackup.history import ask
    from xobackup.notify.oddities import ScheduleFacts
    from xobackup.service.state import StateUnreadable
    from xobackup.workers.errors import WorkersError

    try:
        look = look_at_schedules(configuration)
    except (StateUnreadable, WorkersError, ConfigError):
        return  # which is told as a problem of the service
    state, paused, now = look.state, look.paused, utc(now_s)
    for name, section in configuration.schedules.items():
        newest = [run for job in section.jobs for run in ask.runs(store, job=job, limit=1)]
        last = max((run["began_at"] for run in newest), default=None)
        busy = name in state.running or any(run["outcome"] == "running" for run in newest)
        missed = [] if busy or section.after else _missed(configuration, name, state, last, now)
        yield ScheduleFacts(
            name=name,
            enabled=section.enabled,
            paused=paused.get(name),
            last_began=last,
            starts=_starts(configuration, name, now),
            ahead_days=AHEAD_DAYS,
            missed=len(missed),
            missed_since=missed[0].timestamp() if missed else None,
        )


def _starts(configuration: Configuration, name: str, now: datetime) -> bool:
    """Whether it, or what it follows, starts at all."""
    section = configuration.schedules[name]
    if section.after is not None:
        return configuration.schedules[section.after].enabled and _starts(configuration, section.after, now)
    following = next(section.schedule(name).calendar.after(now), None)
    return following is not None and following.nominal < now + timedelta(days=AHEAD_DAYS)


def _missed(
    configuration: Configuration, name: str, state: State, last_began: float | None, now: datetime
) -> list[datetime]:
    """Starts since the service last had a look at it, or a job of it began; none where neither is known."""
    from xobackup.clock import utc

    known = [state.settled[name]] if name in state.settled else []
    known += [utc(last_began)] if last_began is not None else []
    if not known:
        return []
    calendar = configuration.schedules[name].schedule(name).calendar
    over = takewhile(lambda fire: fire.at < now - GRACE, calendar.after(max(known)))
    return [fire.at for fire in islice(over, MISSED_MAX)]
