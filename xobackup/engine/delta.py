"""The part of one VM's backup that differs when it is a delta: disk by disk, and its snapshot may be a base."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from xobackup.engine.disk_transfer import Shared
from xobackup.engine.limits.turnstile import Turnstile
from xobackup.engine.publish import Surroundings, draft
from xobackup.engine.taking.marks import mark_exported
from xobackup.engine.taking.memory import memory_plan
from xobackup.engine.transfer import Transfer

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.context import RunContext
    from xobackup.engine.done import Done
    from xobackup.engine.plan import VmPlan
    from xobackup.engine.taking.taken import Taken
    from xobackup.engine.target import Published, Target, Targets
    from xobackup.engine.view import VmView


class DeltaBackup:
    """One attempt's."""

    def __init__(
        self,
        context: RunContext,
        done: Done,
        *,
        targets: Targets,
        cancel: CancelToken,
        warn: Callable[[str, str], None],
    ) -> None:
        """``done`` is filled as it goes; ``warn`` hears a message and the remote it is about."""
        self._context = context
        self._done = done
        self._targets = targets
        self._cancel = cancel
        self._warn = warn
        self.announced = False
        """A remote was asked to publish: only a look at it tells whether it has the snapshot's content."""

    def export(self, plan: VmPlan, taken: Taken, vm: VmView) -> None:
        """Every disk, durable on the remotes that are still with us."""
        job = self._context.job
        shared = Shared(
            world=self._context.world,
            session=self._context.session,
            vm_uuid=vm.uuid,
            job_id=job.id,
            run_id=self._context.run_id,
            timestamp_ms=taken.timestamp_ms,
            targets=self._targets.by_name(),
            cancel=self._cancel,
            means=self._context.means,
            fulls=self._context.fulls,
            warn=self._warn,
            turnstile=Turnstile(self._context, vm=vm.uuid, name=vm.name),
            outcome=self._done.transferred,
        )
        settings, disks = job.settings, plan.disks
        if taken.memory is not None:
            self._targets.each(lambda target: target.note_memory(job.id, taken.memory_uuid))
            shared.targets = self._targets.by_name()
            takers = [name for name, target in shared.targets.items() if target.takes_memory]
            for name in sorted(set(shared.targets) - set(takers)):
                self._warn(
                    "replicas are kept without the memory of their VM: it would boot as after a power cut", name
                )
            disks = (*disks, memory_plan(taken.memory, takers, self._context.means.terms))
        Transfer(shared).run(disks, taken, disks_max=settings.disks_max, buffers=settings.buffers_per_disk)
        self._targets.drop(shared.outcome.dropped)
        self._targets.require()

    def publish(
        self, taken: Taken, live_record: dict[str, Any], published: Callable[[Target, Published], None]
    ) -> None:
        """A restore point on every remote that has all disks; then the snapshot is marked as a base."""
        job, session = self._context.job, self._context.session
        around = Surroundings(
            srs=session.records("SR"),
            networks=session.records("network"),
            pifs=session.records("PIF"),
        )
        transferred = self._done.transferred

        def publish(target: Target) -> None:
            self._cancel.check()
            self.announced = True
            transferred.writers.pop(target.name, None)  # from here on they are the repository's to judge
            disks = transferred.of(target.name)
            described = draft(
                job,
                vm=live_record,
                taken=taken,
                timestamp_ms=taken.timestamp_ms,
                paths={live: disk.result.path for live, disk in disks.items()},
                bases={live: disk.base_uuid for live, disk in disks.items()},
                around=around,
                stands_for=target.stands_for(job, taken.timestamp_ms),
            )
            published(target, target.publish(described))

        try:
            self._targets.each(publish)
        finally:
            transferred.discard(list(transferred.writers))
        mark_exported(session, taken, self._chain_lengths(), self._done.points)

    def _chain_lengths(self) -> dict[str, int]:
        lengths: dict[str, int] = {}
        for disk in self._done.transferred.done:
            if disk.remote in self._done.points:
                lengths[disk.live_uuid] = max(lengths.get(disk.live_uuid, 0), disk.chain_length)
        return lengths
