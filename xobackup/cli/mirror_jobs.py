"""Mirrors as jobs: from the configuration to the engine, and what their plans look like."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xobackup.cli.output import Output
    from xobackup.config.model import Configuration
    from xobackup.engine.job import RemoteTarget
    from xobackup.engine.mirror.job import MirrorJob, MirrorPlan


def mirror_job(configuration: Configuration, name: str, *, with_secrets: bool = True) -> MirrorJob:
    """The engine's view of the job called ``name``."""
    from schedules.retention import LongTerm, Rule
    from xobackup.cli.jobs import is_near, remote_target
    from xobackup.engine.mirror.job import MirrorJob, refuse_bad

    section = configuration.mirror_jobs[name]

    def remote(one: str) -> RemoteTarget:
        return remote_target(configuration, one, with_secrets=with_secrets and is_near(configuration, one))

    kept = section.keep.long_term() if section.keep is not None else LongTerm()
    return refuse_bad(
        MirrorJob(
            name=name,
            id=str(section.id or ""),
            source=remote(section.source),
            targets=tuple(remote(one) for one in section.remotes),
            vms=section.vms,
            tags=section.tags,
            jobs=tuple(str(one) for one in section.job_ids),
            schedules=tuple(str(one) for one in section.schedule_ids),
            days=section.days,
            rule=None if section.retention is None else Rule(newest=section.retention, long_term=kept),
            verify=section.verify,
        )
    )


def mirror_jobs_for(
    configuration: Configuration, given: Sequence[str] | None, vms: Sequence[str] | None
) -> list[MirrorJob]:
    """The mirrors among the jobs ``given``, all when none is; for this once of ``vms`` only."""
    names = [name for name in dict.fromkeys(given or configuration.mirror_jobs) if name in configuration.mirror_jobs]
    jobs = [mirror_job(configuration, name) for name in names]
    return [replace(job, vms=tuple(vms)) for job in jobs] if vms else jobs


def plan_data(job: MirrorJob, plan: MirrorPlan) -> dict[str, Any]:
    """What would be copied of one VM, as JSON data."""
    return {
        "job": job.name,
        "remote": plan.target,
        "vm": plan.vm,
        "name": plan.name,
        "copy": [choice.point.id for choice in plan.choices if not choice.reason],
        "problem": plan.problem,
        "left_to": plan.left_to,
        "left_out": {choice.point.id: choice.reason for choice in plan.choices if choice.reason},
    }


def show_plan(output: Output, job: MirrorJob, plans: Sequence[MirrorPlan], workers: Sequence[str] = ()) -> None:
    """What would be copied, VM by VM; what is left out with its reason. ``workers``: who would do it."""
    from xobackup.texts import count_text

    total = 0
    for plan in plans:
        wanted = [choice.point.id for choice in plan.choices if not choice.reason]
        total += len(wanted)
        output.record("mirror-plan", plan_data(job, plan))
        if plan.left_to:
            output.say(f"{job.source.name} to {plan.target}: {plan.left_to}")
            continue
        if plan.problem:
            output.say(f"{plan.name or plan.vm or job.source.name} to {plan.target}: {plan.problem}", style="red")
            continue
        reasons: dict[str, int] = {}
        for choice in plan.choices:
            if choice.reason:
                reasons[choice.reason] = reasons.get(choice.reason, 0) + 1
        told = [f"{', '.join(wanted)} to copy"] if wanted else []
        told += [f"{count} left out: {reason}" for reason, count in reasons.items()]
        output.say(f"{plan.name or plan.vm} to {plan.target}: {'; '.join(told) or 'nothing there'}")
    if not all(plan.left_to for plan in plans):
        output.say(f"job {job.name}: {count_text(total, 'restore point')} to copy from {job.source.name}")
    for line in workers:
        output.record("mirror-workers", {"job": job.name, "told": line})
        output.say(line)
