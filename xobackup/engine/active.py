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
POOL_BACKUP = "pool-backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """Who touches which VM."""

    run_id: str
    job_id: str
    job: str
    pool_uuid: str
    vm_uuid: str
    since_s: float
    kind: str = "backup"
    """``backup``, ``restore`` or :data:`POOL_BACKUP`; for the latter ``vm_uuid`` is the pool's."""


@contextmanager
def marked_active(directory: Path, active: Active) -> Iterator[None]:
    """Say that the VM is being touched while inside.

    Leaving by an ordinary exception removes the mark too, because then the clean-up has run. Only a crash keeps it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{active.run_id}.{active.vm_uuid}{SUFFIX}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(fd, json.dumps(asdict(active)).encode())
        os.fsync(fd)
        _sync_directory(directory)
        yield
    finally:
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
