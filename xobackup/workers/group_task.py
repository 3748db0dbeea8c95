"""A consistent group, done by a worker with its own configuration: all its VMs, with all their turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from xobackup.engine import events
from xobackup.engine.errors import Cancelled
from xobackup.engine.group.conduct import GroupWork
from xobackup.engine.job import Consistent
from xobackup.engine.limits.turnstile import Turnstile
from xobackup.engine.opening import open_all
from xobackup.engine.turns.work import Work
from xobackup.workers.errors import WorkersError
from xobackup.workers.group_wire import GroupDone

if TYPE_CHECKING:
    from xobackup.engine.attempt import Turn
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.job import Job
    from xobackup.engine.journal import Sink
    from xobackup.engine.report import VmReport
    from xobackup.engine.turns.work import Unit
    from xobackup.engine.world import World
    from xobackup.workers.group_wire import GroupOrder
    from xobackup.workers.vm_task import VmTask


class GroupTask:
    """Does orders of groups. What goes wrong with a VM is in its report."""

    def __init__(self, of_vms: VmTask) -> None:
        """``of_vms``: what it is done with, is the same as for VMs."""
        self._of_vms = of_vms

    def do(self, order: GroupOrder, run_id: str, sink: Sink, cancel: CancelToken) -> GroupDone:
        """To its end: whoever failed was tried again, from the group's snapshot, as the job says."""
        job = self._of_vms.narrowed(order.job, order.pool, order.vms, full_interval=order.full_interval)
        together = replace(job.consistent or Consistent(), tag="")  # the control node has chosen who belongs to it
        job = replace(job, consistent=together)
        world = self._of_vms.world(job, order.run, sink, cancel)
        if told := self._of_vms.difference(order.job, order.fingerprint):
            sink.write(events.Warned(message=told))
        with ExitStack() as held:
            opened = open_all(job, world, run_id, held, recover=True)
            found = {vm.uuid for _, vm in opened.vms}
            missing = [name for vm, name in zip(order.vms, order.names, strict=True) if vm not in found]
            if missing:
                problems = "; ".join(opened.problems) or f"pool {order.pool} no longer has {', '.join(missing)}"
                raise WorkersError(f"consistent group of {order.vm_name}: {problems}")
            return _done(job, world, together, tuple(opened.vms))


def _done(job: Job, world: World, together: Consistent, unit: Unit) -> GroupDone:
    group = GroupWork(job, world, together, [vm for _, vm in unit])

    def attempt(part: Unit, turns: Mapping[str, Turn]) -> Sequence[VmReport]:
        context, vm = part[0]
        with ExitStack() as place:
            with suppress(Cancelled):  # then each attempt says so
                turnstile = Turnstile(context, vm=vm.uuid, name=vm.name)
                place.enter_context(turnstile.vms(len(part), world.cancel))
            return group.attempt(part, turns)

    try:
        reports = Work(job, world, [unit], attempt=attempt).run()
    finally:
        group.close()
    return GroupDone(
        reports=tuple(replace(one, retryable=False, deferred=False) for one in reports), group=group.report
    )
