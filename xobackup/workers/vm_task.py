"""One VM's part of a run, done by a worker with its own configuration."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from xobackup.engine import events
from xobackup.engine.attempt import attempt_vm
from xobackup.engine.errors import Cancelled
from xobackup.engine.job import Selector, VmRule
from xobackup.engine.limits.told import job_throttle
from xobackup.engine.limits.turnstile import Turnstile
from xobackup.engine.opening import open_all
from xobackup.workers.errors import WorkersError
from xobackup.workers.placing import POOL
from xobackup.xapi import tls

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.fulls import Counting
    from xobackup.engine.job import Job, SrTarget
    from xobackup.engine.journal import Sink
    from xobackup.engine.placing.given import Elsewhere
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
        counting: Callable[[str], Counting] | None = None,
        given: Callable[[str, CancelToken], Elsewhere] | None = None,
        dialer: Callable[[str, str, CancelToken], Dial] | None = None,
    ) -> None:
        """``job_of``: a job of this worker's configuration, by name, with the secrets of what it reaches and of these
        pools besides; ``counting``: for the id of a control node's run, :attr:`World.count_full`; ``given``: the same
        for :attr:`World.given_elsewhere`; ``dialer``: to a pool's hosts (``pool:NAME``) through a relay of that
        site."""
        self._counting = counting
        self._given = given
        self._dialer = dialer
        self._job_of = job_of
        self._fingerprint = fingerprint
        self._world_of = world_of

    def do(self, order: Order, run_id: str, sink: Sink, cancel: CancelToken) -> VmReport:
        """One attempt. ``run_id``: what is made on the pool carries it."""
        job = self.narrowed(
            order.job, order.pool, [order.vm], full_interval=order.full_interval, through=order.through, cancel=cancel
        )
        job = replace(job, consistent=None)
        world = self.world(job, order.run, sink, cancel)
        if told := self.difference(order.job, order.fingerprint):
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

    # -- what other kinds of tasks need as well

    def world(self, job: Job, run: str, sink: Sink, cancel: CancelToken) -> World:
        """For one task of a control node's run, within the limits of its job."""
        world = self._world_of(sink, cancel)
        counted = None if self._counting is None else self._counting(run)
        given = None if self._given is None else self._given(run, cancel)
        return replace(world, throttle=job_throttle(job, world), count_full=counted, given_elsewhere=given)

    def difference(self, job: str, fingerprint: str) -> str:
        """A sentence, when the control node means something else by the job."""
        if self._fingerprint(job) == fingerprint:
            return ""
        return f"job {job} is not the same in the worker's configuration; the worker's own was followed"

    def job(self, name: str) -> Job:
        """Of the worker's own configuration. Raises :class:`WorkersError`."""
        return self._job_of(name, ())

    def narrowed(
        self,
        name: str,
        pool: str,
        vms: Sequence[str],
        *,
        full_interval: int,
        through: Mapping[str, str] = MappingProxyType({}),
        cancel: CancelToken | None = None,
    ) -> Job:
        """The worker's own job, for these VMs of that pool and nothing else. ``through``: places that are reached by
        relays only, and their sites. Raises :class:`WorkersError`."""
        led = {place.removeprefix(POOL) for place in through if place.startswith(POOL)}
        job = self._job_of(name, led)
        pools = tuple(one for one in job.pools if one.name == pool)
        if not pools:
            raise WorkersError(f"job {name} has no pool {pool!r} in the worker's configuration")
        settings = replace(job.settings, full_interval=full_interval, pool_metadata=False)
        selector = Selector(include=tuple(VmRule(uuid=vm) for vm in vms))  # the control node has chosen
        if led and cancel is not None:
            job = replace(job, targets=tuple(self._led(one, through, cancel) for one in job.targets))
        return replace(job, pools=pools, selector=selector, narrowed=True, settings=settings)

    def _led(self, target: SrTarget, through: Mapping[str, str], cancel: CancelToken) -> SrTarget:
        """The target, whose pool's hosts are dialled through a relay when the order says so."""
        place = f"{POOL}{target.pool.name}"
        if place not in through:
            return target
        if self._dialer is None:
            raise WorkersError(f"target {target.name}: this worker cannot be led to {place}")
        policy = tls.Elsewhere(self._dialer(place, through[place], cancel))
        return replace(target, pool=replace(target.pool, address=replace(target.pool.address, tls=policy)))
