"""Databases of pools and health checks, done by a worker with its own configuration."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from xobackup.engine import events
from xobackup.engine.errors import Outcome
from xobackup.engine.health.of_job import run_checks
from xobackup.engine.job import METADATA
from xobackup.engine.opening import open_all
from xobackup.engine.pools.run import save_pools
from xobackup.engine.report import VmReport
from xobackup.workers.errors import WorkersError
from xobackup.workers.other_wire import ChecksDone

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.journal import Sink
    from xobackup.engine.report import PoolReport
    from xobackup.workers.other_wire import ChecksOrder, PoolOrder
    from xobackup.workers.vm_task import VmTask


class OtherTasks:
    """``of_vms``: what they are done with, is the same as for VMs."""

    def __init__(self, of_vms: VmTask) -> None:
        self._of_vms = of_vms

    def pool(self, order: PoolOrder, run_id: str, sink: Sink, cancel: CancelToken) -> PoolReport:
        """All attempts for one pool's database. Raises :class:`WorkersError`."""
        job = self._of_vms.narrowed(order.job, order.pool, [], full_interval=1)
        settings = replace(job.settings, mode=METADATA, pool_metadata=True, offline_backup=False)  # of no VM
        job = replace(job, settings=settings, checks=None, targets=(), consistent=None)
        world = self._of_vms.world(job, order.run, sink, cancel)
        if told := self._of_vms.difference(order.job, order.fingerprint):
            sink.write(events.Warned(message=told))
        with ExitStack() as held:
            opened = open_all(job, world, run_id, held, recover=True)
            if not opened.contexts or len(opened.repositories) < len(job.remotes):
                raise WorkersError(f"database of pool {order.pool}: {'; '.join(opened.problems)}")
            (report,) = save_pools(job, world, opened.contexts)
        return report

    def checks(self, order: ChecksOrder, sink: Sink, cancel: CancelToken) -> ChecksDone:
        """Of those VMs whose turn it is. Raises :class:`WorkersError`."""
        job = self._of_vms.job(order.job)
        if job.checks is None:
            raise WorkersError(f"job {order.job} has no health_check in the worker's configuration")
        world = self._of_vms.world(job, order.run, sink, cancel)
        now_s = world.clock.now_s()
        reports = [
            VmReport(uuid=one.uuid, name=one.name, pool=one.pool, outcome=Outcome.OK, points=dict(one.points))
            for one in order.vms_fresh
        ]
        checked_s = {uuid: now_s - age_s for uuid, age_s in order.ages_s.items()}
        results, problems = run_checks(job.checks, world, reports, checked_s=checked_s)
        return ChecksDone(results=tuple(results), problems=tuple(problems))
