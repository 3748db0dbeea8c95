"""A restore point's disk, read with its digests beside it: damage is found before it is restored.

Whole blocks are compared with what was noted when they were written; blocks without a digest (written by Xen
Orchestra, or partial) are read all the same and counted apart. A block that differs is looked at once more from a
fresh look at the repository, because a merge may be moving blocks at this very moment.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

import xxhash

from remotes.contract import PipeSource, ReadableFile
from vhd.block import BLOCK_BYTES, Bitmap, BlockBuffer
from vhd.reader import VhdFile
from xobackup.engine.errors import IntegrityError
from xobackup.repository.digest_store import DigestStore
from xobackup.repository.layout import split_disk_path

if TYPE_CHECKING:
    from vhd.chain import Chain
    from xobackup.repository.digests import Digests
    from xobackup.repository.metadata import PointDisk, RestorePoint
    from xobackup.repository.repository import Repository


PIECE_BYTES = 256 * 1024
"""Read and digested at a time where nothing else is done with the bytes: it stays in the processor's cache."""


class _PipeFile(PipeSource, ReadableFile, Protocol):
    """A file that can do both."""


class Sending:
    """A block on its way from its file into a pipe, piece by piece; then read again and compared, piece by piece.

    What a file holds only ever changes away from what was written, so what holds once the pipe has passed it on held
    when it did.
    """

    def __init__(self, what: str, file: _PipeFile, start: int, expected: bytes) -> None:
        self._what = what
        self._file = file
        self._start = start
        self._expected = expected
        self._state = xxhash.xxh3_128()

    def send_piece(self, at: int, pipe: int) -> bool:
        """Send the piece at ``at``; whether it went. A block must go whole: only its first piece may stay."""
        sent = self._file.send_to_pipe(self._start + at, PIECE_BYTES, pipe)
        if sent != PIECE_BYTES and (sent or at):
            raise IntegrityError(f"{self._what} could not be sent whole, {at + sent} bytes went")
        return sent == PIECE_BYTES

    def read_piece(self, at: int, buffer: memoryview) -> None:
        """Read the piece at ``at`` for the comparison."""
        self._state.update(buffer[: self._file.read_into(self._start + at, buffer)])

    def confirm(self) -> None:
        """Raise :class:`IntegrityError` unless what was read is what was written."""
        if self._state.digest() != self._expected:
            message = f"{self._what}, which was sent, is not what was written (its digest differs)"
            raise IntegrityError(message, hint="what was sent is useless: run it again, and verify if it fails again")


class CheckedDisk:
    """Satisfies :class:`vhd.block.Disk`; several threads may read at once. Close it at the end."""

    def __init__(self, repository: Repository, point: RestorePoint, disk: PointDisk, *, check: bool = True) -> None:
        self._repository = repository
        self._point = point
        self._disk = disk
        self._chain: Chain = repository.open_disk(point, disk.vdi_ref)
        self._digests = self._read_digests(self._chain) if check else {}
        self._lock = threading.Lock()
        self.parallel = repository.remote.capabilities.parallel
        self.compared = 0
        self.without_digest = 0

    @property
    def name(self) -> str:
        return f"disk {self._disk.name_label or self._disk.live_vdi_uuid} of {self._point.id}"

    @property
    def virtual_size_bytes(self) -> int:
        return self._chain.virtual_size_bytes

    def block_indexes(self) -> list[int]:
        return self._chain.block_indexes()

    def read_block(self, index: int, buffer: BlockBuffer) -> Bitmap:
        """Read and compare. Raises :class:`IntegrityError` when the data are not those that were written."""
        bitmap = self._chain.read_block(index, buffer)
        expected = self._expected(self._chain, self._digests, index)
        if expected is None:
            with self._lock:
                self.without_digest += 1
            return bitmap
        if _digest(buffer) != expected:
            return self._look_again(index, buffer)
        with self._lock:
            self.compared += 1
        return bitmap

    def will_read(self, index: int) -> bool:
        """Hint that block ``index`` is read soon; whether the storage could be told (files can, objects cannot)."""
        return self._chain.will_read(index)

    def sending(self, index: int) -> Sending | None:
        """Block ``index`` as pieces of its file that can go into a pipe uncopied: a whole block of a local file, with
        a digest to confirm it by. ``None`` when it is not that."""
        layer = self._chain.layer_of(index)
        expected = self._expected(self._chain, self._digests, index)
        if not isinstance(layer, VhdFile) or expected is None or (index + 1) * BLOCK_BYTES > self.virtual_size_bytes:
            return None
        if not isinstance(layer.file, PipeSource):
            return None
        return Sending(f"{self.name}: block {index}", layer.file, layer.block_span(index)[1], expected)

    def note_compared(self) -> None:
        """A block that was sent has been confirmed."""
        with self._lock:
            self.compared += 1

    def close(self) -> None:
        self._chain.close()

    def _look_again(self, index: int, buffer: BlockBuffer) -> Bitmap:
        chain = self._repository.open_disk(self._point, self._disk.vdi_ref)
        try:
            bitmap = chain.read_block(index, buffer)
            expected = self._expected(chain, self._read_digests(chain), index)
        finally:
            chain.close()
        if expected is not None and _digest(buffer) != expected:
            message = f"{self.name}: block {index} is not what was written (its digest differs)"
            raise IntegrityError(message, hint="run verify; restore another point, or this one without checking")
        return bitmap

    def _expected(self, chain: Chain, digests: dict[int, Digests], index: int) -> bytes | None:
        """The digest the data must have, when one is known and the block comes whole from one disk of full size."""
        layer = chain.layer_of(index)
        known = digests.get(id(layer)) if layer is not None else None
        if layer is None or known is None or layer.virtual_size_bytes > chain.virtual_size_bytes:
            return None
        entry = known.get(index)
        return entry.digest if entry is not None and entry.bitmap is None else None

    def _read_digests(self, chain: Chain) -> dict[int, Digests]:
        """Digests by the identity of the chain's member; none at all while a merge is under way."""
        directory, name = split_disk_path(self._disk.path)
        _, job, live = directory.split("/")
        lineage = self._repository.lineage(self._point.vm_uuid, job, live)
        names = lineage.chain(name)
        if names is None or lineage.states or len(names) != len(chain.members):
            return {}
        store = DigestStore(self._repository.remote, self._point.vm_uuid, directory)
        found: dict[int, Digests] = {}
        for member, described in zip(chain.members, names, strict=True):
            digests = store.get(described.name, member.footer.uuid)
            if digests is not None:
                found[id(member)] = digests
        return found


def _digest(buffer: BlockBuffer) -> bytes:
    """xxh3-128 of the data, in the form that lets other threads run meanwhile."""
    state = xxhash.xxh3_128()
    state.update(buffer.data)
    return state.digest()
