"""From ``[schedules.NAME]`` to what the service follows, and to the jobs that one of them runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xobackup.config.model import Configuration
    from xobackup.engine import job as engine
    from xobackup.engine.mirror.job import MirrorJob
    from xobackup.service.service import Plan


def plan_of(configuration: Configuration) -> Plan:
    """All schedules of the configuration."""
    from xobackup.cli.engine_store import schedule_fingerprints
    from xobackup.service.service import Follower, Plan

    timed = {name: section for name, section in configuration.schedules.items() if section.after is None}
    followers = {
        name: Follower(
            after=section.after,
            only_ok=section.after_outcome == "ok",
            enabled=section.enabled,
            priority=section.priority,
        )
        for name, section in configuration.schedules.items()
        if section.after is not None
    }
    stopping = {name for name, section in timed.items() if section.window and section.window.at_end == "stop"}
    return Plan(
        fingerprints=schedule_fingerprints(configuration),
        schedules={name: section.schedule(name) for name, section in timed.items()},
        followers=followers,
        stop_at_end=frozenset(stopping),
        runs_max=configuration.service.runs_max,
        finish_wait_s=configuration.service.finish_wait_s,
        stop_wait_s=configuration.service.stop_wait_s,
    )


def jobs_of_schedule(configuration: Configuration, name: str) -> list[engine.Job | MirrorJob]:
    """The jobs of a schedule, in its order, with its own settings."""
    from schedules.retention import LongTerm, Rule
    from xobackup.cli.jobs import job_of
    from xobackup.cli.mirror_jobs import mirror_job
    from xobackup.engine.job import schedule_id_of

    section = configuration.schedules[name]
    jobs: list[engine.Job | MirrorJob] = []
    for job_name in section.jobs:
        if job_name in configuration.mirror_jobs:
            mirror = mirror_job(configuration, job_name)
            if section.retention is not None:
                kept = section.keep.long_term() if section.keep is not None else LongTerm()
                mirror = replace(mirror, rule=Rule(newest=section.retention, long_term=kept))
            jobs.append(mirror)
            continue
        job = job_of(configuration, job_name)
        settings = job.settings
        if section.full:
            settings = replace(settings, full_interval=1)
        if section.retention is not None:
            settings = replace(settings, retention=section.retention)
        if section.keep is not None:
            settings = replace(settings, long_term=section.keep.long_term())
        own = section.retention is not None or section.keep is not None
        schedule_id = str(
            section.schedule_id or (schedule_id_of(f"{name} of {job_name}") if own else job.schedule_id)
        )
        jobs.append(replace(job, settings=settings, schedule_id=schedule_id))
    return jobs


def jobs_again(
    configuration: Configuration, job: str, schedule: str, vms: list[str]
) -> tuple[list[engine.Job | MirrorJob], str]:
    """A job of these VMs only, as the schedule runs it, and that schedule.

    As when it is started by hand, and ``""``, when no schedule is named or it does not run the job (any more).
    """
    from xobackup.cli.jobs import jobs_for, of_vms
    from xobackup.cli.mirror_jobs import mirror_jobs_for
    from xobackup.engine.mirror.job import MirrorJob

    section = configuration.schedules.get(schedule)
    if section is None or job not in section.jobs:
        return [
            *jobs_for(configuration, [job], vms=vms, full=False), *mirror_jobs_for(configuration, [job], vms)
        ], ""  # fmt: skip
    found = [one for one in jobs_of_schedule(configuration, schedule) if one.name == job]
    mirrors = [replace(one, vms=tuple(vms)) for one in found if isinstance(one, MirrorJob)]
    backups = of_vms([one for one in found if not isinstance(one, MirrorJob)], vms)
    return [*backups, *mirrors], schedule


def differences(old: Configuration, new: Configuration) -> list[str]:
    """What another configuration changes, as lines, by table."""
    lines: list[str] = []
    for kind in ("pools", "remotes", "targets", "jobs", "metadata_jobs", "mirror_jobs", "schedules", "notify"):
        before, after = getattr(old, kind), getattr(new, kind)
        shown = "jobs" if kind.endswith("_jobs") else kind
        lines += [f"+ {shown}.{name}" for name in after if name not in before]
        lines += [f"- {shown}.{name}" for name in before if name not in after]
        for name in after:
            if name in before and after[name] != before[name]:
                keys = [key for key in type(after[name]).model_fields if _differs(before[name], after[name], key)]
                lines.append(f"~ {shown}.{name}: {', '.join(keys) or 'another kind'}")
    for key in ("limits", "service", "log", "history", "own", "web", "engine", "state_directory"):
        if getattr(old, key) != getattr(new, key):
            lines.append(f"~ {'self' if key == 'own' else key}")
    return lines


def _differs(before: object, after: object, key: str) -> bool:
    return getattr(before, key, None) != getattr(after, key, None)
