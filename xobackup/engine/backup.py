"""The backup of one VM: lock, look, plan, snapshot, transfer, publish, let go of what is old. Only the order is here.

The last good restore point is never the price of the next one: nothing old is removed before the new point is
published, on the pool as on the remotes. A remote that fails drops out; a VM fails when none is left, or when the
pool does. Whatever is interrupted leaves only things that the next run recognises.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from xobackup.clock import utc
from xobackup.engine import events
from xobackup.engine.active import Active, marked_active
from xobackup.engine.cancel import CancelToken
from xobackup.engine.context import RunContext
from xobackup.engine.disk_transfer import Shared
from xobackup.engine.errors import VmRefused
from xobackup.engine.full.backup import FullBackup
from xobackup.engine.full.transfer import Exported
from xobackup.engine.phases import phase
from xobackup.engine.plan import VmPlan, plan_vm, vm_data
from xobackup.engine.prepare import Preparation
from xobackup.engine.publish import Surroundings, draft
from xobackup.engine.purge import purge
from xobackup.engine.removal import remove_snapshot
from xobackup.engine.snapshot import Taken, mark_exported, migration_blocked, reset_marks, take_snapshot
from xobackup.engine.survey import Survey
from xobackup.engine.target import SINK_ERRORS, Target, Targets
from xobackup.engine.tidy import expire_points, remove_served_snapshots
from xobackup.engine.tracking import track_changes
from xobackup.engine.transfer import Transfer
from xobackup.engine.transferred import Transferred
from xobackup.engine.view import VmView
from xobackup.xapi.errors import XapiError

if TYPE_CHECKING:
    from xobackup.repository.metadata import RestorePoint

CLOCK_BEHIND_MAX_S = 5.0
"""A newest point that much ahead is waited for; more means that a clock is wrong."""


@dataclass(slots=True)
class Done:
    """What came of a VM's backup; filled as it goes, so that a failure tells what was reached before it."""

    points: dict[str, str] = field(default_factory=dict)
    transferred: Transferred = field(default_factory=Transferred)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    merged_blocks: int = 0
    exported: Exported = field(default_factory=Exported)
    """The images of a full backup."""

    @property
    def read_bytes(self) -> int:
        return self.transferred.read_bytes + self.exported.read_bytes


