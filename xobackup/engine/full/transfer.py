"""A VM on its way from its snapshot into the remotes, as one archive.

The pool is read once, whatever the number of remotes. Beside them two more consumers look at every byte: one takes
the checksum that will lie beside the image, one reads the archive by all its rules. The stream counts only when it
was whole, holds every disk of the snapshot, and the pool's task says success. A remote that fails drops out of this
VM's backup; the others go on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vhd.block import BufferPool
from xobackup.engine import events, keys
from xobackup.engine.errors import AllSinksFailed, BadArchive, NoRoom
from xobackup.engine.full.byte_pump import BytesPumped, Consumer, pump_bytes
from xobackup.engine.full.space import judge_room
from xobackup.engine.limits.sinks import limited_write
from xobackup.engine.target import SINK_ERRORS
from xobackup.engine.transferred import abort
from xobackup.xapi.archives import Compression, open_vm_export
from xobackup.xapi.errors import TransferCancelled
from xobackup.xva.archive import Archive
from xobackup.xva.errors import XvaError

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.full.plan import ArchivePlan
    from xobackup.engine.progress import Meter
    from xobackup.engine.taking.taken import Taken
    from xobackup.engine.target import ImageWriter, Target
    from xobackup.engine.world import World
    from xobackup.repository.images.writer import ImageResult
    from xobackup.xapi.session import Session


@dataclass(slots=True, kw_only=True)
class Exported:
    """What came of it: images that are durable, and remotes that dropped out."""

    images: dict[str, ImageResult] = field(default_factory=dict)
    dropped: dict[str, BaseException] = field(default_factory=dict)
    read_bytes: int = 0
    disks: int = 0
    """In the archive."""
    writers: dict[str, ImageWriter] = field(default_factory=dict)
    """Of finished images that no restore point names yet."""

    def discard(self) -> None:
        """Take back the finished images that will not be published. What cannot be is the next run's."""
        while self.writers:
            abort(self.writers.popitem()[1])


