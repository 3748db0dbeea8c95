"""The repositories Xen Orchestra itself wrote (``fixtures/xo-repositories``), unpacked, and what they must give back.

:func:`unpack` makes a fresh copy a test may damage; :func:`pristine` one copy per process for tests that only read.
"""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures"
ARCHIVES = FIXTURES / "xo-repositories"
NAMES = tuple(sorted(path.name.removesuffix(".tar.zst") for path in ARCHIVES.glob("*.tar.zst")))
ENCRYPTION_KEY = "01234567890123456789012345678901"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedDisk:
    snapshot_uuid: str
    virtual_size_bytes: int
    sha256: str
    """Of the whole raw disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedRun:
    timestamp_ms: int
    is_full: bool
    disks: tuple[ExpectedDisk, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """One unpacked repository. ``root`` is the remote's root; ``raw`` the whole expectation file."""

    name: str
    root: Path
    vm: str
    job: str
    schedule: str
    runs: tuple[ExpectedRun, ...]
    raw: dict[str, object]

    @property
    def vm_directory(self) -> Path:
        return self.root / "xo-vm-backups" / self.vm

    def points(self) -> list[str]:
        """Names (``<ts>.json``) of the restore points that are there, oldest first."""
        return sorted(path.name for path in self.vm_directory.glob("*.json"))

    def disks(self) -> Iterator[tuple[str, ExpectedDisk]]:
        """(point's file name, disk) of every disk of a delta point that is there: what must be restorable."""
        expected = {disk.snapshot_uuid: disk for run in self.runs for disk in run.disks}
        for point in self.points():
            metadata = json.loads((self.vm_directory / point).read_bytes())
            for vdi in metadata.get("vdis", {}).values():
                yield point, expected[vdi["uuid"]]


def unpack(name: str, directory: Path) -> Golden:
    """Unpack archive ``name`` below ``directory`` (made if missing)."""
    directory.mkdir(parents=True, exist_ok=True)
    with (
        (ARCHIVES / f"{name}.tar.zst").open("rb") as packed,
        zstandard.ZstdDecompressor().stream_reader(packed) as plain,
        tarfile.open(fileobj=plain, mode="r|") as archive,
    ):
        archive.extractall(directory, filter="data")
    raw = json.loads((directory / f"{name}.expected.json").read_bytes())
    return Golden(
        name=name,
        root=directory / name,
        vm=raw["vm"],
        job=raw["job"],
        schedule=raw["schedule"],
        runs=tuple(_run(run) for run in raw["runs"]),
        raw=raw,
    )


@functools.cache
def pristine(name: str) -> Golden:
    """An unpacked copy shared by the process's tests: do not write into it."""
    directory = tempfile.mkdtemp(prefix=f"golden-{name}-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return unpack(name, Path(directory))


def _run(raw: dict[str, object]) -> ExpectedRun:
    vdis = raw["vdis"]
    assert isinstance(vdis, dict)
    return ExpectedRun(
        timestamp_ms=int(str(raw["timestamp"])),
        is_full=bool(raw["isFull"]),
        disks=tuple(
            ExpectedDisk(snapshot_uuid=uuid, virtual_size_bytes=disk["virtualSize"], sha256=disk["sha256"])
            for uuid, disk in vdis.items()
        ),
    )
