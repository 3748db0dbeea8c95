"""One VM's part of a run, done by a worker with its own configuration."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from xobackup.engine import events
from xobackup.engine.attempt import attempt_vm
from xobackup.engine.errors import Cancelled
from xobackup.engine.job import Selector, VmRule
from xobackup.engine.limits.turnstile import Turnstile
from xobackup.engine.opening import open_all
from xobackup.workers.errors import WorkersError
from xobackup.workers.placing import POOL
from xobackup.xapi.tls import Elsewhere

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.job import Job, SrTarget
    from xobackup.engine.journal import Sink
    from xobackup.engine.report import VmReport
    from xobackup.engine.world import World
    from xobackup.workers.wire import Order
    from xobackup.xapi.tls import Dial


class VmTask:
    """Does orders. What goes wrong with a VM is in its report; :class:`WorkersError` is for what is wrong with us."""

    def __init__(
        self,
        *,
        job_of: Callable[[str, Collection[str]], Job],
        fingerprint: Callable[[str], str],
        world_of: Callable[[Sink, CancelToken], World],
        dialer: Callable[[str, str, CancelToken], Dial] | None = None,
    ) -> None:
        """``job_of``: a job of this worker's configuration, by name, with the secrets of what it reaches and of these
        pools besides. ``dialer``: to a pool's hosts (``pool:NAME``) through a relay of that site."""
        self._dialer = dialer
        self._job_of = job_of
        self._fingerprint = fingerprint
        self._world_of = world_of

    def do(self, order: Order, run_id: str, sink: Sink, cancel: CancelToken) -> VmReport:
        """One attempt. ``run_id``: what is made on the pool carries it."""
        world = self._world_of(sink, cancel)
        job = self._job(order, cancel)
        if self._fingerprint(order.job) != order.fingerprint:
            told = f"job {order.job} is not the same in the worker's configuration; the worker's own was followed"
            sink.write(events.Warned(vm=order.vm, message=told))
        with ExitStack() as held:
            opened = open_all(job, world, run_id, held, recover=True)
            found = [pair for pair in opened.vms if pair[1].uuid == order.vm]
            if not found:
                problems = "; ".join(opened.problems) or f"pool {order.pool} no longer has the VM"
                raise WorkersError(f"vm {order.vm_name or order.vm}: {problems}")
            context, vm = found[0]
            with ExitStack() as place:
                with suppress(Cancelled):  # then the attempt says so
                    place.enter_context(Turnstile(context, vm=vm.uuid, name=vm.name).vms(1, cancel))
                return attempt_vm(context, vm, order.turn)

    def _job(self, order: Order, cancel: CancelToken) -> Job:
        led = {place.removeprefix(POOL) for place in order.through if place.startswith(POOL)}
        job = self._job_of(order.job, led)
        pools = tuple(pool for pool in job.pools if pool.name == order.pool)
        if not pools:
            raise WorkersError(f"job {order.job} has no pool {order.pool!r} in the worker's configuration")
        settings = replace(job.settings, full_interval=order.full_interval, pool_metadata=False)
        selector = Selector(include=(VmRule(uuid=order.vm),))  # the control node has chosen
        targets = tuple(self._led(one, order.through, cancel) for one in job.targets)
        job = replace(job, pools=pools, targets=targets, settings=settings, consistent=None)
        return replace(job, selector=selector, narrowed=True)

    def _led(self, target: SrTarget, through: Mapping[str, str], cancel: CancelToken) -> SrTarget:
        """The target, whose pool's hosts are dialled through a relay when the order says so."""
        place = f"{POOL}{target.pool.name}"
        if place not in through:
            return target
        if self._dialer is None:
            raise WorkersError(f"target {target.name}: this worker cannot be led to {place}")
        policy = Elsewhere(self._dialer(place, through[place], cancel))
        return replace(target, pool=replace(target.pool, address=replace(target.pool.address, tls=policy)))
