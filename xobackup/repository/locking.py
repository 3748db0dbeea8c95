"""Which lock a remote can have: Xen Orchestra's directory, else a lease, else none.

Decided by capabilities. Where there is none, nothing keeps two programs from working on the same VM at the same time:
then what looks like a leftover may be somebody's work, and only its age tells (:mod:`xobackup.repository.begun`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

from remotes import faces
from remotes.contract import Buffer, Remote
from xobackup.clock import Clock
from xobackup.repository.layout import checked_uuid, lock_name
from xobackup.repository.lease import Lease
from xobackup.repository.lock import DirectoryLock
from xobackup.repository.options import RepositoryOptions


class VmLock(Protocol):
    """A lock that is held."""

    name: str

    def check(self) -> None:
        """Raise :class:`~xobackup.repository.errors.LockLost` when it is not ours any more, as far as is known."""
        ...

    def prove(self) -> None:
        """As :meth:`check`, asking the storage where that is what tells."""
        ...

    def place(self, name: str, data: Buffer, *, replace: bool = True) -> None:
        """Put what others go by (a restore point), as far as the storage can refuse that to a zombie: somebody who
        was stopped, overtaken and continued."""
        ...


class NoLock:
    """What there is where a remote can have no lock."""

    def __init__(self, remote: Remote, vm: str) -> None:
        self.name = lock_name(vm)
        self._remote = remote

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """There is nothing to give back."""

    def check(self) -> None:
        """It cannot be lost."""

    def prove(self) -> None:
        """There is nothing to prove."""

    def place(self, name: str, data: Buffer, *, replace: bool = True) -> None:
        """Nothing can be refused."""
        self._remote.put(name, data, replace=replace)


def lock_for(
    remote: Remote,
    vm: str,
    *,
    clock: Clock,
    options: RepositoryOptions,
    timeout_s: float,
    purpose: str,
    check: Callable[[], None],
) -> AbstractContextManager[VmLock]:
    """The lock of one VM's directory, to be entered. ``check`` is asked while waiting, and raises to give up."""
    checked_uuid("vm", vm)
    faces.probe(remote)
    able = remote.capabilities
    if able.exclusive_directories:
        return DirectoryLock(
            remote,
            vm,
            clock=clock,
            timeout_s=timeout_s,
            refresh_s=options.lock_refresh_s,
            purpose=purpose,
            check=check,
        )
    if able.conditional_put:
        return Lease(
            remote,
            vm,
            clock=clock,
            timeout_s=timeout_s,
            refresh_s=options.lease_refresh_s,
            purpose=purpose,
            check=check,
        )
    return NoLock(remote, vm)
