"""What of a VM's directory need not be read again while its lock is held: listings, restore points, and the small
files that describe disks. On storages where a request costs more than what it brings, and where the lock is one.

Xen Orchestra takes no lock on object stores: there it must not work on a VM while a run of ours does, as ever.
"""

from __future__ import annotations

from remotes.contract import Remote
from remotes.remembering import RememberingRemote
from xobackup.repository.layout import checked_uuid, vm_directory
from xobackup.repository.locking import NoLock, VmLock

DESCRIBING = frozenset({"header", "footer", "bat", "partial", "chunk-filters.json"})
"""Of a VHD directory, beside its blocks."""


def remembering(remote: Remote, vm: str, lock: VmLock) -> Remote:
    """``remote`` for whoever holds the ``lock`` of ``vm``."""
    if remote.capabilities.random_access or isinstance(lock, NoLock):
        return remote
    return RememberingRemote(remote, below=vm_directory(checked_uuid("vm", vm)), remembers=describes)


def describes(name: str) -> bool:
    """Whether a file describes a disk or is a restore point."""
    base = name.rpartition("/")[2]
    return base in DESCRIBING or base.endswith(".alias.vhd") or (base.endswith(".json") and not base.startswith("."))
