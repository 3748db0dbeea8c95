"""The backup of one VM, in stages: prepare, freeze, snapshot, thaw, transfer, publish, let go of what is old.

Whoever conducts takes the stages in this order; those of several VMs may be interleaved, so that the snapshots of a
group lie close together. What a stage holds (locks, the block of migration, the snapshot) is kept until a later
stage is done with it or the backup is left, whatever happens, from any thread.

The last good restore point is never the price of the next one: nothing old is removed before the new point is
published, on the pool as on the remotes. A remote that fails drops out; a VM fails when none is left, or when the
pool does. Whatever is interrupted leaves only things that the next run recognises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypedDict

from xobackup.engine import events
from xobackup.engine.active import Active
from xobackup.engine.cancel import CancelToken
from xobackup.engine.context import RunContext
from xobackup.engine.delta import DeltaBackup
from xobackup.engine.done import Done
from xobackup.engine.errors import VmRefused
from xobackup.engine.full.backup import FullBackup
from xobackup.engine.group.marks import group_marks
from xobackup.engine.hooks.facts import Facts
from xobackup.engine.hooks.freezing import Freezing
from xobackup.engine.job import FULL
from xobackup.engine.leftovers.claim import touching
from xobackup.engine.phases import phase
from xobackup.engine.placing.expire import expire_everywhere
from xobackup.engine.placing.given import is_full
from xobackup.engine.plan import VmPlan, vm_data
from xobackup.engine.prepare import Preparation
from xobackup.engine.purge import purge
from xobackup.engine.snapshots import SnapshotsOnly
from xobackup.engine.taking.attempt import Taking
from xobackup.engine.taking.migration import migration_blocked
from xobackup.engine.taking.taken import Taken
from xobackup.engine.taking.way import method_used
from xobackup.engine.target import SINK_ERRORS, Published, Target, Targets
from xobackup.engine.tidy import remove_served_snapshots
from xobackup.engine.view import SrView, VmView
from xobackup.xapi.errors import XapiError


class Parts(TypedDict):
    """What all parts of one attempt share. ``warn`` hears a message and the remote it is about."""

    targets: Targets
    cancel: CancelToken
    warn: Callable[[str, str], None]


class VmBackup:
    """One attempt for one VM. A context manager, see the module's head."""

    def __init__(
        self, context: RunContext, vm: VmView, *, attempt: int = 1, group: str = "", taken: Taken | None = None
    ) -> None:
        """``group``: id of the consistent group; ``taken``: its snapshot of this VM, to :meth:`resume` from."""
        self._context = context
        self._world = context.world
        self._job = context.job
        self._session = context.session
        self._attempt = attempt
        self._given = taken
        self.group = group
        self._cancel = CancelToken()
        self._held = ExitStack()
        self._blocked = ExitStack()
        """Keeps the VM from migrating."""
        self._place = ExitStack()
        """Room for the snapshot, on the pool and its SRs."""
        self._plan: VmPlan | None = None
        self._live_record: dict[str, Any] = {}
        self._moment: datetime | None = None
        self._taken: Taken | None = None
        self._error: BaseException | None = None
        self._dropped = False
        self.mode = self._job.settings.mode
        self.done = Done()
        self._targets = Targets(f"vm {vm.name}", self._dropped_out, needed=bool(self._job.destinations))
        parts: Parts = {"targets": self._targets, "cancel": self._cancel, "warn": self._warn_of}
        self._prepared = Preparation(context, vm, **parts, kept=taken.ref if taken is not None else "")
        self._taking = Taking(
            context,
            self._prepared,
            cancel=self._cancel,
            warn=self.warn,
            fail=lambda error: self._fail("", error),
            remarks=self.done.warnings,
        )
        self._freezing = Freezing(context, self.facts, cancel=self._cancel, warn=self.warn, results=self.done.hooks)
        self._way: DeltaBackup | FullBackup | SnapshotsOnly = (
            SnapshotsOnly(self._session, self._cancel)
            if not self._job.destinations
            else FullBackup(context, self.done.exported, **parts)
            if self.mode == FULL
            else DeltaBackup(context, self.done, **parts)
        )

    def __enter__(self) -> Self:
        self._held.enter_context(
            self._world.cancel.waking(lambda: self._cancel.cancel(self._world.cancel.reason)),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._error = error
        placement = self._prepared.placement
        if placement is not None and error is not None and is_full(error):
            self._context.given.found_full(self._prepared.vm.uuid, placement.remote, error)
        self._held.close()

    def another_remote(self, error: BaseException) -> bool:
        """The remote chosen turned out to be full, and there is one that was not tried in this run."""
        if self._prepared.placement is None or not is_full(error):
            return False
        tried = {self._prepared.placement.remote, *self._context.given.full(self._prepared.vm.uuid)}
        return bool(set(self._context.repositories) - tried)

    def run(self) -> Done:
        """All stages. Raises what makes the whole VM fail; :attr:`done` tells what was reached nevertheless."""
        for stage in self.stages:
            stage()
        return self.done

    @property
    def stages(self) -> tuple[Callable[[], None], ...]:
        """In their order."""
        return (self.prepare, self.freeze, self.snapshot, self.thaw, self.transfer, self.publish, self.let_go)

    def prepare(self) -> None:
        """Lock the VM's backups, clean up after earlier runs, look and plan. The pool's VM is not touched yet."""
        active = Active(
            run_id=self._context.run_id,
            job_id=self._job.id,
            job=self._job.name,
            pool_uuid=self._context.pool_uuid,
            vm_uuid=self._prepared.vm.uuid,
            since_s=self._world.clock.now_s(),
        )
        with self._phase("prepare"):
            self._prepared.lock(self._held)
            vm_ref = self._prepared.vm.ref
            self._held.enter_context(touching(self._world.active_directory, self._session, active, vm_ref))
            self._prepared.alone()
            self._targets.each(self._prepared.finish_interrupted)
            seen, self._plan = self._prepared.plan()
        self._live_record = dict(seen.records["VM"][self._prepared.vm.ref])
        planned = events.VmPlanned(vm=self._prepared.vm.uuid, vm_name=self._plan.vm.name, plan=vm_data(self._plan))
        self._world.journal.write(planned)

    def freeze(self) -> None:
        """Make the VM ready for its snapshot: it may not migrate, hooks quiesce what runs in it, and it is shut down
        where that is asked for."""
        self._held.callback(self._drop_snapshot)
        self._held.callback(self._end_taking)
        self._held.enter_context(self._blocked)
        self._blocked.enter_context(migration_blocked(self._session, self._prepared.vm.ref, self._job.id))
        self._held.callback(lambda: self._freezing.thaw(self._error))
        self._held.enter_context(self._place)
        with self._phase("freeze"):
            if not self.group:  # whose places are waited for together (group/place.py)
                self._place.enter_context(self._taking.place(self.plan))
            self._taking.ready(self.plan)
            self._moment = self._taking.moment()
            self._freezing.freeze(self._prepared.vm)
            if self._taking.shut_down(self.plan):
                self._moment = self._taking.moment()

    def resume(self) -> None:
        """In place of freeze, snapshot and thaw: go on from the snapshot of an attempt before."""
        assert self._given is not None
        self._held.callback(self._drop_snapshot)
        self._held.enter_context(self._blocked)
        self._blocked.enter_context(migration_blocked(self._session, self._prepared.vm.ref, self._job.id))
        with self._phase("resume"):
            self._plan = self._taking.match(self.plan, self._given)
            self._taken = self._given

    def snapshot(self) -> None:
        """Take the snapshot."""
        with self._phase("snapshot"), self._place:
            self._taken = self._taking.take(self.plan, self.moment)

    def thaw(self) -> None:
        """End what :meth:`freeze` began, and see what the snapshot holds."""
        with self._phase("thaw"):
            self._freezing.thaw()
            self._plan = self._taking.match(self.plan, self.taken)
            self.done.taken = method_used(self.plan.taking, with_memory=self.taken.memory is not None)
            self.done.memory_uuid = self.taken.memory_uuid

    def transfer(self) -> None:
        """Read the snapshot into the remotes; afterwards the VM may migrate again."""
        with self._phase("transfer"):
            self._way.export(self.plan, self.taken, self._prepared.vm)
        self._end_taking()
        self._blocked.close()

    def publish(self) -> None:
        """A restore point on every remote that has all of it."""
        with self._phase("publish"):
            self._way.publish(self.taken, self._live_record, self._published)
        self._drop_snapshot()

    def let_go(self) -> None:
        """What is old goes, now that the new is safe."""
        if self._job.settings.purge_snapshot_data:
            with self._phase("purge"):
                done, points = self.done.transferred.done, self.done.points
                purge(self._context, self._prepared.vm, self.taken, done=done, published=points, warn=self.warn)
        with self._phase("retention"):
            self._let_go()

    @property
    def moment(self) -> datetime:
        """The snapshot's, known once the VM is frozen."""
        assert self._moment is not None
        return self._moment

    def at(self, moment: datetime) -> None:
        """Give the snapshot a moment that others have too; not before its own."""
        assert moment >= self.moment
        self._moment = moment

    def join(self, members: Sequence[str]) -> None:
        """The snapshot belongs to the group, with these VMs (uuids)."""
        self._taken = replace(self.taken, group_marks=group_marks(self.group, members))

    def keep(self) -> Taken | None:
        """The group's snapshot stays when this is left, if nothing but it is needed to try again."""
        taken = self._taken
        if taken is None or not taken.group_marks or not taken.snapshot or self._way.announced or self._dropped:
            return None
        self._dropped = True
        return taken

    @property
    def srs(self) -> list[SrView]:
        """Where the snapshot will have disks; known once the VM is prepared."""
        return self._taking.srs(self.plan)

    @property
    def plan(self) -> VmPlan:
        """Known once the VM is prepared."""
        assert self._plan is not None
        return self._plan

    @property
    def taken(self) -> Taken:
        """Known once there is a snapshot."""
        assert self._taken is not None
        return self._taken

    def _end_taking(self) -> None:
        """What was read is read: a VM that was shut down runs again from here on."""
        self._taking.end()
        self.done.downtime_s = self._taking.downtime_s

    def _drop_snapshot(self) -> None:
        """Nothing will ever continue from it: no remote can have it, or it was for a full backup.

        Once a remote was asked to publish, only a look at it tells whether it did (the connection may have broken
        right after): then the next run decides.
        """
        if self._taken is not None and not self._dropped and not self._way.announced:
            self._dropped = True
            self._taking.drop(self._taken)

    def _published(self, target: Target, point: Published) -> None:
        self.done.points[target.name] = point.id
        event = events.PointPublished(
            vm=self._prepared.vm.uuid, remote=target.name, point=point.id, size_bytes=point.size
        )
        self._world.journal.write(event)
        if problem := target.not_locked(point):
            self.warn(problem, remote=target.name, code="not-locked")

    def _let_go(self) -> None:
        """What is old goes, now that the new is safe. Failing here costs space, not backups."""
        try:
            _, vm = self._prepared.look()
            tips = self._prepared.tips(vm)
            ends = {
                target.name: [found[target.name].snapshot_uuid for found in tips.values()] for target in self._targets
            }
            missed = {name for name in self._job.destinations if name not in self._targets}
            if self._prepared.placement is not None:
                missed = set()  # the chain is where this point went, and continues there
            self.done.snapshots = remove_served_snapshots(self._context, vm, ends, missed=missed, warn=self.warn)
        except (XapiError, VmRefused, *SINK_ERRORS) as error:
            self.warn(f"old snapshots stay on the pool for now: {error}")
        self.done.merged_blocks += expire_everywhere(
            self._context, self._prepared.vm, self._targets, self._cancel, self._warn_of
        )

    @property
    def facts(self) -> Facts:
        """What hooks are told about this attempt."""
        context, vm = self._context, self._prepared.vm
        return Facts(
            job=self._job.name,
            job_id=self._job.id,
            run=context.run_id,
            pool=context.pool,
            vm_uuid=vm.uuid,
            vm_name=vm.name,
            points=" ".join(f"{remote}:{point}" for remote, point in sorted(self.done.points.items())),
            group=self.group,
            attempt=self._attempt,
        )

    def _dropped_out(self, remote: str, error: BaseException) -> None:
        if self._prepared.choosing:
            self.warn(f"not to be chosen now: {error}", remote=remote)
        else:
            self._fail(remote, error)

    def _fail(self, remote: str, error: BaseException) -> None:
        self.done.errors.append(f"{remote}: {error}" if remote else str(error))
        event = events.Failed(
            vm=self._prepared.vm.uuid,
            remote=remote,
            error=str(error),
            error_class=type(error).__name__,
            hint=getattr(error, "hint", "") or "",
        )
        self._world.journal.write(event)

    def warn(self, message: str, *, remote: str = "", code: str = "") -> None:
        self.done.warnings.append(f"{remote}: {message}" if remote else message)
        self._world.journal.write(events.Warned(vm=self._prepared.vm.uuid, remote=remote, message=message, code=code))

    def _warn_of(self, message: str, remote: str) -> None:
        self.warn(message, remote=remote)

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        with phase(self._world, self._prepared.vm.uuid, name, attempt=self._attempt):
            self._cancel.check()
            yield


__all__ = ["Done", "RunContext", "VmBackup"]
