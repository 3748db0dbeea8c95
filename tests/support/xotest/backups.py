"""A VM with small disks, backed up into a repository, and plain arrays to compare every restore point with.

Disks are pictures (:mod:`xotest.pictures`): :meth:`Guest.write` draws over a disk, :meth:`Guest.back_up` makes a
restore point of all of them the way an engine does (leftovers cleared first, a delta where the repository has a base,
a full otherwise) and remembers what it must give back. :meth:`Guest.check` compares everything that is listed.
"""

from __future__ import annotations

import functools
import itertools
import uuid as uuids
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import xxhash

from remotes.contract import Remote
from remotes.memory import MemoryRemote
from vhd.block import BLOCK_BYTES, SECTORS_PER_BLOCK, Block, BlockBuffer, runs
from xobackup.clock import FakeClock
from xobackup.repository.layout import timestamp_name
from xobackup.repository.options import RepositoryOptions
from xobackup.repository.repository import Repository
from xobackup.repository.vm_directory import VmDirectory
from xobackup.repository.writer import Base
from xotest import xo_rules
from xotest.pictures import bitmap_drawn, draw, expand, letters_drawn

VM = "aaaaaaaa-0000-4000-8000-000000000001"
JOB = "bbbbbbbb-0000-4000-8000-000000000001"
SCHEDULE = "cccccccc-0000-4000-8000-000000000001"
START_S = 1_767_225_600.0
_BUFFER = BlockBuffer()


def live_uuid(number: int) -> str:
    """The uuid of the VM's disk ``number``."""
    return f"11111111-0000-4000-8000-{number:012x}"


def memory_remote(clock: FakeClock, **options: Any) -> MemoryRemote:
    """A remote whose time is the test's."""
    return MemoryRemote(clock=clock, **options)


def repository(remote: Remote, clock: FakeClock, **options: Any) -> Repository:
    """A repository whose lock makes no changes of its own accord (a sweep counts them)."""
    return Repository(remote, clock=clock, options=RepositoryOptions(lock_refresh_s=3600.0, **options))