class ArchiveTransfer:
    """Moves one VM; make one per attempt and :meth:`run` it."""

    def __init__(
        self,
        world: World,
        session: Session,
        *,
        vm_uuid: str,
        vm_name: str,
        run_id: str,
        timestamp_ms: int,
        targets: Mapping[str, Target],
        cancel: CancelToken,
        warn: Callable[[str, str], None],
        outcome: Exported,
    ) -> None:
        """``warn`` hears a message and the remote it is about; ``outcome`` is filled as it goes."""
        self._world = world
        self._session = session
        self._vm_uuid = vm_uuid
        self._name = vm_name or vm_uuid
        self._run_id = run_id
        self._timestamp_ms = timestamp_ms
        self._targets = targets
        self._cancel = cancel
        self._warn = warn
        self.outcome = outcome

    def run(self, plan: ArchivePlan, taken: Taken, *, job_id: str, buffers: int) -> Exported:
        """Raises what concerns more than single remotes."""
        began_s = self._world.clock.monotonic_s()
        writers = self._begin(plan, job_id)
        meter = self._world.progress.meter(self._name, stage="waiting")
        digest = hashlib.md5(usedforsecurity=False)
        try:
            consumers = self._consumers(taken, writers, digest.update)
            pumped = self._receive(plan, taken, consumers, BufferPool(buffers), meter)
            self._finish(writers, pumped, digest.hexdigest())
        finally:
            for writer in writers.values():
                abort(writer)
            bottleneck = meter.snapshot().bottleneck
            self._world.progress.drop(meter)
        self.outcome.read_bytes, self.outcome.disks = pumped.size_bytes, len(taken.vdis)
        self._world.journal.write(
            events.ArchiveTransferred(
                vm=self._vm_uuid,
                mode="full",
                compression=plan.compression,
                disks=len(taken.vdis),
                remotes=sorted(self.outcome.images),
                read_bytes=pumped.size_bytes,
                duration_s=self._world.clock.monotonic_s() - began_s,
                bottleneck=bottleneck,
            )
        )
        return self.outcome

    def _begin(self, plan: ArchivePlan, job_id: str) -> dict[str, ImageWriter]:
        """A writer on every remote that has room."""
        writers: dict[str, ImageWriter] = {}
        for name, target in self._targets.items():
            try:
                room = judge_room(
                    free_bytes=target.free_bytes(),
                    bound_bytes=plan.bound_bytes,
                    last_bytes=target.last_image_bytes(job_id),
                )
                if not room.fits:
                    raise NoRoom(f"{name}: {room.doubt}")
                if room.doubt:
                    self._warn(room.doubt, name)
                writers[name] = target.begin_image(timestamp_ms=self._timestamp_ms, bound_bytes=plan.bound_bytes)
            except SINK_ERRORS as error:
                self.outcome.dropped[name] = error
        self._require(writers)
        return writers

    def _consumers(
        self, taken: Taken, writers: Mapping[str, ImageWriter], digest: Callable[[memoryview], None]
    ) -> list[Consumer]:
        def check(pieces: Iterator[memoryview]) -> None:
            read_archive(pieces, {str(record["uuid"]) for _, record in taken.vdis.values()})

        return [
            Consumer(name="archive", consume=check, essential=True),
            Consumer(name="checksum", consume=_each(digest), essential=True),
            *(
                Consumer(name=name, consume=_each(limited_write(self._world, name, writer.write, self._cancel)))
                for name, writer in writers.items()
            ),
        ]

    def _receive(
        self, plan: ArchivePlan, taken: Taken, consumers: Sequence[Consumer], pool: BufferPool, meter: Meter
    ) -> BytesPumped:
        self._cancel.check()
        try:
            with (
                open_vm_export(
                    self._session,
                    taken.ref,
                    compression=Compression(plan.compression),
                    task_label=keys.task_label(self._run_id, f"export of VM {self._name}"),
                    should_stop=lambda: self._cancel.cancelled,
                ) as export,
                self._cancel.waking(export.cancel),
            ):
                meter.begin("transfer")
                pumped = pump_bytes(
                    export.readinto,
                    consumers,
                    pool=pool,
                    meter=meter,
                    throttle=self._world.throttle,
                    cancel=self._cancel,
                    what=f"VM {self._name}",
                )
                export.finish()
                return pumped
        except TransferCancelled:
            self._cancel.check()
            raise
        except XvaError as error:
            raise BadArchive(f"what the pool sent of VM {self._name} is no whole archive: {error}") from error

    def _finish(self, writers: dict[str, ImageWriter], pumped: BytesPumped, md5: str) -> None:
        """Make the images durable; a remote that fails in that drops out."""
        for name in list(writers):
            try:
                if name in pumped.failures:
                    raise pumped.failures[name]
                self.outcome.images[name] = writers[name].finish(md5)
                self.outcome.writers[name] = writers.pop(name)
            except SINK_ERRORS as error:
                self.outcome.dropped[name] = error
        self._require(self.outcome.images)

    def _require(self, left: Mapping[str, object]) -> None:
        if not left:
            raise AllSinksFailed(f"VM {self._name}", self.outcome.dropped)


def read_archive(pieces: Iterator[memoryview], expected: Collection[str]) -> None:
    """Read an archive by all its rules; it must hold the VDIs (uuids) ``expected``."""
    archive = Archive(source_of(pieces))
    missing = sorted(set(expected) - {disk.uuid for disk in archive.description.disks})
    if missing:
        raise BadArchive(f"the pool's archive lacks the disks {', '.join(missing)} of the snapshot")
    archive.read_all()


def source_of(pieces: Iterator[memoryview]) -> Callable[[memoryview], int]:
    """Pieces as something that fills buffers."""
    held = memoryview(b"")

    def read_into(buffer: memoryview) -> int:
        nonlocal held
        done = 0
        while done < len(buffer):
            if not held:
                held = next(pieces, memoryview(b""))
                if not held:
                    break
            count = min(len(buffer) - done, len(held))
            buffer[done : done + count] = held[:count]
            held = held[count:]
            done += count
        return done

    return read_into


def _each(take: Callable[[memoryview], object]) -> Callable[[Iterator[memoryview]], None]:
    def consume(pieces: Iterator[memoryview]) -> None:
        for piece in pieces:
            take(piece)

    return consume
