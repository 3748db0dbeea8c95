"""One disk's transfer for one route: read once, by the best way there is, and written to every remote of the route.

A rung of the ladder (:mod:`xobackup.engine.reading.ladder`) that does not work is said, what it wrote is taken back,
and the disk begins again on the next one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vhd.block import BufferPool
from xobackup.engine import events, keys
from xobackup.engine.base import Full, Route
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import AllSinksFailed, VmRefused
from xobackup.engine.fulls import FullsLimit
from xobackup.engine.limits.sinks import limited_sinks
from xobackup.engine.plan import DiskPlan
from xobackup.engine.probe import Probe
from xobackup.engine.progress import Meter
from xobackup.engine.pump import pump
from xobackup.engine.reading.choice import source_of
from xobackup.engine.reading.ladder import Ladder, Via, below, told
from xobackup.engine.reading.means import Means
from xobackup.engine.reading.source import Flow, Source, Subject, closed
from xobackup.engine.reading.trouble import STEPPING, trouble_of
from xobackup.engine.replication.writer import Expecting
from xobackup.engine.target import SINK_ERRORS
from xobackup.engine.transferred import DiskDone, Transferred, Way, abort
from xobackup.engine.world import World
from xobackup.repository.base_disk import DAMAGED
from xobackup.xapi.errors import TransferCancelled
from xobackup.xapi.nbd.errors import NbdCancelled

if TYPE_CHECKING:
    from xobackup.engine.limits.turnstile import Turnstile
    from xobackup.engine.target import DiskWriter, Target
    from xobackup.repository.base_disk import BaseDisk
    from xobackup.xapi.session import Session


@dataclass(slots=True, kw_only=True)
class Shared:
    """What all transfers of a VM's attempt share. ``warn`` hears a message and the remote it is about."""

    world: World
    session: Session
    vm_uuid: str
    job_id: str
    run_id: str
    timestamp_ms: int
    targets: Mapping[str, Target]
    cancel: CancelToken
    means: Means
    fulls: FullsLimit
    warn: Callable[[str, str], None]
    turnstile: Turnstile
    outcome: Transferred = field(default_factory=Transferred)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def drop(self, remote: str, error: BaseException) -> None:
        """A remote failed: it takes no further part."""
        with self.lock:
            self.outcome.dropped.setdefault(remote, error)


@dataclass(frozen=True, slots=True)
class Work:
    """One disk for one route, and its snapshot."""

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
    probe: Probe