class VmBackup:
    """One attempt for one VM."""

    def __init__(self, context: RunContext, vm: VmView, *, attempt: int = 1) -> None:
        self._context = context
        self._world = context.world
        self._job = context.job
        self._session = context.session
        self._attempt = attempt
        self._announced = False
        self._cancel = CancelToken()
        self.mode = self._job.settings.mode
        self.done = Done()
        self._targets = Targets(f"vm {vm.name}", self._fail)
        self._prepared = Preparation(
            context,
            vm,
            targets=self._targets,
            cancel=self._cancel,
            warn=lambda message, remote: self._warn(message, remote=remote),
        )
        self._full = FullBackup(
            context,
            self.done.exported,
            targets=self._targets,
            cancel=self._cancel,
            warn=lambda message, remote: self._warn(message, remote=remote),
        )

    def run(self) -> Done:
        """Raises what makes the whole VM fail; :attr:`done` tells what was reached nevertheless."""
        active = Active(
            run_id=self._context.run_id,
            job_id=self._job.id,
            job=self._job.name,
            pool_uuid=self._context.pool_uuid,
            vm_uuid=self._prepared.vm.uuid,
            since_s=self._world.clock.now_s(),
        )
        with (
            self._world.cancel.waking(lambda: self._cancel.cancel(self._world.cancel.reason)),
            ExitStack() as held,
        ):
            with self._phase("prepare"):
                self._prepared.lock(held)
                held.enter_context(marked_active(self._world.active_directory, active))
                self._targets.each(self._prepared.finish_interrupted)
                seen, plan = self._prepared.plan()
            planned = events.VmPlanned(vm=self._prepared.vm.uuid, vm_name=plan.vm.name, plan=vm_data(plan))
            self._world.journal.write(planned)
            self._back_up(seen, plan)
        return self.done

    def _back_up(self, seen: Survey, plan: VmPlan) -> None:
        live_record = dict(seen.records["VM"][self._prepared.vm.ref])
        taken: Taken | None = None
        try:
            with migration_blocked(self._session, self._prepared.vm.ref, self._job.id):
                with self._phase("snapshot"):
                    taken = self._snapshot(plan)
                    plan = self._match(plan, taken)
                    if None in taken.vtpms:
                        self._warn("the host does not give the contents of its virtual TPM: they are not backed up")
                with self._phase("transfer"):
                    if plan.archive is not None:
                        self._full.export(plan.archive, taken, self._prepared.vm)
                    else:
                        self._transfer(plan, taken)
            with self._phase("publish"):
                if plan.archive is not None:
                    self._full.publish(taken, live_record, self._published)
                else:
                    self._publish(taken, live_record)
        finally:
            if taken is not None and not self._announced:
                self._drop_snapshot(taken)
        if self._job.settings.purge_snapshot_data:
            with self._phase("purge"):
                done, points = self.done.transferred.done, self.done.points
                vm_uuid = self._prepared.vm.uuid
                purge(self._context, vm_uuid, taken, done=done, published=points, warn=self._warn)
        with self._phase("retention"):
            self._let_go()

    def _drop_snapshot(self, taken: Taken) -> None:
        """Nothing will ever continue from this snapshot: no remote can have it, or it was for a full backup. The next
        run removes what stays.

        Once a remote was asked to publish, only a look at it tells whether it did (the connection may have broken
        right after): then the next run decides.
        """
        with contextlib.suppress(XapiError):
            remove_snapshot(self._session, taken.ref, dict(taken.vdis.values()))

    def _snapshot(self, plan: VmPlan) -> Taken:
        reset_marks(self._session, self._prepared.vm)
        track_changes(self._context, self._prepared.vm, plan, self._warn, self.done.warnings)
        left_out = {disk.uuid for disk in plan.skipped_disks}
        return take_snapshot(
            self._session,
            self._prepared.vm,
            self._job,
            run_id=self._context.run_id,
            moment=self._moment(),
            ignore_vdi_refs=[disk.vdi_ref for disk in self._prepared.vm.disks if disk.vdi_uuid in left_out],
            cancel=self._cancel,
        )

    def _moment(self) -> datetime:
        """Now, in whole seconds, and later than every restore point there is: names must grow."""
        newest: list[int] = []
        self._targets.each(lambda target: newest.append(target.newest_ms()))
        newest_s = max(newest) // 1000
        behind_s = newest_s + 1 - self._world.clock.now_s()
        if behind_s > CLOCK_BEHIND_MAX_S:
            message = f"its newest restore point is of {utc(newest_s):%Y-%m-%d %H:%M:%S} UTC, which is in the future"
            raise VmRefused(message, hint="check the clocks of this machine and of the one that wrote it")
        if behind_s > 0:
            self._cancel.sleep(self._world.clock, behind_s)
        return utc(int(self._world.clock.now_s()))

    def _match(self, plan: VmPlan, taken: Taken) -> VmPlan:
        """The plan for the disks that the snapshot really has: one may have come or gone since we looked."""
        planned = {disk.disk.vdi_uuid for disk in plan.disks}
        if set(taken.vdis) == planned:
            return plan
        _, vm = self._prepared.look()
        again = plan_vm(self._job, vm, self._prepared.tips(vm), terms=self._context.means.terms)
        disks = tuple(disk for disk in again.disks if disk.disk.vdi_uuid in taken.vdis)
        missing = set(taken.vdis) - {disk.disk.vdi_uuid for disk in disks}
        if missing or not disks:
            raise VmRefused(f"its disks changed during the snapshot ({', '.join(sorted(missing)) or 'none left'})")
        for gone in sorted(planned - set(taken.vdis)):
            self._warn(f"disk {gone} was detached before the snapshot and is not in this restore point")
        return VmPlan(vm=vm, disks=disks, skipped_disks=again.skipped_disks)

    def _transfer(self, plan: VmPlan, taken: Taken) -> None:
        shared = Shared(
            world=self._world,
            session=self._session,
            vm_uuid=self._prepared.vm.uuid,
            job_id=self._job.id,
            run_id=self._context.run_id,
            timestamp_ms=int(taken.moment.timestamp()) * 1000,
            targets=self._targets.by_name(),
            cancel=self._cancel,
            means=self._context.means,
            fulls=self._context.fulls,
            warn=lambda message, remote: self._warn(message, remote=remote),
            outcome=self.done.transferred,
        )
        settings = self._job.settings
        Transfer(shared).run(plan.disks, taken, disks_max=settings.disks_max, buffers=settings.buffers_per_disk)
        self._targets.drop(shared.outcome.dropped)
        self._targets.require()

    def _published(self, target: Target, point: RestorePoint) -> None:
        self.done.points[target.name] = point.id
        event = events.PointPublished(
            vm=self._prepared.vm.uuid, remote=target.name, point=point.id, size_bytes=point.size
        )
        self._world.journal.write(event)

    def _publish(self, taken: Taken, live_record: dict[str, object]) -> None:
        around = Surroundings(
            srs=self._session.records("SR"),
            networks=self._session.records("network"),
            pifs=self._session.records("PIF"),
        )

        def publish(target: Target) -> None:
            self._cancel.check()
            self._announced = True
            self.done.transferred.writers.pop(target.name, None)  # from here on they are the repository's to judge
            disks = self.done.transferred.of(target.name)
            described = draft(
                self._job,
                vm=live_record,
                taken=taken,
                timestamp_ms=int(taken.moment.timestamp()) * 1000,
                paths={live: disk.result.path for live, disk in disks.items()},
                bases={live: disk.base_uuid for live, disk in disks.items()},
                around=around,
            )
            self._published(target, target.publish(described))

        try:
            self._targets.each(publish)
        finally:
            self.done.transferred.discard(list(self.done.transferred.writers))
        mark_exported(self._session, taken, self._chain_lengths(), self.done.points)

    def _chain_lengths(self) -> dict[str, int]:
        lengths: dict[str, int] = {}
        for disk in self.done.transferred.done:
            if disk.remote in self.done.points:
                lengths[disk.live_uuid] = max(lengths.get(disk.live_uuid, 0), disk.chain_length)
        return lengths

    def _let_go(self) -> None:
        """What is old goes, now that the new is safe. Failing here costs space, not backups."""
        try:
            _, vm = self._prepared.look()
            tips = self._prepared.tips(vm)
            ends = {
                target.name: [found[target.name].snapshot_uuid for found in tips.values()] for target in self._targets
            }
            missed = {remote.name for remote in self._job.remotes if remote.name not in self._targets}
            remove_served_snapshots(self._context, vm, ends, missed=missed, warn=self._warn)
        except (XapiError, VmRefused, *SINK_ERRORS) as error:
            self._warn(f"old snapshots stay on the pool for now: {error}")
        for target in self._targets:
            try:
                self.done.merged_blocks += expire_points(
                    self._context, self._prepared.vm, target, self._cancel, self._warn
                )
            except SINK_ERRORS as error:
                self._targets.drop({target.name: error})

    def _fail(self, remote: str, error: BaseException) -> None:
        self.done.errors.append(f"{remote}: {error}")
        event = events.Failed(
            vm=self._prepared.vm.uuid,
            remote=remote,
            error=str(error),
            error_class=type(error).__name__,
            hint=getattr(error, "hint", "") or "",
        )
        self._world.journal.write(event)

    def _warn(self, message: str, *, remote: str = "") -> None:
        self.done.warnings.append(f"{remote}: {message}" if remote else message)
        self._world.journal.write(events.Warned(vm=self._prepared.vm.uuid, remote=remote, message=message))

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        with phase(self._world, self._prepared.vm.uuid, name, attempt=self._attempt):
            self._cancel.check()
            yield


__all__ = ["Done", "RunContext", "VmBackup"]
