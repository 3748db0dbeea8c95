"""The disks of a VM on their way from its snapshot into the remotes.

Per disk and route the pool is read once, by the best way there is (:mod:`xobackup.engine.reading.ladder`), and every
remote of the route gets each block. A rung that does not work is said, what it wrote is taken back, and the disk
begins again on the next one. A disk counts only when what was read was whole and a remote's disk is durable. A remote
that fails drops out of this VM's backup; the others go on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vhd.block import BufferPool
from xobackup.engine import events, keys
from xobackup.engine.base import Full, Route
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import AllSinksFailed, Cancelled, VmRefused
from xobackup.engine.fulls import FullsLimit
from xobackup.engine.plan import DiskPlan
from xobackup.engine.progress import Meter
from xobackup.engine.pump import pump
from xobackup.engine.reading.choice import source_of
from xobackup.engine.reading.ladder import Ladder, Via, below, told
from xobackup.engine.reading.slots import NbdSlots
from xobackup.engine.reading.source import Source, Subject, closed
from xobackup.engine.reading.trouble import STEPPING, trouble_of
from xobackup.engine.target import SINK_ERRORS
from xobackup.engine.transferred import DiskDone, Transferred, abort
from xobackup.engine.world import World
from xobackup.xapi.errors import TransferCancelled
from xobackup.xapi.nbd.errors import NbdCancelled

if TYPE_CHECKING:
    from xobackup.engine.snapshot import Taken
    from xobackup.engine.target import Target
    from xobackup.repository.base_disk import BaseDisk
    from xobackup.repository.writer import DiskWriter
    from xobackup.xapi.nbd.options import NbdOptions
    from xobackup.xapi.session import Session


@dataclass(frozen=True, slots=True)
class _Work:
    """One export to make."""

    plan: DiskPlan
    route: Route
    vdi_ref: str
    vdi: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.plan.disk.name or self.plan.disk.vdi_uuid


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moved:
    """What went through on one rung."""

    blocks: int
    received_bytes: int
    notes: list[str]


class Transfer:
    """Moves one VM's disks; make one per attempt and :meth:`run` it."""

    def __init__(
        self,
        world: World,
        session: Session,
        *,
        vm_uuid: str,
        job_id: str,
        run_id: str,
        timestamp_ms: int,
        targets: Mapping[str, Target],
        cancel: CancelToken,
        nbd: NbdOptions,
        slots: NbdSlots,
        fulls: FullsLimit,
        warn: Callable[[str, str], None],
    ) -> None:
        """``warn`` hears a message and the remote it is about."""
        self._world = world
        self._nbd = nbd
        self._slots = slots
        self._fulls = fulls
        self._warn = warn
        self._session = session
        self._vm_uuid = vm_uuid
        self._job_id = job_id
        self._run_id = run_id
        self._timestamp_ms = timestamp_ms
        self._targets = targets
        self._cancel = cancel
        self._lock = threading.Lock()
        self.outcome = Transferred()

    def run(self, plans: Sequence[DiskPlan], taken: Taken, *, disks_max: int, buffers: int) -> Transferred:
        """All disks, ``disks_max`` at a time. Raises the first error that concerns more than single remotes."""
        works = [
            _Work(
                plan=plan,
                route=route,
                vdi_ref=taken.vdis[plan.disk.vdi_uuid][0],
                vdi=taken.vdis[plan.disk.vdi_uuid][1],
            )
            for plan in plans
            for route in plan.routes
        ]
        with ThreadPoolExecutor(max_workers=max(1, min(disks_max, len(works))), thread_name_prefix="disk") as threads:
            futures = [threads.submit(self._one, work, buffers) for work in works]
            done, pending = wait(futures, return_when=FIRST_EXCEPTION)
            if any(future.exception() for future in done):
                self._cancel.cancel("another disk of this VM failed")
                for future in pending:
                    future.cancel()
        failed = [error for future in futures if not future.cancelled() and (error := future.exception())]
        if failed:
            self.outcome.discard(list(self.outcome.writers))
            raise next((error for error in failed if not isinstance(error, Cancelled)), failed[0])
        self.outcome.discard(self.outcome.dropped)
        return self.outcome

    def _one(self, work: _Work, buffers: int) -> None:
        meter = self._world.progress.meter(work.name, stage="waiting")
        try:
            self._route(work, buffers, meter)
        except AllSinksFailed as error:
            for remote, cause in error.failures.items():
                if not isinstance(cause, SINK_ERRORS):
                    raise cause from error
                self._drop(remote, cause)
            if set(self._targets) <= set(self.outcome.dropped):
                raise  # nobody is left, on any route
        finally:
            self._world.progress.drop(meter)

    def _route(self, work: _Work, buffers: int, meter: Meter) -> None:
        """Down the ladder, until a rung works."""
        if work.route.full is not None and not work.route.full.expected:
            self._say_full(work, work.route.full, work.route.reason)
        ladder = work.route.ladder
        while (via := ladder.first) is not None:
            try:
                self._move(work, ladder, buffers, meter)
                return
            except STEPPING as error:
                self._cancel.check()
                trouble = trouble_of(error, via, work.route.base)
                lower = below(ladder, trouble, str(error)) if trouble is not None else None
                if lower is None:
                    raise
                self._say_lower(work, via, lower, str(error))
                ladder = lower
        raise VmRefused(f"disk {work.name}: {'; '.join(told(ladder.passed))}")

    def _say_lower(self, work: _Work, via: Via, lower: Ladder, reason: str) -> None:
        assert lower.first is not None
        self._world.journal.write(
            events.SteppedDown(
                vm=self._vm_uuid,
                disk=work.plan.disk.vdi_uuid,
                disk_name=work.name,
                via=via.value,
                to=lower.first.value,
                reason=reason,
            )
        )
        if via.delta and not lower.first.delta:
            self._say_full(work, Full.DELTA_FAILED, f"the pool cannot compute the delta: {reason}")

    def _say_full(self, work: _Work, why: Full, reason: str) -> None:
        self._fulls.claim(self._vm_uuid, f"disk {work.name}: {reason}")
        self._world.journal.write(
            events.FellBackToFull(
                vm=self._vm_uuid, disk=work.plan.disk.vdi_uuid, disk_name=work.name, why=why.value, reason=reason
            )
        )

    def _move(self, work: _Work, ladder: Ladder, buffers: int, meter: Meter) -> None:
        """One rung: read the disk that way, and write it to every remote of the route."""
        via = ladder.first
        assert via is not None
        started_s = self._world.clock.monotonic_s()
        source = source_of(via, self._subject(work, meter))
        source.prepare()
        writers = self._begin(work, delta=via.delta)
        try:
            pool = BufferPool(source.buffers or buffers)
            moved = self._receive(work, source, writers, pool, meter)
            for remote in list(writers):
                self._finish(work, remote, writers, via=via)
        finally:
            for writer in writers.values():
                abort(writer)
        with self._lock:
            self.outcome.read_bytes += moved.received_bytes
        self._world.journal.write(
            events.DiskTransferred(
                vm=self._vm_uuid,
                disk=work.plan.disk.vdi_uuid,
                disk_name=work.name,
                mode="delta" if via.delta else "full",
                via=via.value,
                not_via=told(ladder.passed),
                base=work.route.base.vdi_uuid if via.delta and work.route.base else "",
                remotes=[one for one in work.route.remotes if one not in self.outcome.dropped],
                blocks=moved.blocks,
                read_bytes=moved.received_bytes,
                duration_s=self._world.clock.monotonic_s() - started_s,
                bottleneck=meter.snapshot().bottleneck,
                notes=moved.notes,
            )
        )

    def _subject(self, work: _Work, meter: Meter) -> Subject:
        return Subject(
            session=self._session,
            vdi_ref=work.vdi_ref,
            vdi=work.vdi,
            live_ref=work.plan.disk.vdi_ref,
            name=work.name,
            task_label=keys.task_label(self._run_id, f"export of {work.name}"),
            base=work.route.base,
            nbd=self._nbd,
            slots=self._slots,
            cancel=self._cancel,
            meter=meter,
        )

    def _begin(self, work: _Work, *, delta: bool) -> dict[str, DiskWriter]:
        """A writer on every remote of the route that is still with us."""
        writers: dict[str, DiskWriter] = {}
        base = work.route.base if delta else None
        try:
            for remote in work.route.remotes:
                if remote in self.outcome.dropped:
                    continue
                try:
                    writers[remote] = self._targets[remote].begin_disk(
                        self._job_id,
                        work.plan.disk.vdi_uuid,
                        timestamp_ms=self._timestamp_ms,
                        snapshot_uuid=str(work.vdi["uuid"]),
                        virtual_size_bytes=int(work.vdi["virtual_size"]),
                        base_uuid=base.vdi_uuid if base else "",
                    )
                except SINK_ERRORS as error:
                    self._drop(remote, error)
        except BaseException:
            for writer in writers.values():
                abort(writer)
            raise
        if not writers:
            failures = {one: self.outcome.dropped[one] for one in work.route.remotes}
            raise AllSinksFailed(f"disk {work.name}", failures)
        return writers

    def _drop(self, remote: str, error: BaseException) -> None:
        with self._lock:
            self.outcome.dropped.setdefault(remote, error)

    def _receive(
        self, work: _Work, source: Source, writers: dict[str, DiskWriter], pool: BufferPool, meter: Meter
    ) -> _Moved:
        self._cancel.check()
        opened = ExitStack()
        try:
            with opened, source.opened(lambda: self._parents(writers, opened)) as flow:
                meter.begin("transfer", total_bytes=flow.total_bytes)
                blocks = flow.blocks(pool)
                with closed(blocks):
                    pumped = pump(
                        blocks,
                        list(writers.items()),
                        pool=pool,
                        meter=meter,
                        throttle=self._world.throttle,
                        cancel=self._cancel,
                        cost=flow.cost,
                        what=f"disk {work.name}",
                    )
                flow.finish()
        except (TransferCancelled, NbdCancelled):
            self._cancel.check()
            raise
        for remote, error in pumped.failures.items():
            if not isinstance(error, SINK_ERRORS):
                raise error
            self._drop(remote, error)
            abort(writers.pop(remote))
        for remote, message in flow.warnings:
            self._warn(f"disk {work.name}: {message}", remote)
        return _Moved(blocks=pumped.blocks, received_bytes=flow.received_bytes(), notes=flow.notes())

    def _parents(self, writers: Mapping[str, DiskWriter], opened: ExitStack) -> dict[str, BaseDisk | None]:
        """What the delta continues, on every remote; one where it cannot be opened is told of."""
        parents: dict[str, BaseDisk | None] = {}
        for remote, writer in writers.items():
            try:
                parents[remote] = parent = writer.open_base()
                opened.callback(parent.close)
            except SINK_ERRORS as error:
                parents[remote] = None
                self._warn(f"the disk to continue cannot be read, blocks come from elsewhere: {error}", remote)
        return parents

    def _finish(self, work: _Work, remote: str, writers: dict[str, DiskWriter], *, via: Via) -> None:
        """Make one remote's disk durable; its failure drops the remote."""
        try:
            result = writers[remote].finish()
        except SINK_ERRORS as error:
            self._drop(remote, error)
            abort(writers.pop(remote))
            return
        base = work.route.base if via.delta else None
        done = DiskDone(
            live_uuid=work.plan.disk.vdi_uuid,
            disk_name=work.name,
            remote=remote,
            via=via,
            base_uuid=base.vdi_uuid if base else "",
            chain_length=base.chain_length + 1 if base else 0,
            result=result,
        )
        with self._lock:
            self.outcome.done.append(done)
            self.outcome.writers.setdefault(remote, []).append(writers.pop(remote))
