"""A digest of every block of a disk, in one small file of ours beside no backup (``.xobackup/digests/``).

    off   size       field
      0      8       "xobxxh3\\n"
      8      4       version, 1
     12      4       n: whole blocks
     16      4       m: partial blocks
     20      4       zero
     24     16       uuid in the disk's footer; a file whose uuid is another disk's is stale and ignored
     40     4*n      indexes of whole blocks, ascending
     ..    16*n      their digests
     ..    28*m      partial blocks, ascending: index u32, xxh3-64 of the bitmap, digest
     end     16      xxh3-128 of everything before

All integers big-endian. The digest of a block is xxh3-128 of its 2 MiB of data, with zeros for the sectors its bitmap
does not have and past the end of the disk: exactly what ``Disk.read_block`` of the disk's own file gives.
The digest of a whole block stays true when a merge moves the block to another file, ours or Xen Orchestra's. A
partial block changes when it is merged, and its bitmap with it: an entry whose bitmap differs says nothing.
"""

from __future__ import annotations

import struct
import threading
import uuid as uuids
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import xxhash

from vhd.block import SECTOR_BYTES, Bitmap, Block, BlockBuffer, runs
from xobackup.repository.errors import BadDigests

MAGIC = b"xobxxh3\n"
VERSION = 1
DIGEST_BYTES = 16
ENTRIES_MAX = 1 << 23
"""As many blocks as the largest table of a VHD that is read at all."""
FILE_BYTES_MAX = 40 + ENTRIES_MAX * 28 + DIGEST_BYTES

_HEAD = struct.Struct(">8sIIII16s")
_PARTIAL = struct.Struct(">I8s16s")
_INDEX_CODE = next(code for code in "IL" if array(code).itemsize == 4)
_LITTLE = array(_INDEX_CODE, [1]).tobytes()[0] == 1
_ZEROS = memoryview(bytes(2 * 1024 * 1024))


class Entry(NamedTuple):
    """The digest of one block; ``bitmap`` is the digest of its bitmap, ``None`` when every sector is present."""

    digest: bytes
    bitmap: bytes | None


def entry_of(bitmap: Bitmap, data: memoryview) -> Entry:
    """The entry of a block as read (absent sectors may hold anything: they count as zeros)."""
    if bitmap is None:
        return Entry(xxhash.xxh3_128_digest(data), None)
    state, at = xxhash.xxh3_128(), 0
    for first, count in runs(bitmap):
        start, end = first * SECTOR_BYTES, (first + count) * SECTOR_BYTES
        state.update(_ZEROS[: start - at])
        state.update(data[start:end])
        at = end
    state.update(_ZEROS[: len(data) - at])
    return Entry(state.digest(), xxhash.xxh3_64_digest(bitmap))


class Digests:
    """The digests of one disk, by block; about 20 bytes a block in memory."""

    def __init__(self, uuid: uuids.UUID, indexes: array[int], whole: bytes, partial: dict[int, Entry]) -> None:
        self.uuid = uuid
        self._indexes = indexes
        self._whole = whole
        self._partial = partial

    def __len__(self) -> int:
        return len(self._indexes) + len(self._partial)

    def get(self, index: int) -> Entry | None:
        """The entry of block ``index``, if there is one."""
        at = bisect_left(self._indexes, index)
        if at < len(self._indexes) and self._indexes[at] == index:
            return Entry(self._whole[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES], None)
        return self._partial.get(index)

    def indexes(self) -> Iterator[int]:
        """Every block with an entry: the whole ones ascending, then the partial ones."""
        yield from self._indexes
        yield from self._partial

    def pack(self) -> bytes:
        """The file's bytes."""
        indexes = self._indexes[:]
        if _LITTLE:
            indexes.byteswap()
        head = _HEAD.pack(MAGIC, VERSION, len(self._indexes), len(self._partial), 0, self.uuid.bytes)
        tail = b"".join(
            _PARTIAL.pack(index, entry.bitmap or bytes(8), entry.digest)
            for index, entry in sorted(self._partial.items())
        )
        body = b"".join((head, indexes.tobytes(), self._whole, tail))
        return body + xxhash.xxh3_128_digest(body)

    @classmethod
    def unpack(cls, raw: bytes, name: str) -> Digests:
        """Parse a file; :class:`BadDigests` for anything that is not whole."""
        if len(raw) < _HEAD.size + DIGEST_BYTES or raw[:8] != MAGIC:
            raise BadDigests(name, "not a digest file")
        if xxhash.xxh3_128_digest(memoryview(raw)[:-DIGEST_BYTES]) != raw[-DIGEST_BYTES:]:
            raise BadDigests(name, "its own digest is wrong")
        _, version, whole, partial, _, uuid = _HEAD.unpack_from(raw)
        if version != VERSION:
            raise BadDigests(name, f"expected version {VERSION}, found {version}")
        digests_at = _HEAD.size + 4 * whole
        partial_at = digests_at + DIGEST_BYTES * whole
        if partial_at + _PARTIAL.size * partial + DIGEST_BYTES != len(raw):
            raise BadDigests(name, f"{whole} and {partial} entries do not make {len(raw)} bytes")
        indexes = array(_INDEX_CODE, raw[_HEAD.size : digests_at])
        if _LITTLE:
            indexes.byteswap()
        entries: dict[int, Entry] = {}
        for at in range(partial_at, len(raw) - DIGEST_BYTES, _PARTIAL.size):
            index, bitmap, digest = _PARTIAL.unpack_from(raw, at)
            entries[index] = Entry(digest, bitmap)
        return cls(uuids.UUID(bytes=uuid), indexes, raw[digests_at:partial_at], entries)


