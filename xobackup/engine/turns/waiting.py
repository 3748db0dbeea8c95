"""The VMs that wait for their chains: looks at their pools, what was seen, and when the waiting is over.

One look at a pool serves all that wait there. A VM whose chains are healthy has its turn; one that has waited
``chain_wait_s`` is refused with what was seen meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from xobackup.engine import events
from xobackup.engine.context import RunContext
from xobackup.engine.errors import VmRefused
from xobackup.engine.job import Job
from xobackup.engine.plan import chains_of
from xobackup.engine.report import VmReport
from xobackup.engine.select import select_disks
from xobackup.engine.survey import survey
from xobackup.engine.turns.chains import POLL_S, Chain, Watch, refusal, seen, told
from xobackup.engine.view import VmView
from xobackup.xapi.errors import XapiError

if TYPE_CHECKING:
    from xobackup.engine.progress import Meter
    from xobackup.engine.world import World


@dataclass(slots=True, kw_only=True)
class _Waiter:
    context: RunContext
    vm: VmView
    watch: Watch
    meter: Meter
    ended_s: float | None = None
    """Since when its chains are healthy."""
    refusal: VmRefused | None = None


class Waiting:
    """See the module's head. Used by one thread."""

    def __init__(self, job: Job, world: World) -> None:
        self._job = job
        self._world = world
        self._waiters: dict[str, _Waiter] = {}

    def add(self, context: RunContext, vm: VmView, chains: tuple[Chain, ...]) -> None:
        """``vm`` was found with ``chains``: it waits, from the first time that it was."""
        now_s = self._world.clock.monotonic_s()
        waiter = self._waiters.get(vm.uuid)
        if waiter is None:
            meter = self._world.progress.meter(vm.name or vm.uuid, stage="waiting")
            self._waiters[vm.uuid] = waiter = _Waiter(
                context=context, vm=vm, watch=seen(None, chains, now_s), meter=meter
            )
            event = events.ChainsAwaited(
                vm=vm.uuid,
                vm_name=vm.name,
                reason=told(chains, self._uncoalesced_max),
                wait_max_s=self._job.settings.chain_wait_s,
            )
            if self._job.settings.chain_wait_s and chains:  # without: it only waits for others of its group
                self._world.journal.write(event)
        waiter.ended_s = None
        self._saw(waiter, chains, now_s)

    @property
    def _uncoalesced_max(self) -> int:
        return self._job.settings.uncoalesced_max

    def _saw(self, waiter: _Waiter, chains: tuple[Chain, ...], now_s: float) -> None:
        if not chains:
            self._healthy(waiter, now_s)
            return
        waiter.watch = seen(waiter.watch, chains, now_s)
        waiter.meter.note(told(chains, self._uncoalesced_max))
        if now_s >= waiter.watch.since_s + self._job.settings.chain_wait_s:
            sentence, hint = refusal(waiter.watch, now_s, self._uncoalesced_max)
            waiter.refusal = VmRefused(sentence, hint=hint)

    def _healthy(self, waiter: _Waiter, now_s: float) -> None:
        waiter.ended_s, waiter.refusal = now_s, None
        waiter.meter.note("")
        if not waiter.watch.first:
            return
        links = ", ".join(f"{chain.disk_name} on SR {chain.sr_name}" for chain in waiter.watch.first)
        self._world.journal.write(
            events.Waited(
                vm=waiter.vm.uuid, what=f"the storage to coalesce {links}", duration_s=now_s - waiter.watch.since_s
            )
        )

    def look(self, uuids: Sequence[str]) -> None:
        """Look again at the pools of these VMs. A pool that does not answer is asked again next time."""
        by_context: dict[int, list[_Waiter]] = defaultdict(list)
        for uuid in uuids:
            by_context[id(self._waiters[uuid].context)].append(self._waiters[uuid])
        for waiters in by_context.values():
            context = waiters[0].context
            try:
                now = survey(context.session, context.pool)
            except XapiError:
                now = None
            now_s = self._world.clock.monotonic_s()
            for waiter in waiters:
                vm = now.vm_view(waiter.vm.uuid) if now is not None else waiter.vm
                if now is None:
                    self._saw(waiter, waiter.watch.now, now_s)
                elif vm is None:
                    waiter.ended_s = now_s  # its attempt will say that it is gone
                else:
                    chosen = select_disks(self._job.exclude_disks, vm.disks).chosen
                    self._saw(waiter, chains_of(self._job, chosen), now_s)

    def over(self, uuids: Sequence[str]) -> bool:
        """Whether these, which belong together, need not wait any longer."""
        waiters = [self._waiters[uuid] for uuid in uuids]
        return any(waiter.refusal for waiter in waiters) or all(waiter.ended_s is not None for waiter in waiters)

    def due_s(self, uuids: Sequence[str]) -> float:
        """When to look next: never later than the first one's end of patience."""
        now_s = self._world.clock.monotonic_s()
        ends = [self._waiters[uuid].watch.since_s + self._job.settings.chain_wait_s for uuid in uuids]
        return max(now_s, min(now_s + POLL_S, *ends))

    def refusal(self, uuid: str) -> VmRefused | None:
        """Why the VM is refused, once it has waited in vain."""
        waiter = self._waiters.get(uuid)
        return waiter.refusal if waiter else None

    def noted(self, report: VmReport) -> VmReport:
        """The report with what the VM waited for."""
        waiter = self._waiters.get(report.uuid)
        if waiter is None:
            return report
        self._world.progress.drop(waiter.meter)
        end_s = self._world.clock.monotonic_s() if waiter.ended_s is None else waiter.ended_s
        chains = waiter.watch.now if waiter.refusal else ()
        return replace(report, chains=chains, chains_waited_s=end_s - waiter.watch.since_s)

    def close(self) -> None:
        """Nobody waits any more."""
        for waiter in self._waiters.values():
            self._world.progress.drop(waiter.meter)
