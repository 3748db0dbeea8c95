"""The backup of one VM: lock, look, plan, snapshot, transfer, publish, let go of what is old. Only the order is here.

The last good restore point is never the price of the next one: nothing old is removed before the new point is
published, on the pool as on the remotes. A remote that fails drops out; a VM fails when none is left, or when the
pool does. Whatever is interrupted leaves only things that the next run recognises.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from xobackup.clock import utc
from xobackup.engine import events
from xobackup.engine.active import Active, marked_active
from xobackup.engine.base import RemoteTip
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import RunLocked, VmRefused, VmSkipped
from xobackup.engine.job import Job
from xobackup.engine.phases import phase
from xobackup.engine.plan import TipsByDisk, VmPlan, no_disks, plan_vm, unhealthy, vm_data
from xobackup.engine.publish import Surroundings, draft
from xobackup.engine.recover import clean_locked
from xobackup.engine.removal import remove_snapshot
from xobackup.engine.snapshot import Taken, mark_exported, migration_blocked, reset_marks, take_snapshot
from xobackup.engine.survey import Survey, survey
from xobackup.engine.target import SINK_ERRORS, Target, Targets
from xobackup.engine.tidy import expire_points, remove_served_snapshots
from xobackup.engine.transfer import Transfer, Transferred
from xobackup.engine.view import VmView
from xobackup.engine.world import World
from xobackup.repository.errors import LockHeld
from xobackup.xapi.errors import XapiError

if TYPE_CHECKING:
    from xobackup.repository.repository import Repository
    from xobackup.xapi.session import Session

POLL_CHAINS_S = 15.0
CLOCK_BEHIND_MAX_S = 5.0
"""A newest point that much ahead is waited for; more means that a clock is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What all VMs of one pool share in a run."""

    world: World
    job: Job
    run_id: str
    session: Session
    pool: str
    pool_uuid: str
    repositories: Mapping[str, Repository]


@dataclass(slots=True)
class Done:
    """What came of a VM's backup; filled as it goes, so that a failure tells what was reached before it."""

    points: dict[str, str] = field(default_factory=dict)
    transferred: Transferred = field(default_factory=Transferred)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    merged_blocks: int = 0


