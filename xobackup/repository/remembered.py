"""The remote as whoever holds a VM's lock sees it: every change is refused once the lock is lost, and answers are
remembered where that pays.

What of a VM's directory need not be read again while its lock is held: listings, restore points, and the small
files that describe disks. On storages where a request costs more than what it brings, and where the lock is one.

Xen Orchestra takes no lock on object stores: there it must not work on a VM while a run of ours does, as ever.
"""

from __future__ import annotations

from remotes.contract import Buffer, Remote
from remotes.guarded import Allowed, GuardedRemote
from remotes.remembering import RememberingRemote
from xobackup.repository.layout import checked_uuid, is_placed, vm_directory
from xobackup.repository.locking import NoLock, VmLock

DESCRIBING = frozenset({"header", "footer", "bat", "partial", "chunk-filters.json"})
"""Of a VHD directory, beside its blocks."""


def as_held(remote: Remote, vm: str, lock: VmLock) -> Remote:
    """``remote`` for whoever holds the ``lock`` of ``vm``."""
    if isinstance(lock, NoLock):
        return remote

    def allowed(weighty: bool) -> None:
        if weighty:
            lock.prove()
        else:
            lock.check()

    guarded = _Fenced(remote, allowed, vm, lock)
    if remote.capabilities.random_access:
        return guarded
    return RememberingRemote(guarded, below=vm_directory(checked_uuid("vm", vm)), remembers=describes)


class _Fenced(GuardedRemote):
    """What others go by (:func:`~xobackup.repository.layout.is_placed`) gets its name as the lock says."""

    def __init__(self, inner: Remote, allowed: Allowed, vm: str, lock: VmLock) -> None:
        super().__init__(inner, allowed)
        self._below = f"{vm_directory(checked_uuid('vm', vm))}/"
        self._lock = lock

    def put(self, name: str, data: Buffer, *, replace: bool = True) -> None:
        if name.startswith(self._below) and is_placed(name.removeprefix(self._below)):
            self._lock.place(name, data, replace=replace)
        else:
            super().put(name, data, replace=replace)


def describes(name: str) -> bool:
    """Whether a file describes a disk or is a restore point."""
    base = name.rpartition("/")[2]
    return base in DESCRIBING or base.endswith(".alias.vhd") or (base.endswith(".json") and not base.startswith("."))
