"""The disks of a VM on their way from its snapshot into the remotes.

Per disk and route: one export stream is parsed as it arrives and every remote of the route gets each block. A stream
counts only when it was whole (length, trailing footer), the pool's task says success, and a remote's disk is durable.
When the pool cannot compute a delta the disk is read again as a full, and says why. A remote that fails drops out of
this VM's backup; the others go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vhd.block import BLOCK_BYTES, BufferPool
from vhd.footer import DiskType
from vhd.stream import VhdStream
from xobackup.engine import events, keys
from xobackup.engine.base import Full, Route
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import AllSinksFailed, Cancelled, TransferMismatch
from xobackup.engine.plan import DiskPlan
from xobackup.engine.progress import Meter
from xobackup.engine.pump import pump
from xobackup.engine.target import SINK_ERRORS
from xobackup.engine.transferred import DiskDone, Transferred, abort
from xobackup.engine.world import World
from xobackup.xapi.errors import TransferCancelled, XapiError
from xobackup.xapi.failures import full_needed
from xobackup.xapi.transfer import VdiExport, open_export

if TYPE_CHECKING:
    from xobackup.engine.snapshot import Taken
    from xobackup.engine.target import Target
    from xobackup.engine.view import PoolSnapshot
    from xobackup.repository.writer import DiskWriter
    from xobackup.xapi.session import Session

KIND_OF_STREAM = "kind of stream"


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
    ) -> None:
        self._world = world
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
            self._route(work, BufferPool(buffers), meter)
        except AllSinksFailed as error:
            for remote, cause in error.failures.items():
                if not isinstance(cause, SINK_ERRORS):
                    raise cause from error
                self._drop(remote, cause)
            if set(self._targets) <= set(self.outcome.dropped):
                raise  # nobody is left, on any route
        finally:
            self._world.progress.drop(meter)

    def _route(self, work: _Work, pool: BufferPool, meter: Meter) -> None:
        base = work.route.base
        if base is not None:
            try:
                self._move(work, pool, meter, base_ref=base.vdi_ref)
            except (XapiError, TransferMismatch) as error:
                if not _delta_impossible(error, base):
                    raise
                self._say_full(work, Full.DELTA_FAILED, f"the pool cannot compute the delta: {error}")
            else:
                return
        elif work.route.full is not None and not work.route.full.expected:
            self._say_full(work, work.route.full, work.route.reason)
        self._move(work, pool, meter, base_ref=None)

    def _say_full(self, work: _Work, why: Full, reason: str) -> None:
        self._world.journal.write(
            events.FellBackToFull(
                vm=self._vm_uuid, disk=work.plan.disk.vdi_uuid, disk_name=work.name, why=why.value, reason=reason
            )
        )

    def _move(self, work: _Work, pool: BufferPool, meter: Meter, *, base_ref: str | None) -> None:
        started_s = self._world.clock.monotonic_s()
        writers = self._begin(work, delta=base_ref is not None)
        try:
            blocks = self._receive(work, writers, pool, meter, base_ref=base_ref)
            for remote in list(writers):
                self._finish(work, remote, writers, delta=base_ref is not None)
        finally:
            for writer in writers.values():
                abort(writer)
        with self._lock:
            self.outcome.read_bytes += blocks * BLOCK_BYTES
        self._world.journal.write(
            events.DiskTransferred(
                vm=self._vm_uuid,
                disk=work.plan.disk.vdi_uuid,
                disk_name=work.name,
                mode="full" if base_ref is None else "delta",
                base=work.route.base.vdi_uuid if base_ref is not None and work.route.base else "",
                remotes=[one for one in work.route.remotes if one not in self.outcome.dropped],
                blocks=blocks,
                read_bytes=blocks * BLOCK_BYTES,
                duration_s=self._world.clock.monotonic_s() - started_s,
                bottleneck=meter.snapshot().bottleneck,
            )
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
        self,
        work: _Work,
        writers: dict[str, DiskWriter],
        pool: BufferPool,
        meter: Meter,
        *,
        base_ref: str | None,
    ) -> int:
        label = keys.task_label(self._run_id, f"export of {work.name}")
        self._cancel.check()
        try:
            with (
                open_export(
                    self._session,
                    work.vdi_ref,
                    base_ref=base_ref,
                    task_label=label,
                    should_stop=lambda: self._cancel.cancelled,
                ) as export,
                self._cancel.waking(export.cancel),
            ):
                stream = VhdStream(_timed(export, meter), name=f"export of disk {work.name}")
                stream.begin()
                check_stream(stream, work.vdi, delta=base_ref is not None)
                meter.begin("transfer", total_bytes=len(stream.block_indexes()) * BLOCK_BYTES)
                pumped = pump(
                    stream.blocks(pool),
                    list(writers.items()),
                    pool=pool,
                    meter=meter,
                    throttle=self._world.throttle,
                    cancel=self._cancel,
                    what=f"disk {work.name}",
                )
                export.finish()
        except TransferCancelled:
            self._cancel.check()
            raise
        for remote, error in pumped.failures.items():
            if not isinstance(error, SINK_ERRORS):
                raise error
            self._drop(remote, error)
            abort(writers.pop(remote))
        return pumped.blocks

    def _finish(self, work: _Work, remote: str, writers: dict[str, DiskWriter], *, delta: bool) -> None:
        """Make one remote's disk durable; its failure drops the remote."""
        try:
            result = writers[remote].finish()
        except SINK_ERRORS as error:
            self._drop(remote, error)
            abort(writers.pop(remote))
            return
        base = work.route.base if delta else None
        done = DiskDone(
            live_uuid=work.plan.disk.vdi_uuid,
            remote=remote,
            delta=delta,
            base_uuid=base.vdi_uuid if base else "",
            chain_length=base.chain_length + 1 if base else 0,
            result=result,
        )
        with self._lock:
            self.outcome.done.append(done)
            self.outcome.writers.setdefault(remote, []).append(writers.pop(remote))


def _delta_impossible(error: XapiError | TransferMismatch, base: PoolSnapshot) -> bool:
    """Whether the pool refuses the delta but would give a full."""
    if isinstance(error, TransferMismatch):
        return error.what == KIND_OF_STREAM
    return full_needed(error, base=(base.vdi_ref, base.vdi_uuid))


def check_stream(stream: VhdStream, vdi: Mapping[str, Any], *, delta: bool) -> None:
    """Whether what the pool sends is what was asked for: the size, and a delta only when there is a base."""
    expected = int(vdi["virtual_size"])
    rounded = -(-expected // BLOCK_BYTES) * BLOCK_BYTES  # how raw sources are announced
    if stream.virtual_size_bytes not in (expected, rounded):
        raise TransferMismatch("virtual size", expected, stream.virtual_size_bytes)
    kind = DiskType.DIFFERENCING if delta else DiskType.DYNAMIC
    if stream.footer.disk_type != kind:
        raise TransferMismatch(KIND_OF_STREAM, kind.name.lower(), DiskType(stream.footer.disk_type).name.lower())


def _timed(export: VdiExport, meter: Meter) -> Callable[[memoryview], int]:
    """The export's ``readinto``, counting the time it takes as the source's."""

    def read_into(buffer: memoryview) -> int:
        before = time.perf_counter()
        count = export.readinto(buffer)
        meter.busy("source", time.perf_counter() - before)
        return count

    return read_into
