"""The fencing token of a VM directory: a number that only grows, and what a holder of the lock does under it.

    .xobackup/leases/<vm>/<number>.json      the token of that number; empty
    xo-vm-backups/<vm>/.<ts>.json.part       a restore point on its way (or the cache): named by one rename

Whoever takes the lock puts the next number, which succeeds for exactly one, then removes every lower one, and then,
by a listing made after that, every restore point that is on its way. Who finds his own token gone has lost the lock,
however long he slept and whatever clocks say (:meth:`Fence.stands`).

A restore point is placed so that the storage itself refuses it to a zombie: its JSON is put out of sight, then the
token is looked for, and one rename gives it its name. A successor either came before that look, then the token is
gone, or after it, then he finds the file and takes it away before he does anything else, and the rename has nothing
to rename. There is no instant at which somebody who was overtaken can publish or rewrite a restore point.

An alias of a VHD directory is placed in the same way; the successor's first merge removes it, with parts of disks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from remotes.contract import Buffer, Remote
from remotes.errors import AlreadyExists, NotFound, RemoteError
from xobackup.repository.errors import LockLost
from xobackup.repository.layout import (
    JSON_SUFFIX,
    is_placed_part,
    lease_directory,
    lease_name,
    placed_part_name,
    vm_directory,
)

OVERTAKEN = "somebody else took it over"


class Fence:
    """The token of one holder. Every operation may raise what the storage does."""

    def __init__(self, remote: Remote, vm: str) -> None:
        self.number = 0
        self._remote = remote
        self._vm = vm
        self._directory = lease_directory(vm)

    def take(self, ours: Callable[[], bool]) -> bool:
        """Put the next number and remove what is lower. False when somebody was quicker, or the lock is not ours any
        more by then (``ours``): who slept since he made it must not overtake the one who came after him."""
        self.number = max((number_of(name) for name in self._names()), default=0) + 1
        try:
            self._remote.put(lease_name(self._vm, self.number), b"", replace=False)
        except AlreadyExists:
            return False
        if not ours():
            self._remote.delete(lease_name(self._vm, self.number), missing_ok=True)
            return False
        self._clear()
        return True

    def stands(self) -> bool:
        """Whether our token is still there."""
        try:
            self._remote.get(lease_name(self._vm, self.number))
        except NotFound:
            return False
        return True

    def place(self, lock: str, name: str, data: Buffer, *, replace: bool) -> None:
        """Put ``data`` in one step that a zombie cannot take. ``lock``: for messages."""
        stage = placed_part_name(name)
        try:
            self._remote.put(stage, data, replace=False)
        except AlreadyExists:  # of an attempt before, under this lock, whose rename failed
            if not self.stands():
                raise LockLost(lock, OVERTAKEN) from None
            self._remote.delete(stage, missing_ok=True)
            self._remote.put(stage, data, replace=False)
        if not self.stands():  # what we put is for the other one to remove: nothing there is ours any more
            raise LockLost(lock, OVERTAKEN)
        try:
            self._remote.rename(stage, name, replace=replace)
        except NotFound:
            raise LockLost(lock, OVERTAKEN) from None
        except AlreadyExists:
            with contextlib.suppress(RemoteError):
                self._remote.delete(stage, missing_ok=True)
            raise

    def _clear(self) -> None:
        """In this order, see the module's head."""
        for name in self._names():
            if number_of(name) < self.number:
                self._remote.delete(f"{self._directory}/{name}", missing_ok=True)
        for entry in self._remote.list(vm_directory(self._vm)):
            if is_placed_part(entry.name):
                self._remote.delete(f"{vm_directory(self._vm)}/{entry.name}", missing_ok=True)

    def _names(self) -> list[str]:
        try:
            entries = self._remote.list(self._directory)
        except NotFound:
            return []
        return [entry.name for entry in entries if number_of(entry.name)]


def number_of(name: str) -> int:
    """The number that a file of the directory is; 0: it is none of ours."""
    stem = name.removesuffix(JSON_SUFFIX)
    return int(stem) if stem.isascii() and stem.isdigit() else 0
