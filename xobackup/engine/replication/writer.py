"""One disk of a replica being filled: an image's stream into its VDI, whatever the order in which the blocks come.

Like a remote's writer (:class:`~xobackup.repository.writer.DiskWriter`), but it is told beforehand which blocks may
come, because an import has to announce its exact length. Without any block nothing is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from xobackup.engine import keys
from xobackup.engine.errors import Cancelled, NoRoom, TargetFailed, TransferMismatch, UsageError
from xobackup.engine.replication.images import Image, Qcow2Image, VhdImage
from xobackup.engine.replication.inorder import InOrder
from xobackup.repository.writer import DiskResult
from xobackup.xapi.errors import HostTrouble, TransferCancelled, XapiError
from xobackup.xapi.image_format import ImageFormat, image_format_of
from xobackup.xapi.transfer import open_import

if TYPE_CHECKING:
    from vhd.block import Block
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.space.replicas import Room
    from xobackup.engine.world import World
    from xobackup.xapi.session import Session
    from xobackup.xapi.transfer import Import

FREE_IT = "free space on it; its restore points are as they were, and the next run goes on"
FULL_BYTES = 1 << 30
"""An SR with less space than that, and less than a hundredth of it, is full."""
BLOCK_STORED = (2 << 20) + 512


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPoint:
    """A restore point of a replica, as reports name it."""

    id: str
    size: int


@runtime_checkable
class Expecting(Protocol):
    """A writer that has to know which blocks may come, before the first one does."""

    def expect(self, indexes: Sequence[int]) -> None: ...


@contextmanager
def reaching(target: str) -> Iterator[None]:
    """Whatever the pool of a target says no to makes that target drop out, and nobody else."""
    try:
        yield
    except (XapiError, UsageError) as error:
        raise TargetFailed(target, error) from error


def space_told(session: Session, vdi_ref: str) -> str:
    """What an I/O error of a disk most likely means when its SR is full; ``""`` when it is not, or does not tell."""
    try:
        sr = session.record("SR", str(session.call_once("VDI.get_SR", vdi_ref)))
    except XapiError:
        return ""
    free_bytes = int(sr.get("physical_size") or 0) - int(sr.get("physical_utilisation") or 0)
    full = free_bytes < min(FULL_BYTES, int(sr.get("physical_size") or 0) // 100)
    return f"SR {sr.get('name_label')} is full ({max(0, free_bytes) >> 20} MiB left)" if full else ""


class ReplicaWriter:
    """See the module's head. ``base_uuid``: the snapshot that the blocks are a delta to; ``""``: all there is."""

    def __init__(
        self,
        world: World,
        session: Session,
        *,
        target: str,
        vdi_ref: str,
        name: str,
        snapshot_uuid: str,
        virtual_size_bytes: int,
        base_uuid: str,
        run_id: str,
        cancel: CancelToken,
        room: Room,
    ) -> None:
        self.vdi_ref = vdi_ref
        self._world = world
        self._session = session
        self._target = target
        self._name = name
        self._snapshot_uuid = snapshot_uuid
        self._size = virtual_size_bytes
        self._base_uuid = base_uuid
        self._run_id = run_id
        self._cancel = cancel
        self._room = room
        self._indexes: Sequence[int] = ()
        self._order: InOrder | None = None
        self._import: Import | None = None
        self._image: Image | None = None
        self._held = ExitStack()

    def open_base(self) -> None:
        """A replica's disk cannot be asked for single blocks."""

    def expect(self, indexes: Sequence[int]) -> None:
        """These blocks may come; to call once, before the first."""
        self._indexes = indexes
        self._order = InOrder(indexes, self._send)

    def write_block(self, block: Block) -> None:
        assert self._order is not None
        with self._own_errors():
            self._order.put(block)

    def finish(self) -> DiskResult:
        """Returns when the pool says that all of it arrived."""
        order = self._order
        with self._own_errors():
            if order is not None and self._indexes:
                order.end()
                self._end()
                if order.late:
                    self._begin(order.late)
                    for index, bitmap, data in order.late_blocks():
                        self._send(index, bitmap, data)
                    self._end()
                self._all_came(order)
        self._close()
        return DiskResult(
            path=self.vdi_ref,
            size=len(self._indexes) * BLOCK_STORED,
            differencing=bool(self._base_uuid),
            uuid=self._snapshot_uuid,
            virtual_size_bytes=self._size,
        )

    def abort(self) -> None:
        """Stop it; what was written is the target's to take back."""
        self._close()

    def _close(self) -> None:
        self._held.close()
        self._room.arrived(self.vdi_ref)
        self._import = None
        if self._order is not None:
            self._order.close()

    def _all_came(self, order: InOrder) -> None:
        """A block that never came has zeros in a qcow2 image: right in a new disk, wrong on top of another."""
        assert self._image is not None
        if self._base_uuid and self._image.format is ImageFormat.QCOW2 and order.missing:
            expected = f"{len(self._indexes)} blocks of disk {self._name}"
            error = TransferMismatch("delta", expected, f"{len(self._indexes) - len(order.missing)}")
            raise TargetFailed(self._target, error)

    def _send(self, index: int, bitmap: memoryview | bytes, data: memoryview) -> None:
        if self._import is None:
            self._room.claim(self.vdi_ref, self._name, len(self._indexes) * BLOCK_STORED)
            self._begin(self._indexes)
        assert self._import is not None
        assert self._image is not None
        for piece in self._image.pieces(index, bitmap, data):
            self._import.write(piece)

    def _begin(self, indexes: Sequence[int]) -> None:
        self._cancel.check()
        self._image = image = self._image_of(indexes)
        self._import = self._held.enter_context(
            open_import(
                self._session,
                self.vdi_ref,
                length_bytes=image.length_bytes,
                format=image.format.value,
                task_label=keys.task_label(self._run_id, f"replication of {self._name}"),
                should_stop=lambda: self._cancel.cancelled,
            )
        )
        self._held.enter_context(self._cancel.waking(self._import.cancel))
        for piece in image.head():
            self._import.write(piece)

    def _image_of(self, indexes: Sequence[int]) -> Image:
        """As the SR keeps the disk."""
        record = self._session.record("VDI", self.vdi_ref)
        if image_format_of(record) is ImageFormat.QCOW2:
            return Qcow2Image(name=self._name, size_bytes=self._size, indexes=indexes)
        return VhdImage(
            name=self._name,
            size_bytes=self._size,
            indexes=indexes,
            uuid=self._snapshot_uuid,
            base_uuid=self._base_uuid,
            now_s=self._world.clock.now_s(),
        )

    def _end(self) -> None:
        assert self._import is not None
        assert self._image is not None
        if self._image.footer:
            self._import.write(self._image.footer)
        self._import.finish()
        self._held.close()
        self._import = None

    @contextmanager
    def _own_errors(self) -> Iterator[None]:
        try:
            with reaching(self._target):
                yield
        except NoRoom as error:
            raise TargetFailed(self._target, error) from error
        except TargetFailed as error:
            if isinstance(error.__cause__, TransferCancelled):
                self._cancel.check()
            if isinstance(error.__cause__, HostTrouble) and (told := space_told(self._session, self.vdi_ref)):
                raise TargetFailed(self._target, NoRoom(f"disk {self._name}: {told}", hint=FREE_IT)) from error
            raise
        except Cancelled:
            raise
