"""The backup of one VM: lock, look, plan, snapshot, transfer, publish, let go of what is old. Only the order is here.

The last good restore point is never the price of the next one: nothing old is removed before the new point is
published, on the pool as on the remotes. A remote that fails drops out; a VM fails when none is left, or when the
pool does. Whatever is interrupted leaves only things that the next run recognises.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xobackup.engine import events
from xobackup.engine.active import Active, marked_active
from xobackup.engine.cancel import CancelToken
from xobackup.engine.context import RunContext
from xobackup.engine.disk_transfer import Shared
from xobackup.engine.errors import VmRefused
from xobackup.engine.full.backup import FullBackup
from xobackup.engine.full.transfer import Exported
from xobackup.engine.phases import phase
from xobackup.engine.plan import VmPlan, vm_data
from xobackup.engine.prepare import Preparation
from xobackup.engine.publish import Surroundings, draft
from xobackup.engine.purge import purge
from xobackup.engine.survey import Survey
from xobackup.engine.taking.attempt import Taking
from xobackup.engine.taking.marks import mark_exported
from xobackup.engine.taking.migration import migration_blocked
from xobackup.engine.taking.taken import Taken
from xobackup.engine.target import SINK_ERRORS, Target, Targets
from xobackup.engine.tidy import expire_points, remove_served_snapshots
from xobackup.engine.transfer import Transfer
from xobackup.engine.transferred import Transferred
from xobackup.engine.view import VmView
from xobackup.xapi.errors import XapiError

if TYPE_CHECKING:
    from xobackup.repository.metadata import RestorePoint


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
        self._taking = Taking(
            context, self._prepared, cancel=self._cancel, warn=self._warn, remarks=self.done.warnings
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
                    taken = self._taking.take(plan)
                    plan = self._taking.match(plan, taken)
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
            # Once a remote was asked to publish, only a look at it tells whether it did (the connection may have
            # broken right after): then the next run decides.
            if taken is not None and not self._announced:
                self._taking.drop(taken)
        if self._job.settings.purge_snapshot_data:
            with self._phase("purge"):
                done, points = self.done.transferred.done, self.done.points
                vm_uuid = self._prepared.vm.uuid
                purge(self._context, vm_uuid, taken, done=done, published=points, warn=self._warn)
        with self._phase("retention"):
            self._let_go()

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
