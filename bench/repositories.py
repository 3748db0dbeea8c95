"""A repository with one VM of one disk: a full restore point, and deltas after it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

from bench.data import blocks
from remotes.local import LocalRemote
from vhd.block import BLOCK_BYTES
from xobackup.clock import SystemClock
from xobackup.engine.world import World, real_world
from xobackup.repository.metadata import PointDisk, RestorePoint
from xobackup.repository.repository import Repository
from xobackup.repository.writer import Base

VM = "aaaaaaaa-0000-4000-8000-000000000001"
JOB = "bbbbbbbb-0000-4000-8000-000000000001"
SCHEDULE = "cccccccc-0000-4000-8000-000000000001"
LIVE = "11111111-0000-4000-8000-000000000001"
START_MS = 1_767_225_600_000
DISK_REF = "OpaqueRef:disk"


def open_repository(directory: Path) -> Repository:
    return Repository(LocalRemote(directory), clock=SystemClock())


def open_point(directory: Path) -> tuple[World, Repository, RestorePoint, PointDisk]:
    """The newest restore point and its disk, and a world to restore in."""
    repository = open_repository(directory)
    point = repository.points(VM).points[-1]
    return real_world(directory / "state", clock=SystemClock()), repository, point, point.disks[0]


def make(directory: Path, count: int, changes: Iterable[Iterable[int]] = ()) -> list[Path]:
    """A disk of ``count`` blocks, all of them full, then one restore point per element of ``changes``; its VHDs."""
    directory.mkdir(exist_ok=True)
    fill(open_repository(directory), count, changes)
    return sorted((directory / "xo-vm-backups" / VM / "vdis" / JOB / LIVE).glob("*.vhd"))


def fill(repository: Repository, count: int, changes: Iterable[Iterable[int]] = ()) -> None:
    """The same in any repository."""
    with repository.lock(VM) as vm:
        base: Base | None = None
        for number, changed in enumerate([range(count), *changes]):
            timestamp_ms = START_MS + number * 86_400_000
            snapshot = f"22222222-0000-4000-8000-{number:012x}"
            size = count * BLOCK_BYTES
            writer = vm.begin_disk(
                JOB, LIVE, timestamp_ms=timestamp_ms, snapshot_uuid=snapshot, virtual_size_bytes=size, base=base
            )
            for block in blocks(changed, number):
                writer.write_block(block)
            result = writer.finish()
            vm.publish(_draft(timestamp_ms, snapshot, size, result.path))
            base = Base(
                name=Path(result.path).name,
                uuid=UUID(snapshot),
                virtual_size_bytes=size,
                chain_length=number + 1,
                codec="brotli" if result.path.endswith(".alias.vhd") else None,
            )


def _draft(timestamp_ms: int, snapshot: str, size: int, path: str) -> dict[str, object]:
    vdi = {
        "uuid": snapshot,
        "name_label": "disk 0",
        "virtual_size": size,
        "type": "user",
        "other_config": {},
        "sm_config": {},
        "$snapshot_of$uuid": LIVE,
    }
    vm = {"uuid": VM, "name_label": "bench", "name_description": "", "tags": [], "other_config": {}}
    return {
        "jobId": JOB,
        "scheduleId": SCHEDULE,
        "timestamp": timestamp_ms,
        "vbds": {
            "OpaqueRef:vbd": {"VDI": DISK_REF, "type": "Disk", "userdevice": "0", "mode": "RW", "bootable": True}
        },
        "vdis": {DISK_REF: vdi},
        "vifs": {},
        "vhds": {DISK_REF: path},
        "vm": vm,
        "vmSnapshot": {**vm, "suspend_VDI": "OpaqueRef:NULL", "is_a_snapshot": True},
    }
