"""What can be wrong with a backup repository.

    RepositoryError
    ├── BadName          a uuid, time stamp or path that may not be one (never used as a path)
    ├── BadMetadata      a restore point's JSON cannot be understood
    ├── BadDigests       a digest file's bytes are wrong
    ├── PointNotFound    no restore point of that id
    ├── DiskNotFound     the restore point has no such disk
    ├── Encrypted        the remote is encrypted and no key was given
    ├── Refused          the repository as it is forbids the step; ``code`` says which rule
    ├── Locked           object lock, or an immutable flag, keeps what was to be deleted
    ├── LockHeld         somebody else works on that VM's directory
    └── LockLost         the lock was taken over while we worked

Errors of the remote (:mod:`remotes.errors`) and of a disk (:mod:`vhd.errors`) pass through unchanged.
"""

from __future__ import annotations


class RepositoryError(Exception):
    """Root of everything this package raises for the state of a repository."""


class BadName(RepositoryError):
    """``text`` was given as a ``kind`` and is none."""

    def __init__(self, kind: str, text: object, expected: str) -> None:
        self.kind = kind
        self.text = text
        super().__init__(f"{kind}: expected {expected}, found {_short(text)}")


class BadMetadata(RepositoryError):
    """The JSON of a restore point is not one."""

    def __init__(self, name: str, problem: str, *, code: str = "metadata-invalid") -> None:
        self.name = name
        self.problem = problem
        self.code = code
        super().__init__(f"{name}: {problem}")


class BadDigests(RepositoryError):
    """A digest file is damaged; it says nothing about the disk."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem
        super().__init__(f"{name}: {problem}")


class PointNotFound(RepositoryError):
    def __init__(self, vm: str, point: str) -> None:
        self.vm = vm
        self.point = point
        super().__init__(f"vm {vm} has no restore point {point}")


class DiskNotFound(RepositoryError):
    def __init__(self, point: str, disk: str, problem: str = "no such disk") -> None:
        self.point = point
        self.disk = disk
        super().__init__(f"restore point {point}: disk {disk}: {problem}")


class Encrypted(RepositoryError):
    """The remote's files are encrypted; without the key nothing in it can be read, and nothing may be written."""

    def __init__(self, remote: str, algorithm: str) -> None:
        self.remote = remote
        self.algorithm = algorithm
        super().__init__(f"{remote}: the remote is encrypted ({algorithm}), which needs its key")


class Refused(RepositoryError):
    """A step was refused before anything was changed. ``code`` is stable, e.g. ``same-second``."""

    def __init__(self, code: str, name: str, problem: str) -> None:
        self.code = code
        self.name = name
        self.problem = problem
        super().__init__(f"{name}: {problem}")


class Locked(RepositoryError):
    """Restore points of ``vm`` cannot be deleted yet; ``held`` are sentences with what holds each, until when."""

    hint = (
        "wait for that (a pin: `xobackup backups unpin`); retention deletes what is due at the first run afterwards"
    )

    def __init__(self, vm: str, held: list[str]) -> None:
        self.vm = vm
        self.held = held
        super().__init__(f"vm {vm}: nothing was deleted: {'; '.join(held)}")


class LockHeld(RepositoryError):
    """Another process holds the lock ``name``, refreshed ``age_s`` seconds ago."""

    def __init__(self, name: str, age_s: float, holder: str | None) -> None:
        self.name = name
        self.age_s = age_s
        self.holder = holder
        who = f"; last holder known: {holder}" if holder else " by another program (Xen Orchestra?)"
        super().__init__(f"{name}: the lock is held, refreshed {age_s:.0f} s ago{who}")


class LockLost(RepositoryError):
    """The lock ``name`` is no longer ours."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem
        super().__init__(f"{name}: the lock was lost: {problem}")


def _short(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= 120 else shown[:117] + "..."
