"""Copies of damaged blocks elsewhere: other remotes of the configuration, snapshots that a pool still has, and the
restore points of replicas that it keeps.

Each is opened when it is first asked, and let go at the end. One that cannot be opened or read is told once and has
no copies; it keeps nobody from asking the next. Whatever is read proves itself by the block's digest, so that neither
the identity of a snapshot nor its age matters: a block that has not changed since may come from any of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from remotes.errors import RemoteError
from vhd.block import BLOCK_BYTES
from xobackup.engine import keys
from xobackup.repository.errors import RepositoryError
from xobackup.repository.repair.sources import RepositorySource
from xobackup.xapi.cbt import METADATA_TYPE
from xobackup.xapi.errors import XapiError
from xobackup.xapi.nbd.disk import NbdDisk
from xobackup.xapi.nbd.options import NbdOptions
from xobackup.xapi.nbd.target import NbdMode, nbd_mode, target_source
from xobackup.xapi.records import VdiRecord
from xobackup.xapi.vm_records import NetworkRecord

if TYPE_CHECKING:
    from remotes.contract import Remote
    from vhd.block import BlockBuffer
    from xobackup.repository.metadata import RestorePoint
    from xobackup.repository.repair.damage import DamagedBlock
    from xobackup.repository.repository import Repository
    from xobackup.xapi.session import Session

Tell = Callable[[str], None]


class OtherRemote:
    """Another remote's repository."""

    def __init__(self, name: str, open_: Callable[[], Repository], tell: Tell) -> None:
        self.name = f"remote {name}"
        self._open = open_
        self._tell = tell
        self._repository: Repository | None = None
        self._source: RepositorySource | None = None
        self._failed = False

    def candidates(self, block: DamagedBlock, buffer: BlockBuffer) -> Iterator[str]:
        if self._ready() and self._source is not None:
            yield from self._source.candidates(block, buffer)

    def same_backups(self, point: RestorePoint) -> Iterator[tuple[Remote, RestorePoint]]:
        if self._ready() and self._source is not None:
            yield from self._source.same_backups(point)

    def _ready(self) -> bool:
        if self._source is None and not self._failed:
            try:
                self._repository = self._open()
                self._repository.vms()  # refuses an encrypted one without its key
                self._source = RepositorySource(self.name, self._repository.remote)
            except (RemoteError, RepositoryError) as error:
                self._failed = True
                self._tell(f"{self.name} has no say: {error}")
        return self._source is not None

    def close(self) -> None:
        if self._repository is not None:
            self._repository.remote.close()


class PoolSnapshots:
    """Snapshots of the same disk on a pool, or of its replica, read by NBD."""

    def __init__(self, name: str, connect: Callable[[], Session], tell: Tell) -> None:
        self.name = f"pool {name}"
        self._connect = connect
        self._tell = tell
        self._held = contextlib.ExitStack()
        self._session: Session | None = None
        self._failed = False
        self._vdis: list[VdiRecord] = []
        self._disks: dict[str, NbdDisk | None] = {}

    def candidates(self, block: DamagedBlock, buffer: BlockBuffer) -> Iterator[str]:
        """What has the content of the snapshot that was backed up first, then the others."""
        if not self._ready():
            return
        for vdi in self._snapshots_of(block):
            if block.index * BLOCK_BYTES >= vdi.virtual_size:
                continue
            disk = self._disk(vdi)
            if disk is None:
                continue
            try:
                disk.read_block(block.index, buffer)
            except XapiError as error:
                self._tell(f"{self.name}: {_named(vdi)} cannot be read: {error}")
                self._disks[vdi.uuid] = None
                continue
            yield _named(vdi)

    def close(self) -> None:
        self._held.close()

    def _ready(self) -> bool:
        if self._session is not None or self._failed:
            return self._session is not None
        try:
            session = self._held.enter_context(contextlib.closing(self._connect()))
            networks = [NetworkRecord.parse(ref, raw) for ref, raw in session.records("network").items()]
            mode = nbd_mode(networks)
            if mode is not NbdMode.TLS:
                self._failed = True
                self._tell(f"{self.name} has no say: its disks cannot be read by NBD with TLS ({mode.value})")
                return False
            self._vdis = [VdiRecord.parse(ref, raw) for ref, raw in session.records("VDI").items()]
            self._session = session
        except XapiError as error:
            self._failed = True
            self._tell(f"{self.name} has no say: {error}")
        return self._session is not None

    def _snapshots_of(self, block: DamagedBlock) -> list[VdiRecord]:
        live = next((vdi.ref for vdi in self._vdis if vdi.uuid == block.vdi), None)
        same = str(block.uuid)
        found = [
            vdi
            for vdi in self._vdis
            if vdi.is_a_snapshot
            and vdi.type != METADATA_TYPE
            and (
                same in (vdi.uuid, vdi.other_config.get(keys.CONTENT_KEY))
                or (live is not None and vdi.snapshot_of == live)
                or vdi.other_config.get(keys.LIVE) == block.vdi
            )
        ]
        return sorted(found, key=lambda vdi: same not in (vdi.uuid, vdi.other_config.get(keys.CONTENT_KEY)))

    def _disk(self, vdi: VdiRecord) -> NbdDisk | None:
        if vdi.uuid in self._disks:
            return self._disks[vdi.uuid]
        assert self._session is not None
        disk = NbdDisk(
            target_source(self._session, vdi.ref),
            name=_named(vdi),
            clock=self._session.clock,
            virtual_size_bytes=vdi.virtual_size,
            options=NbdOptions(connections=1),
        )
        try:
            self._disks[vdi.uuid] = self._held.enter_context(disk)
        except XapiError as error:
            self._tell(f"{self.name}: {_named(vdi)} cannot be read: {error}")
            self._disks[vdi.uuid] = None
        return self._disks[vdi.uuid]


def _named(vdi: VdiRecord) -> str:
    return f"{'replica' if keys.COPY_OF in vdi.other_config else 'snapshot'} {vdi.uuid}"
