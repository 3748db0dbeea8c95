"""Which VMs a living run is touching, on this machine: a small file each, locked as long as the run lives.

Written and synced before the first change to a VM, deleted after the last. A file whose lock is free belongs to a run
that was interrupted: it names the VM, the job and the run, so that exactly its leftovers can be cleaned, even if
no job selects the VM any more.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

SUFFIX = ".active.json"
BACKUP = "backup"
RESTORE = "restore"
RESTORE_DISK = "restore-disk"
POOL_BACKUP = "pool-backup"
REPLICATE = "replicate"
HEALTH_CHECK = "health-check"
DR_TEST = "dr-test"
DR_FAILOVER = "dr-failover"
RESTORE_IN_PLACE = "restore-in-place"


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """Who touches which VM."""

    run_id: str
    job_id: str
    job: str
    pool_uuid: str
    vm_uuid: str
    since_s: float
    kind: str = BACKUP
    """With :data:`POOL_BACKUP` ``vm_uuid`` is the pool's, with :data:`RESTORE_DISK` that of the VDI being filled,
    with :data:`REPLICATE` one that is made up of the VM and the target."""


def _locked(path: Path) -> int:
    """The file, held: a new one, or one that an earlier attempt of the same run had to keep."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return fd
        os.close(fd)  # whoever held it before us cleaned up and deleted it


class Mark:
    """One file of the directory, while it is held."""

    def __init__(self) -> None:
        self.kept = False

    def keep(self) -> None:
        """Leave the file where it is: something of the run could not be cleaned up, the next start shall do it."""
        self.kept = True


@contextmanager
def marked_active(directory: Path, active: Active) -> Iterator[Mark]:
    """Say that the VM is being touched while inside.

    Leaving by an ordinary exception removes the mark too, because then the clean-up has run, unless it was told to
    be kept. A crash keeps it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{active.run_id}.{active.vm_uuid}{SUFFIX}"
    fd = _locked(path)
    mark = Mark()
    try:
        os.ftruncate(fd, 0)
        os.write(fd, json.dumps(asdict(active)).encode())
        os.fsync(fd)
        _sync_directory(directory)
        yield mark
    finally:
        if not mark.kept:
            path.unlink(missing_ok=True)
        os.close(fd)


@contextmanager
def interrupted(directory: Path) -> Iterator[list[tuple[Path, Active]]]:
    """What dead runs left behind; held while inside, so that two starts do not clean the same thing.

    Delete a file (``path.unlink()``) once its VM is clean. Files of living runs, and files torn by the crash that
    wrote them (nothing had been touched yet), are not listed.
    """
    found: list[tuple[Path, Active]] = []
    held: list[int] = []
    try:
        for path in sorted(directory.glob(f"*{SUFFIX}")) if directory.is_dir() else []:
            fd = _try_lock(path)
            if fd is None:
                continue
            held.append(fd)
            active = _read(fd)
            if active is None:
                path.unlink(missing_ok=True)
            else:
                found.append((path, active))
        yield found
    finally:
        for fd in held:
            os.close(fd)


def living(directory: Path) -> frozenset[str]:
    """Ids of the runs that work on this machine right now."""
    found: set[str] = set()
    for path in directory.glob(f"*{SUFFIX}") if directory.is_dir() else []:
        fd = _try_lock(path)
        if fd is None and path.exists():
            found.add(path.name.partition(".")[0])
        elif fd is not None:
            os.close(fd)
    return frozenset(found)


def _try_lock(path: Path) -> int | None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _read(fd: int) -> Active | None:
    with suppress(ValueError, TypeError):
        fields = json.loads(os.pread(fd, 65536, 0))
        active = Active(**fields)
        if all(isinstance(getattr(active, name), str) for name in ("run_id", "job_id", "pool_uuid", "vm_uuid")):
            return active
    return None


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
