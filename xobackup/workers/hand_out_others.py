"""The control node's side of tasks that are no VMs: databases of pools, health checks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import TYPE_CHECKING

from xobackup.engine import events
from xobackup.engine.errors import Outcome
from xobackup.engine.health.memory import remember
from xobackup.engine.health.of_job import checked_times
from xobackup.engine.report import PoolReport
from xobackup.workers.errors import WorkersError
from xobackup.workers.other_wire import ChecksDone, ChecksOrder, Fresh, PoolOrder
from xobackup.workers.records import About
from xobackup.workers.wire import read_as

if TYPE_CHECKING:
    from xobackup.engine.context import RunContext
    from xobackup.engine.health.of_job import JobChecks
    from xobackup.engine.health.request import CheckResult
    from xobackup.engine.report import VmReport
    from xobackup.workers.hand_out import BoardHanding, BoardHandOut
    from xobackup.workers.placing import Need


def checks_need(out: BoardHandOut, checks: JobChecks) -> Need:
    """Where VMs are booted, and what they come from."""
    remotes = [] if checks.remote is None else [checks.remote.name]
    return out.need_of(checks.pool.name, remotes, [target.name for target in checks.targets])


def hand_pool(handing: BoardHanding, context: RunContext) -> PoolReport | None:
    """See :meth:`xobackup.engine.handing.Handing.pool`."""
    job, began_s = context.job, handing.world.clock.monotonic_s()
    about = About(name=f"database of pool {context.pool}", pool=context.pool)
    order = PoolOrder(
        run=handing.run,
        job=job.name,
        pool=context.pool,
        fingerprint=handing.out.fingerprint(job.name),
        vm_name=about.name,
    )
    need = handing.out.need_of(context.pool, [remote.name for remote in job.remotes])
    try:
        key = f"pool {context.pool_uuid}"
        found = handing.other(about, asdict(order), key=key, need=need, answer="pool")
        return None if found is None else read_as(PoolReport, found)
    except WorkersError as error:
        return _failed(handing, context, error, handing.world.clock.monotonic_s() - began_s)


def _failed(handing: BoardHanding, context: RunContext, error: WorkersError, duration_s: float) -> PoolReport:
    journal, told = handing.world.journal, f"pool {context.pool}: {error}"
    journal.write(events.Failed(error=told, error_class=type(error).__name__, hint=error.hint))
    journal.write(
        events.PoolEnded(
            pool=context.pool_uuid,
            pool_name=context.pool,
            outcome=Outcome.FAILED.value,
            attempts=1,
            duration_s=duration_s,
            size_bytes=0,
            reason=str(error),
        )
    )
    return PoolReport(
        uuid=context.pool_uuid,
        name=context.pool,
        pool=context.pool,
        outcome=Outcome.FAILED,
        reason=str(error),
        duration_s=duration_s,
        errors=(str(error),),
        hint=error.hint,
    )


def hand_checks(
    handing: BoardHanding, checks: JobChecks, reports: Collection[VmReport]
) -> tuple[list[CheckResult], list[str]] | None:
    """See :meth:`xobackup.engine.handing.Handing.checks`."""
    world = handing.world
    fresh = [one for one in reports if one.outcome is Outcome.OK and one.points]
    if not fresh:
        return [], []
    now_s, checked = world.clock.now_s(), checked_times(world)
    order = ChecksOrder(
        run=handing.run,
        job=handing.job.name,
        vms_fresh=tuple(Fresh(uuid=one.uuid, name=one.name, pool=one.pool, points=one.points) for one in fresh),
        ages_s={one.uuid: now_s - checked[one.uuid] for one in fresh if one.uuid in checked},
        vm_name="health checks",
    )
    about, need = About(name=order.vm_name, pool=checks.pool.name), checks_need(handing.out, checks)
    try:
        found = handing.other(about, asdict(order), key=f"checks {handing.run}", need=need, answer="checks")
        if found is None:
            return None
        done = read_as(ChecksDone, found)
    except WorkersError as error:
        told = f"health checks: {error}"
        world.journal.write(events.Failed(error=told, error_class=type(error).__name__, hint=error.hint))
        return [], [told]
    for result in done.results:
        remember(world.state_directory, result, now_s=world.clock.now_s())
    return list(done.results), list(done.problems)
