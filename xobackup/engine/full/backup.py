"""The part of one VM's backup that differs when it is a full: the export and the publication."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from xobackup.engine.full.transfer import ArchiveTransfer, Exported
from xobackup.engine.limits.turnstile import Turnstile, srs_of
from xobackup.engine.publish import draft_full
from xobackup.engine.taking.marks import mark_exported

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.context import RunContext
    from xobackup.engine.plan import VmPlan
    from xobackup.engine.taking.taken import Taken
    from xobackup.engine.target import Published, Target, Targets
    from xobackup.engine.view import VmView


class FullBackup:
    """One attempt's. What it exports is whatever ``taken`` refers to: a snapshot, or a VM that is halted."""

    def __init__(
        self,
        context: RunContext,
        exported: Exported,
        *,
        targets: Targets,
        cancel: CancelToken,
        warn: Callable[[str, str], None],
    ) -> None:
        """``exported`` is filled as it goes."""
        self._context = context
        self._exported = exported
        self._targets = targets
        self._cancel = cancel
        self._warn = warn
        self.announced = False
        """Only when its snapshot stays for its own sake: nothing continues from that of a full backup."""

    def export(self, plan: VmPlan, taken: Taken, vm: VmView) -> None:
        """The whole VM as one archive, durable on the remotes that are still with us."""
        assert plan.archive is not None
        job = self._context.job
        transfer = ArchiveTransfer(
            self._context.world,
            self._context.session,
            vm_uuid=vm.uuid,
            vm_name=vm.name,
            run_id=self._context.run_id,
            timestamp_ms=taken.timestamp_ms,
            targets=self._targets.by_name(),
            cancel=self._cancel,
            warn=self._warn,
            outcome=self._exported,
        )
        try:
            srs = srs_of(disk.disk.sr for disk in plan.disks)
            with Turnstile(self._context, vm=vm.uuid, name=vm.name).transfer(srs, self._cancel):
                transfer.run(plan.archive, taken, job_id=job.id, buffers=job.settings.buffers_per_disk)
        except BaseException:
            self._exported.discard()
            raise
        finally:
            self._targets.drop(self._exported.dropped)
        self._targets.require()

    def publish(
        self, taken: Taken, live_record: dict[str, Any], published: Callable[[Target, Published], None]
    ) -> None:
        """A restore point on every remote that has the image."""

        def publish(target: Target) -> None:
            self._cancel.check()
            self._exported.writers.pop(target.name, None)  # from here on it is the repository's to judge
            job, at_ms = self._context.job, taken.timestamp_ms
            opened = target.stands_for(job, at_ms)
            draft = draft_full(job, vm=live_record, taken=taken, timestamp_ms=at_ms, stands_for=opened)
            published(target, target.publish_image(draft, self._exported.images[target.name]))

        try:
            self._targets.each(publish)
        finally:
            self._exported.discard()
        if self._context.job.settings.snapshot_retention and taken.snapshot:
            remotes = [target.name for target in self._targets]
            mark_exported(self._context.session, taken, {}, remotes)
            self.announced = True
