"""The pools of a run: which databases are backed up, what happened to each, and what would happen now."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from xobackup.engine import events
from xobackup.engine.context import RunContext
from xobackup.engine.errors import Cancelled, EngineError, Outcome
from xobackup.engine.plan import PoolPlan
from xobackup.engine.pools.backup import PoolBackup
from xobackup.engine.pools.describe import PoolRecords, pool_records
from xobackup.engine.report import PoolReport
from xobackup.engine.target import SINK_ERRORS
from xobackup.engine.turns.retry import pause_s
from xobackup.repository.errors import RepositoryError
from xobackup.repository.pools.dump import BadDump
from xobackup.xapi.errors import HostTrouble, TransferCancelled, TransferError, XapiError

if TYPE_CHECKING:
    from xobackup.engine.handing import Handing
    from xobackup.engine.job import Job
    from xobackup.engine.world import World

POOL_ERRORS = (XapiError, EngineError, RepositoryError, *SINK_ERRORS)
"""What ends the backup of one pool and leaves the others alone."""


def save_pools(
    job: Job, world: World, contexts: Sequence[RunContext], handing: Handing | None = None
) -> list[PoolReport]:
    """Back up the database of every pool of the job, one after the other, if the job asks for it. ``handing``: who
    reaches remotes that are not reached from here."""
    if not job.saves_pools:
        return []
    reports = []
    for context in contexts:
        done = handing.pool(context) if handing is not None and left_to_workers(job, world) else None
        reports.append(done or _save(context))
    return reports


def left_to_workers(job: Job, world: World) -> bool:
    """Whether databases of its pools have to go where this machine reaches nothing."""
    out = world.hand_out
    return job.saves_pools and out is not None and any(not out.reached(remote.name) for remote in job.remotes)


def plan_pools(job: Job, contexts: Sequence[RunContext]) -> list[PoolPlan]:
    """What :func:`save_pools` would do, without touching anything."""
    return [_plan(context) for context in contexts] if job.saves_pools else []


def _save(context: RunContext) -> PoolReport:
    """Every attempt for one pool, and the verdict. Again only for what can pass, and when nothing is there yet."""
    world, tries = context.world, context.job.settings.retries + 1
    began_s = world.clock.monotonic_s()
    for attempt in range(1, tries + 1):
        backup = PoolBackup(context)
        error: Exception | None = None
        try:
            world.cancel.check()
            backup.run()
        except POOL_ERRORS as failed:
            error = failed
        again = attempt < tries and _may_pass(backup, error)
        left_s = pause_s(attempt, context.job.settings.retry_pause_s) if again else 0.0
        if error is not None:
            world.journal.write(_failed(context, error, attempt=attempt, again=again, left_s=left_s))
        if not again:
            break
        with suppress(Cancelled):  # then the next attempt says so
            world.cancel.sleep(world.clock, left_s)
    return _told(context, backup, error, attempt=attempt, duration_s=world.clock.monotonic_s() - began_s)


def _may_pass(backup: PoolBackup, error: Exception | None) -> bool:
    """Reading the database again harms nobody; pointless only where somebody has to change something first."""
    if error is None or backup.done.points or isinstance(error, (Cancelled, TransferCancelled)):
        return False
    return bool(getattr(error, "transient", False)) or isinstance(error, (HostTrouble, TransferError, BadDump))


def _failed(context: RunContext, error: Exception, *, attempt: int, again: bool, left_s: float) -> events.Failed:
    return events.Failed(
        error=f"pool {context.pool}: {error}",
        error_class=type(error).__name__,
        hint=getattr(error, "hint", "") or "",
        attempt=attempt,
        will_retry=again,
        retry_in_s=left_s,
    )


def _told(
    context: RunContext, backup: PoolBackup, error: Exception | None, *, attempt: int, duration_s: float
) -> PoolReport:
    done = backup.done
    errors = [f"remote {name}: {failure}" for name, failure in done.failures.items()]
    reason = (str(error) or type(error).__name__) if error is not None else "; ".join(errors)
    outcome = Outcome.FAILED if error is not None or errors else Outcome.OK
    name = done.records.name if done.records else context.pool
    report = PoolReport(
        uuid=context.pool_uuid,
        name=name,
        pool=context.pool,
        outcome=outcome,
        reason=reason,
        attempts=attempt,
        duration_s=duration_s,
        size_bytes=done.size_bytes,
        points=dict(done.points),
        expired=dict(done.expired),
        hosts=len(done.summary.hosts) if done.summary else 0,
        vms=len(done.summary.vms) if done.summary else 0,
        errors=tuple(errors) if error is None else (*errors, reason),
        hint=getattr(error, "hint", "") or "",
    )
    context.world.journal.write(
        events.PoolEnded(
            pool=report.uuid,
            pool_name=name,
            outcome=outcome.value,
            attempts=attempt,
            duration_s=duration_s,
            size_bytes=report.size_bytes,
            reason=reason,
        )
    )
    return report


def _plan(context: RunContext) -> PoolPlan:
    job = context.job
    keep = job.settings.pool_metadata_retention
    problems: list[str] = []
    newest: dict[str, str] = {}
    expires: dict[str, list[str]] = {}
    name = context.pool
    try:
        name = _name(pool_records(context.session), context)
    except XapiError as error:
        problems.append(f"the pool does not describe itself: {error}")
    for remote, repository in context.repositories.items():
        try:
            points = repository.pools().of_schedule(job.schedule_id, context.pool_uuid).points
        except SINK_ERRORS as error:
            problems.append(f"remote {remote}: {error}")
            continue
        ids = [point.id for point in points]
        newest[remote] = ids[-1] if ids else ""
        expires[remote] = ids[: max(0, len(ids) + 1 - keep)]
    told = f"the database changes with every object: always whole; {keep} backups are kept on each remote"
    return PoolPlan(
        pool=context.pool,
        uuid=context.pool_uuid,
        name=name,
        remotes=tuple(newest),
        newest=newest,
        expires={remote: ids for remote, ids in expires.items() if ids},
        reason="; ".join([told, *problems]),
    )


def _name(records: PoolRecords, context: RunContext) -> str:
    return records.name or context.pool