class DiskTransfer:
    """See the module's head."""

    def __init__(self, shared: Shared, work: Work, *, buffers: int, meter: Meter) -> None:
        self._shared = shared
        self._work = work
        self._buffers = buffers
        self._meter = meter

    def run(self) -> None:
        """Down the ladder, until a rung works."""
        if self._work.route.full is not None and not self._work.route.full.expected:
            self._say_full(self._work.route.full, self._work.route.reason)
        ladder = self._work.route.ladder
        while (via := ladder.first) is not None:
            try:
                self._move(ladder)
                return
            except STEPPING as error:
                self._shared.cancel.check()
                trouble = trouble_of(error, via, self._work.route.base)
                lower = below(ladder, trouble, str(error)) if trouble is not None else None
                if lower is None:
                    raise
                self._say_lower(via, lower, str(error))
                ladder = lower
        raise VmRefused(f"disk {self._work.name}: {'; '.join(told(ladder.passed))}")

    def _say_lower(self, via: Via, lower: Ladder, reason: str) -> None:
        assert lower.first is not None
        self._shared.world.journal.write(
            events.SteppedDown(
                vm=self._shared.vm_uuid,
                disk=self._work.plan.disk.vdi_uuid,
                disk_name=self._work.name,
                via=via.value,
                to=lower.first.value,
                reason=reason,
            )
        )
        if via.delta and not lower.first.delta:
            self._say_full(Full.DELTA_FAILED, f"the pool cannot compute the delta: {reason}")

    def _say_full(self, why: Full, reason: str) -> None:
        self._shared.fulls.claim(self._shared.vm_uuid, f"disk {self._work.name}: {reason}")
        self._shared.world.journal.write(
            events.FellBackToFull(
                vm=self._shared.vm_uuid,
                disk=self._work.plan.disk.vdi_uuid,
                disk_name=self._work.name,
                why=why.value,
                reason=reason,
            )
        )

    def _move(self, ladder: Ladder) -> None:
        """One rung: read the disk that way, and write it to every remote of the route."""
        via = ladder.first
        assert via is not None
        started_s = self._shared.world.clock.monotonic_s()
        source = source_of(via, self._subject())
        source.prepare()
        writers = self._begin(delta=via.delta)
        try:
            moved = self._receive(source, writers)
            for remote in list(writers):
                self._finish(remote, writers, via=via)
        finally:
            for writer in writers.values():
                abort(writer)
        way = Way(
            disk=self._work.plan.disk.vdi_uuid,
            disk_name=self._work.name,
            remotes=tuple(one for one in self._work.route.remotes if one not in self._shared.outcome.dropped),
            via=via.value,
            not_via=tuple(told(ladder.better)),
            read_bytes=moved.received_bytes,
        )
        with self._shared.lock:
            self._shared.outcome.read_bytes += moved.received_bytes
            self._shared.outcome.ways.append(way)
        self._shared.world.journal.write(
            events.DiskTransferred(
                vm=self._shared.vm_uuid,
                disk=way.disk,
                disk_name=way.disk_name,
                mode="delta" if via.delta else "full",
                via=way.via,
                not_via=list(way.not_via),
                base=self._work.route.base.vdi_uuid if via.delta and self._work.route.base else "",
                remotes=list(way.remotes),
                blocks=moved.blocks,
                read_bytes=way.read_bytes,
                duration_s=self._shared.world.clock.monotonic_s() - started_s,
                bottleneck=self._meter.snapshot().bottleneck,
                notes=moved.notes,
                sampled_bytes=moved.probe.sampled_bytes,
                packed=moved.probe.share,
                chain=self._work.route.base.chain_length + 1 if via.delta and self._work.route.base else 0,
            )
        )

    def _subject(self) -> Subject:
        return Subject(
            session=self._shared.session,
            vdi_ref=self._work.vdi_ref,
            vdi=self._work.vdi,
            live_ref=self._work.plan.disk.vdi_ref,
            image_format=self._work.plan.disk.image_format,
            name=self._work.name,
            task_label=keys.task_label(self._shared.run_id, f"export of {self._work.name}"),
            base=self._work.route.base,
            nbd=self._shared.means.nbd,
            slots=self._shared.means.slots,
            cancel=self._shared.cancel,
            meter=self._meter,
        )

    def _begin(self, *, delta: bool) -> dict[str, DiskWriter]:
        """A writer on every remote of the route that is still with us."""
        writers: dict[str, DiskWriter] = {}
        base = self._work.route.base if delta else None
        try:
            for remote in self._work.route.remotes:
                if remote in self._shared.outcome.dropped:
                    continue
                try:
                    writers[remote] = self._shared.targets[remote].begin_disk(
                        self._shared.job_id,
                        self._work.plan.disk.vdi_uuid,
                        timestamp_ms=self._shared.timestamp_ms,
                        snapshot_uuid=str(self._work.vdi["uuid"]),
                        virtual_size_bytes=int(self._work.vdi["virtual_size"]),
                        base_uuid=base.vdi_uuid if base else "",
                    )
                except SINK_ERRORS as error:
                    self._shared.drop(remote, error)
        except BaseException:
            for writer in writers.values():
                abort(writer)
            raise
        if not writers:
            failures = {one: self._shared.outcome.dropped[one] for one in self._work.route.remotes}
            raise AllSinksFailed(f"disk {self._work.name}", failures)
        return writers

    def _receive(self, source: Source, writers: dict[str, DiskWriter]) -> _Moved:
        self._shared.cancel.check()
        opened, probe = ExitStack(), Probe()
        try:
            with opened, source.opened(lambda: self._parents(writers, opened)) as flow:
                opened.callback(self._tell, flow)  # damage is told of even if this rung fails later
                self._meter.begin("transfer", total_bytes=flow.total_bytes)
                for writer in writers.values():
                    if isinstance(writer, Expecting):
                        writer.expect(flow.indexes)
                pool = BufferPool(flow.buffers or self._buffers)
                blocks = flow.blocks(pool)
                with closed(blocks):
                    pumped = pump(
                        blocks,
                        limited_sinks(self._shared.world, writers, self._shared.cancel),
                        pool=pool,
                        meter=self._meter,
                        throttle=self._shared.world.throttle,
                        cancel=self._shared.cancel,
                        cost=flow.cost,
                        what=f"disk {self._work.name}",
                        probe=probe,
                    )
                flow.finish()
        except (TransferCancelled, NbdCancelled):
            self._shared.cancel.check()
            raise
        for remote, error in pumped.failures.items():
            if not isinstance(error, SINK_ERRORS):
                raise error
            self._shared.drop(remote, error)
            abort(writers.pop(remote))
        return _Moved(blocks=pumped.blocks, received_bytes=flow.received_bytes(), notes=flow.notes(), probe=probe)

    def _tell(self, flow: Flow) -> None:
        for remote, message in flow.warnings:
            told = f"disk {self._work.name}: {message}"
            self._shared.warn(told, remote)
            if DAMAGED in message:
                self._shared.world.journal.write(
                    events.Examined(
                        uuid=self._shared.vm_uuid, name="", remote=remote, what="blocks", damage=told, whole=False
                    )
                )

    def _parents(self, writers: Mapping[str, DiskWriter], opened: ExitStack) -> dict[str, BaseDisk | None]:
        """What the delta continues, on every remote; one where it cannot be opened is told of."""
        parents: dict[str, BaseDisk | None] = {}
        for remote, writer in writers.items():
            try:
                parents[remote] = parent = writer.open_base()
                if parent is not None:
                    opened.callback(parent.close)
            except SINK_ERRORS as error:
                parents[remote] = None
                self._shared.warn(f"the disk to continue cannot be read, blocks come from elsewhere: {error}", remote)
        return parents

    def _finish(self, remote: str, writers: dict[str, DiskWriter], *, via: Via) -> None:
        """Make one remote's disk durable; its failure drops the remote."""
        try:
            result = writers[remote].finish()
        except SINK_ERRORS as error:
            self._shared.drop(remote, error)
            abort(writers.pop(remote))
            return
        base = self._work.route.base if via.delta else None
        done = DiskDone(
            live_uuid=self._work.plan.disk.vdi_uuid,
            disk_name=self._work.name,
            remote=remote,
            via=via,
            base_uuid=base.vdi_uuid if base else "",
            chain_length=base.chain_length + 1 if base else 0,
            result=result,
        )
        with self._shared.lock:
            self._shared.outcome.done.append(done)
            self._shared.outcome.writers.setdefault(remote, []).append(writers.pop(remote))