class Guest:
    """The VM: what its disks hold now, and what they held at each restore point."""

    def __init__(self, clock: FakeClock, disks: Sequence[str] = ("AB--", "-C-D"), **options: Any) -> None:
        self.clock = clock
        self.options = options
        """Of every repository it is backed up to."""
        self.disks: list[list[bytes]] = []
        self.drawn: list[dict[int, str]] = []
        """Per disk the blocks drawn since its last restore point: the delta."""
        self.bases: list[list[str]] = []
        """Per disk the snapshots the pool still has, oldest first."""
        self.expected: dict[str, list[list[bytes]]] = {}
        self._numbers = itertools.count(1)
        for picture in disks:
            self.disks.append([bytes(SECTORS_PER_BLOCK)] * len(picture))
            self.drawn.append({})
            self.bases.append([])
            self.write(len(self.disks) - 1, picture)

    def write(self, disk: int, picture: str) -> None:
        """Draw over disk ``disk``; a longer picture makes it grow."""
        blocks = self.disks[disk]
        blocks += [bytes(SECTORS_PER_BLOCK)] * (len(picture) - len(blocks))
        for index, character in enumerate(picture):
            if character == "-":
                continue
            block = bytearray(blocks[index])
            for first, count in runs(bitmap_drawn(character)):
                block[first : first + count] = letters_drawn(character)[first : first + count]
            blocks[index] = bytes(block)
            again = index in self.drawn[disk]
            self.drawn[disk][index] = "*" if again else character

    def repository(self, remote: Remote) -> Repository:
        return repository(remote, self.clock, **self.options)

    def back_up(self, remote: Remote, *, keep: int | None = None) -> str:
        """A whole run: leftovers, disks, publication, then retention to ``keep`` points and merges."""
        with self.repository(remote).lock(VM, timeout_s=60.0) as directory:
            directory.merge()
            point = self.write_point(directory)
            if keep is not None:
                points = [each.id for each in directory.points().points]
                directory.delete_points(points[: max(0, len(points) - keep)])
                directory.merge()
        return point

    def write_point(self, directory: VmDirectory) -> str:
        """Write all disks and publish. Remembers what the point must give back before it can exist."""
        self.clock.advance(1.0)
        timestamp_ms = int(self.clock.now_s()) * 1000
        snapshots = [str(uuids.UUID(int=next(self._numbers), version=4)) for _ in self.disks]
        bases = [self._base(directory, number) for number in range(len(self.disks))]
        results = [
            self._write_disk(directory, number, timestamp_ms, snapshots[number], bases[number])
            for number in range(len(self.disks))
        ]

        self.expected[timestamp_name(timestamp_ms)] = [list(blocks) for blocks in self.disks]
        point = directory.publish(draft(timestamp_ms, snapshots, results, [len(d) for d in self.disks]))
        for number, snapshot in enumerate(snapshots):
            self.bases[number].append(snapshot)
            self.drawn[number] = {}
        return point.id

    def _base(self, directory: VmDirectory, number: int) -> Base | None:
        size = len(self.disks[number]) * BLOCK_BYTES
        found = directory.find_base(JOB, live_uuid(number), self.bases[number][-1:], virtual_size_bytes=size)
        return found if isinstance(found, Base) else None

    def _write_disk(
        self, directory: VmDirectory, number: int, timestamp_ms: int, snapshot: str, base: Base | None
    ) -> str:
        writer = directory.begin_disk(
            JOB,
            live_uuid(number),
            timestamp_ms=timestamp_ms,
            snapshot_uuid=snapshot,
            virtual_size_bytes=len(self.disks[number]) * BLOCK_BYTES,
            base=base,
        )
        for index, letters in enumerate(self.disks[number]):
            character = self.drawn[number].get(index)
            if base is not None and character is None:
                continue
            if base is not None and character is not None and character != "*":
                bitmap = draw(character, _BUFFER)
            elif base is None and not any(letters):
                continue
            else:
                bitmap = None
                _BUFFER.data[:] = expand(letters)
            writer.write_block(Block(index, bitmap, _BUFFER))
        return writer.finish().path

    def check(self, remote: Remote, *, litter: bool = True, merges: bool = True) -> list[str]:
        """Every restore point that is listed gives back what was there, and Xen Orchestra would harm none of them."""
        fresh = self.repository(remote)
        listing = fresh.points(VM)
        assert listing.certain, [str(problem) for problem in listing.problems]
        for point in listing.points:
            for number, blocks in enumerate(self.expected[point.id]):
                with closing(fresh.open_disk(point, live_uuid(number))) as chain:
                    assert chain.virtual_size_bytes == len(blocks) * BLOCK_BYTES
                    for index, letters in enumerate(blocks):
                        chain.read_block(index, _BUFFER)
                        found = xxhash.xxh3_128_digest(_BUFFER.data)
                        assert found == _digest_of(letters), f"{point.id} disk {number} block {index}"
        xo_rules.assert_nothing(remote, allow_litter=litter, allow_merges=merges)
        return [point.id for point in listing.points]


@functools.cache
def _digest_of(letters: bytes) -> bytes:
    return xxhash.xxh3_128_digest(expand(letters))


def draft(
    timestamp_ms: int, snapshots: Sequence[str], paths: Sequence[str], blocks: Sequence[int]
) -> Mapping[str, Any]:
    """The metadata an engine hands over, with just enough in the records."""
    refs = [f"OpaqueRef:vdi-{timestamp_ms}-{number}" for number in range(len(paths))]
    return {
        "jobId": JOB,
        "mode": "delta",
        "scheduleId": SCHEDULE,
        "timestamp": timestamp_ms,
        "vbds": {
            f"OpaqueRef:vbd-{number}": {"VDI": ref, "type": "Disk", "userdevice": str(number), "mode": "RW"}
            for number, ref in enumerate(refs)
        },
        "vdis": {
            ref: {
                "uuid": snapshots[number],
                "name_label": f"disk {number}",
                "virtual_size": blocks[number] * BLOCK_BYTES,
                "type": "user",
                "other_config": {},
                "$snapshot_of$uuid": paths[number].split("/")[2],
                "$SR$uuid": "ffffffff-0000-4000-8000-000000000001",
            }
            for number, ref in enumerate(refs)
        },
        "vifs": {},
        "vhds": dict(zip(refs, paths, strict=True)),
        "vm": {
            "uuid": VM,
            "name_label": "guest",
            "name_description": "",
            "tags": [],
            "other_config": {},
            "is_a_template": False,
        },
        "vmSnapshot": {"uuid": snapshots[0], "suspend_VDI": "OpaqueRef:NULL", "is_a_snapshot": True},
    }
