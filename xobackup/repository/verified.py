"""When was which block last found to be what was written? One small file of ours per disk of a VM.

    .xobackup/verified/<vm>/<job>/<live vdi>.xov     blocks of all disks of that lineage
    .xobackup/verified/<vm>/images.json              {"version":1,"images":{"<ts>":<minutes>}}

    off   size    field
      0      8    "xobverf\\n"
      8      4    version, 1
     12      4    n: entries
     16      4    zero
     20   16*n    index u32, print u64, minutes since 1970 u32; sorted
    end     16    xxh3-128 of everything before

All integers big-endian. *print* says what a block is: the first eight bytes of its digest, or, without one, a hash of
its disk's uuid and index. So a merge, which moves a block to another disk, does not make it unverified, and a block
that changed is. The file can be lost: then everything counts as never verified.
"""

from __future__ import annotations

import json
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from uuid import UUID

import xxhash

from remotes.contract import Remote
from remotes.errors import Corrupt, NotFound
from xobackup.repository.digests import Entry
from xobackup.repository.layout import PRIVATE, VDIS, checked_uuid

MAGIC = b"xobverf\n"
VERSION = 1
ENTRIES_MAX = 1 << 24
CHECK_BYTES = 16
IMAGES_BYTES_MAX = 4 << 20
NEVER = 0

_HEAD = struct.Struct(">8sIII")
_ENTRY = struct.Struct(">IQI")
FILE_BYTES_MAX = _HEAD.size + ENTRIES_MAX * _ENTRY.size + CHECK_BYTES


def print_of(uuid: UUID, index: int, entry: Entry | None) -> int:
    """What block ``index`` of disk ``uuid`` is; see the module's head."""
    if entry is not None:
        return int.from_bytes(entry.digest[:8], "big")
    return xxhash.xxh3_64_intdigest(uuid.bytes + index.to_bytes(4, "big"))


class Verified:
    """The record of one lineage; 16 bytes a block in memory. One thread writes."""

    def __init__(self, entries: Iterable[tuple[int, int, int]] = ()) -> None:
        """``entries``: (index, print, minutes), sorted."""
        self._indexes, self._prints, self._minutes = array("I"), array("Q"), array("I")
        for index, mark, minutes in entries:
            self._indexes.append(index)
            self._prints.append(mark)
            self._minutes.append(minutes)
        self._fresh: dict[tuple[int, int], int] = {}

    def when(self, index: int, mark: int) -> int:
        """Minutes since 1970, :data:`NEVER` when it never was."""
        fresh = self._fresh.get((index, mark))
        if fresh is not None:
            return fresh
        for at in range(bisect_left(self._indexes, index), bisect_right(self._indexes, index)):
            if self._prints[at] == mark:
                return self._minutes[at]
        return NEVER

    def note(self, index: int, mark: int, minutes: int) -> None:
        """It was found whole just now."""
        self._fresh[index, mark] = minutes

    def forget(self, index: int, mark: int) -> None:
        """It was found damaged: it counts as never verified."""
        self._fresh[index, mark] = NEVER

    @property
    def changed(self) -> bool:
        return bool(self._fresh)

    def entries(self) -> list[tuple[int, int, int]]:
        """All of them, sorted."""
        old = {
            (index, mark): minutes
            for index, mark, minutes in zip(self._indexes, self._prints, self._minutes, strict=True)
        }
        return sorted((*key, minutes) for key, minutes in (old | self._fresh).items() if minutes != NEVER)

    def only(self, live: Iterable[tuple[int, int]]) -> Verified:
        """Without the entries of blocks that are no more."""
        found = {(index, mark, self.when(index, mark)) for index, mark in live}
        return Verified(sorted(entry for entry in found if entry[2] != NEVER))

    def pack(self) -> bytes:
        entries = self.entries()[:ENTRIES_MAX]
        body = _HEAD.pack(MAGIC, VERSION, len(entries), 0) + b"".join(_ENTRY.pack(*entry) for entry in entries)
        return body + xxhash.xxh3_128_digest(body)

    @classmethod
    def unpack(cls, raw: bytes) -> Verified:
        """Parse a file; one that is damaged or of another version is as good as none."""
        body, check = raw[:-CHECK_BYTES], raw[-CHECK_BYTES:]
        if len(body) < _HEAD.size or xxhash.xxh3_128_digest(body) != check:
            return cls()
        magic, version, count, _ = _HEAD.unpack_from(body)
        if magic != MAGIC or version != VERSION or len(body) != _HEAD.size + count * _ENTRY.size:
            return cls()
        return cls(_ENTRY.iter_unpack(body[_HEAD.size :]))


def read_verified(remote: Remote, vm: str, lineage: str) -> Verified:
    """The record of a lineage (``vdis/<job>/<vdi>``)."""
    try:
        return Verified.unpack(remote.get(_name(vm, lineage), limit_bytes=FILE_BYTES_MAX))
    except (NotFound, Corrupt):
        return Verified()


def write_verified(remote: Remote, vm: str, lineage: str, verified: Verified) -> None:
    remote.put(_name(vm, lineage), verified.pack())


def read_images(remote: Remote, vm: str) -> dict[str, int]:
    """When each full backup's image was last read whole and found right: minutes by point."""
    try:
        value = json.loads(remote.get(_images_name(vm), limit_bytes=IMAGES_BYTES_MAX))
        images = value["images"] if value["version"] == VERSION else {}
        return {str(point): int(minutes) for point, minutes in images.items()}
    except (NotFound, Corrupt, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def write_images(remote: Remote, vm: str, images: dict[str, int]) -> None:
    remote.put(_images_name(vm), json.dumps({"version": VERSION, "images": images}).encode())


def _name(vm: str, lineage: str) -> str:
    return f"{_directory(vm)}/{lineage.removeprefix(VDIS + '/')}.xov"


def _images_name(vm: str) -> str:
    return f"{_directory(vm)}/images.json"


def _directory(vm: str) -> str:
    return f"{PRIVATE}/verified/{checked_uuid('vm', vm)}"