class VmBackup:
    """One attempt for one VM."""

    def __init__(self, context: RunContext, vm: VmView, *, attempt: int = 1) -> None:
        self._context = context
        self._world = context.world
        self._job = context.job
        self._session = context.session
        self._vm = vm
        self._attempt = attempt
        self._cancel = CancelToken()
        self.done = Done()
        self._targets = Targets(f"vm {vm.name}", self._fail)

    def run(self) -> Done:
        """Raises what makes the whole VM fail; :attr:`done` tells what was reached nevertheless."""
        active = Active(
            run_id=self._context.run_id,
            job_id=self._job.id,
            job=self._job.name,
            pool_uuid=self._context.pool_uuid,
            vm_uuid=self._vm.uuid,
            since_s=self._world.clock.now_s(),
        )
        with (
            self._world.cancel.waking(lambda: self._cancel.cancel(self._world.cancel.reason)),
            ExitStack() as held,
        ):
            with self._phase("prepare"):
                self._lock(held)
                held.enter_context(marked_active(self._world.active_directory, active))
                self._targets.each(self._finish_interrupted)
                seen, plan = self._plan()
            planned = events.VmPlanned(vm=self._vm.uuid, vm_name=plan.vm.name, plan=vm_data(plan))
            self._world.journal.write(planned)
            self._back_up(seen, plan)
        return self.done

    def _lock(self, held: ExitStack) -> None:
        """The VM's lock on every remote; one that fails drops out."""
        failures: dict[str, BaseException] = {}
        purpose, wait_s = f"backup job {self._job.name}", self._job.settings.lock_wait_s
        for name, repository in self._context.repositories.items():
            try:
                directory = held.enter_context(repository.lock(self._vm.uuid, timeout_s=wait_s, purpose=purpose))
                self._targets.add(Target(name, directory))
            except SINK_ERRORS as error:
                failures[name] = error
        if not len(self._targets) and any(isinstance(error, LockHeld) for error in failures.values()):
            told = "; ".join(str(error) for error in failures.values())
            raise RunLocked(told, hint="another backup, merge or clean works on this VM; try again when it is done")
        self._targets.drop(failures)
        self._targets.require()

    def _finish_interrupted(self, target: Target) -> None:
        """Interrupted merges and parts of disks on one remote."""
        for refusal in target.merge(cancel=self._cancel.check).refusals:
            self._warn(f"{refusal.lineage}: {refusal.reason}", remote=target.name)

    def _plan(self) -> tuple[Survey, VmPlan]:
        """Look at pool and remotes, and decide. Raises when there is nothing to do, or the VM cannot be backed up."""
        seen, vm = self._look()
        tips = self._tips(vm)
        if len(self._targets) == len(self._job.remotes):
            published: dict[str, list[str]] = {}
            for found in tips.values():
                for name, tip in found.items():
                    published.setdefault(tip.snapshot_uuid, []).append(name)
            cleaned = clean_locked(
                self._session,
                vm.ref,
                vm.uuid,
                job_id=self._job.id,
                published=published,
                journal=self._world.journal,
            )
            if cleaned:
                seen, vm = self._look()
        deadline_s = self._world.clock.monotonic_s() + self._job.settings.chain_wait_s
        while True:
            plan = plan_vm(self._job, vm, tips)
            skipped = no_disks(plan)
            if skipped is not None:
                raise VmSkipped(skipped.reason)
            if not plan.refusal:
                return seen, plan
            waiting = unhealthy(tuple(disk.disk for disk in plan.disks), self._job.settings.uncoalesced_max)
            if plan.refusal != waiting or self._world.clock.monotonic_s() >= deadline_s:
                raise VmRefused(plan.refusal)
            self._cancel.sleep(self._world.clock, POLL_CHAINS_S)
            seen, vm = self._look()

    def _look(self) -> tuple[Survey, VmView]:
        seen = survey(self._session, self._context.pool)
        vm = seen.vm_view(self._vm.uuid)
        if vm is None:
            raise VmRefused(f"the pool no longer has vm {self._vm.uuid}")
        self._vm = vm
        return seen, vm

    def _tips(self, vm: VmView) -> TipsByDisk:
        """What every remote has of every disk."""
        found: dict[str, dict[str, RemoteTip]] = {}

        def ask(target: Target) -> None:
            found[target.name] = {disk.vdi_uuid: target.tip(self._job.id, disk.vdi_uuid) for disk in vm.disks}

        self._targets.each(ask)
        return {
            disk.vdi_uuid: {target.name: found[target.name][disk.vdi_uuid] for target in self._targets}
            for disk in vm.disks
        }

    def _back_up(self, seen: Survey, plan: VmPlan) -> None:
        live_record = dict(seen.records["VM"][self._vm.ref])
        taken: Taken | None = None
        try:
            with migration_blocked(self._session, self._vm.ref, self._job.id):
                with self._phase("snapshot"):
                    taken = self._snapshot(plan)
                    plan = self._match(plan, taken)
                with self._phase("transfer"):
                    self._transfer(plan, taken)
            with self._phase("publish"):
                self._publish(taken, live_record)
        finally:
            if taken is not None and not self.done.points:
                self._drop_snapshot(taken)
        with self._phase("retention"):
            self._let_go()

    def _drop_snapshot(self, taken: Taken) -> None:
        """No remote has it: nothing will ever continue from this snapshot. The next run removes what stays."""
        with contextlib.suppress(XapiError):
            remove_snapshot(self._session, taken.ref, dict(taken.vdis.values()))

    def _snapshot(self, plan: VmPlan) -> Taken:
        reset_marks(self._session, self._vm)
        left_out = {disk.uuid for disk in plan.skipped_disks}
        return take_snapshot(
            self._session,
            self._vm,
            self._job,
            run_id=self._context.run_id,
            moment=self._moment(),
            ignore_vdi_refs=[disk.vdi_ref for disk in self._vm.disks if disk.vdi_uuid in left_out],
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
        _, vm = self._look()
        again = plan_vm(self._job, vm, self._tips(vm))
        disks = tuple(disk for disk in again.disks if disk.disk.vdi_uuid in taken.vdis)
        missing = set(taken.vdis) - {disk.disk.vdi_uuid for disk in disks}
        if missing or not disks:
            raise VmRefused(f"its disks changed during the snapshot ({', '.join(sorted(missing)) or 'none left'})")
        for gone in sorted(planned - set(taken.vdis)):
            self._warn(f"disk {gone} was detached before the snapshot and is not in this restore point")
        return VmPlan(vm=vm, disks=disks, skipped_disks=again.skipped_disks)

    def _transfer(self, plan: VmPlan, taken: Taken) -> None:
        transfer = Transfer(
            self._world,
            self._session,
            vm_uuid=self._vm.uuid,
            job_id=self._job.id,
            run_id=self._context.run_id,
            timestamp_ms=int(taken.moment.timestamp()) * 1000,
            targets=self._targets.by_name(),
            cancel=self._cancel,
        )
        settings = self._job.settings
        try:
            transfer.run(plan.disks, taken, disks_max=settings.disks_max, buffers=settings.buffers_per_disk)
        finally:
            self.done.transferred = transfer.outcome
        self._targets.drop(transfer.outcome.dropped)
        self._targets.require()

    def _publish(self, taken: Taken, live_record: dict[str, object]) -> None:
        around = Surroundings(
            srs=self._session.records("SR"),
            networks=self._session.records("network"),
            pifs=self._session.records("PIF"),
        )

        def publish(target: Target) -> None:
            self._cancel.check()
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
            point = target.publish(described)
            self.done.points[target.name] = point.id
            self.done.transferred.writers.pop(target.name, None)
            event = events.PointPublished(vm=self._vm.uuid, remote=target.name, point=point.id, size_bytes=point.size)
            self._world.journal.write(event)

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
            _, vm = self._look()
            tips = self._tips(vm)
            ends = {
                target.name: [found[target.name].snapshot_uuid for found in tips.values()] for target in self._targets
            }
            missed = {remote.name for remote in self._job.remotes if remote.name not in self._targets}
            remove_served_snapshots(self._context, vm, ends, missed=missed, warn=self._warn)
        except (XapiError, VmRefused, *SINK_ERRORS) as error:
            self._warn(f"old snapshots stay on the pool for now: {error}")
        for target in self._targets:
            try:
                self.done.merged_blocks += expire_points(self._context, self._vm, target, self._cancel, self._warn)
            except SINK_ERRORS as error:
                self._targets.drop({target.name: error})

    def _fail(self, remote: str, error: BaseException) -> None:
        self.done.errors.append(f"{remote}: {error}")
        event = events.Failed(
            vm=self._vm.uuid,
            remote=remote,
            error=str(error),
            error_class=type(error).__name__,
            hint=getattr(error, "hint", "") or "",
        )
        self._world.journal.write(event)

    def _warn(self, message: str, *, remote: str = "") -> None:
        self.done.warnings.append(f"{remote}: {message}" if remote else message)
        self._world.journal.write(events.Warned(vm=self._vm.uuid, remote=remote, message=message))

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        with phase(self._world, self._vm.uuid, name, attempt=self._attempt):
            self._cancel.check()
            yield


__all__ = ["Done", "RunContext", "VmBackup"]
