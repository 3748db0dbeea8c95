"""How old the newest backup of a job's VMs may be: as the job says, or as its schedules make it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from itertools import islice, pairwise, takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from xobackup.config.jobs import JobSection, MetadataSection
    from xobackup.config.mirrors import MirrorSection
    from xobackup.config.model import Configuration
    from xobackup.history.standing import Objective

AHEAD = timedelta(days=400)
STARTS_MAX = 400
"""Of each schedule that is looked at: enough for the longest gap of a year by days, or of a day by minutes."""
GRACE_MIN_S, GRACE_MAX_S = 600.0, 12 * 3600.0


def objectives(configuration: Configuration, now: datetime) -> dict[str, Objective]:
    """Of every job that makes backups."""
    return {name: _objective(configuration, name, now) for name in configuration.all_job_names}


def _objective(configuration: Configuration, name: str, now: datetime) -> Objective:
    from xobackup.history.standing import Objective

    sections: Mapping[str, JobSection | MetadataSection | MirrorSection] = {
        **configuration.jobs,
        **configuration.metadata_jobs,
        **configuration.mirror_jobs,
    }
    rpo_s = sections[name].rpo_s
    if rpo_s is not None:
        return Objective(rpo_s=rpo_s, why=f"jobs.{name}.rpo")
    schedules = _schedules_of(configuration, name)
    starts = sorted({start for schedule in schedules for start in _starts(configuration, schedule, now)})
    if len(starts) < 2:
        return Objective(rpo_s=None, why=f"no schedule runs it again and again; set jobs.{name}.rpo")
    gap_s = max((after - before).total_seconds() for before, after in pairwise(starts))
    return Objective(rpo_s=gap_s + grace_s(gap_s), why="its schedule's longest pause, and half of it more")


def grace_s(gap_s: float) -> float:
    """What a run may take until it is done: half of the pause, ten minutes at least, twelve hours at most."""
    return min(max(gap_s / 2, GRACE_MIN_S), GRACE_MAX_S)


def _schedules_of(configuration: Configuration, job: str) -> set[str]:
    """Those with times of their own that lead to a run of the job, by themselves or through their followers."""
    leading = {
        _leader(configuration, name) for name, section in configuration.schedules.items() if job in section.jobs
    }
    return {name for name in leading if name is not None}


def _leader(configuration: Configuration, name: str) -> str | None:
    """The schedule with times of its own that this one follows, itself maybe; none when one of them is disabled."""
    section = configuration.schedules[name]
    if not section.enabled:
        return None
    return name if section.after is None else _leader(configuration, section.after)


def _starts(configuration: Configuration, schedule: str, now: datetime) -> list[datetime]:
    calendar = configuration.schedules[schedule].schedule(schedule).calendar
    fires = takewhile(lambda fire: fire.nominal < now + AHEAD, islice(calendar.after(now), STARTS_MAX))
    return [fire.at for fire in fires]