class DigestRecorder:
    """Collects entries in any order, from several threads; an index given twice counts once, the last time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._indexes = array(_INDEX_CODE)
        self._whole = bytearray()
        self._partial: dict[int, Entry] = {}

    def add_block(self, block: Block) -> None:
        self.add(block.index, entry_of(block.bitmap, block.buffer.data))

    def add(self, index: int, entry: Entry) -> None:
        with self._lock:
            if entry.bitmap is None:
                self._indexes.append(index)
                self._whole += entry.digest
            else:
                self._partial[index] = entry

    def finish(self, uuid: uuids.UUID) -> Digests:
        """Everything collected, sorted."""
        with self._lock:
            count = len(self._indexes)
            if all(self._indexes[at] < self._indexes[at + 1] for at in range(count - 1)):
                return Digests(uuid, self._indexes[:], bytes(self._whole), dict(self._partial))
            last = {index: at for at, index in enumerate(self._indexes)}
            whole = bytearray()
            for index in sorted(last):
                whole += self._whole[last[index] * DIGEST_BYTES : (last[index] + 1) * DIGEST_BYTES]
            return Digests(uuid, array(_INDEX_CODE, sorted(last)), bytes(whole), dict(self._partial))


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberBlocks:
    """One disk of a chain about to be merged: its own blocks, and its digests if there are any.

    The blocks are asked for when their turn comes, so that only one disk's list is in memory.
    """

    indexes: Callable[[], Sequence[int]]
    digests: Digests | None


def merged_digests(
    members: Sequence[MemberBlocks], uuid: uuids.UUID, recompute: Callable[[int], Entry | None]
) -> Digests:
    """The digests of the disk that ``members`` (root first) become; the last member that has a block gives it.

    ``recompute`` reads a merged block anew: asked for blocks whose winner is partial. A winner without an entry
    leaves none: an older block's digest must not stand for it.
    """
    winners = array("H")
    for number, member in enumerate(members, start=1):
        indexes = member.indexes()
        winners.frombytes(bytes(2 * max(0, max(indexes, default=-1) + 1 - len(winners))))
        for index in indexes:
            winners[index] = number
    recorder = DigestRecorder()
    for index, number in enumerate(winners):
        digests = members[number - 1].digests if number else None
        entry = digests.get(index) if digests is not None else None
        if entry is not None and entry.bitmap is not None:
            entry = recompute(index)
        if entry is not None:
            recorder.add(index, entry)
    return recorder.finish(uuid)


class Match(NamedTuple):
    """What comparing a block with its entry gave."""

    comparable: bool
    """False when the entry was made for another bitmap: a merge happened since."""
    equal: bool


def compare(entry: Entry, bitmap: Bitmap, buffer: BlockBuffer) -> Match:
    """Compare a block as read with its entry.

    A whole block stays whole, whatever is read with it. A partial one may have been completed by a merge that left no
    digests (Xen Orchestra's): then it has another bitmap, and neither equal nor differing data say anything.
    """
    same = entry.bitmap is None or (bitmap is not None and xxhash.xxh3_64_digest(bitmap) == entry.bitmap)
    return Match(comparable=same, equal=entry_of(None, buffer.data).digest == entry.digest)
