"""What the VMs of a run were given: so that those at work at the same time do not all go to the emptiest remote.

What was given to a VM counts until its attempt ends: then what it wrote is part of what the remote itself says.
Remotes on the same storage (``Usage.storage``) have one free space together. One object per run, used by all threads.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from remotes.errors import NoSpace, RemoteError
from xobackup.engine.errors import AllSinksFailed, NoRoom

if TYPE_CHECKING:
    from remotes.contract import Usage
    from xobackup.repository.repository import Repository


class Elsewhere(Protocol):
    """Where it is known what VMs of the run were given that others do. ``None`` as an answer: it is not known now."""

    def deciding(self) -> AbstractContextManager[None]:
        """One at a time, anywhere."""
        ...

    def give(self, vm: str, remote: str, storage: str, size_bytes: int) -> None: ...

    def release(self, vm: str) -> None: ...

    def promised(self, vm: str, storage: str) -> int | None:
        """Bytes to all others."""
        ...

    def count(self, remote: str) -> int | None: ...


class Given:
    """See the module's head. Be :meth:`deciding` from asking what is left until something is given."""

    def __init__(self, elsewhere: Elsewhere | None = None) -> None:
        self._elsewhere = elsewhere
        self.lock = threading.RLock()
        self._promised: dict[str, tuple[str, int]] = {}
        """By VM: the storage it writes to, and how much at most."""
        self._counts: Counter[str] = Counter()
        self._vms: dict[str, int | None] = {}
        self._full: dict[str, dict[str, str]] = {}

    def give(self, vm: str, remote: str, usage: Usage | None, size_bytes: int) -> None:
        """``vm`` (uuid) writes up to ``size_bytes`` to ``remote``."""
        with self.lock:
            self._promised[vm] = (_storage(remote, usage), size_bytes)
            self._counts[remote] += 1
        if self._elsewhere is not None:
            self._elsewhere.give(vm, remote, _storage(remote, usage), size_bytes)

    def release(self, vm: str) -> None:
        """Its attempt is over."""
        with self.lock:
            had = self._promised.pop(vm, None)
        if self._elsewhere is not None and had is not None:
            self._elsewhere.release(vm)

    def left(self, vm: str, remote: str, usage: Usage | None) -> int | None:
        """Free bytes there once all others have theirs."""
        if usage is None:
            return None
        storage = _storage(remote, usage)
        told = None if self._elsewhere is None else self._elsewhere.promised(vm, storage)
        if told is not None:
            return max(0, usage.free_bytes - told)
        with self.lock:
            promised = sum(size for other, (on, size) in self._promised.items() if on == storage and other != vm)
        return max(0, usage.free_bytes - promised)

    def count(self, remote: str) -> int:
        """VMs that got there in this run."""
        told = None if self._elsewhere is None else self._elsewhere.count(remote)
        with self.lock:
            return self._counts[remote] if told is None else told

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Nobody else of the run decides meanwhile."""
        with self._elsewhere.deciding() if self._elsewhere is not None else nullcontext(), self.lock:
            yield

    def vms_on(self, remote: str, repository: Repository) -> int:
        """VMs there when the run first asked, and those it got since."""
        with self.lock:
            if remote not in self._vms:
                try:
                    self._vms[remote] = len(repository.vms())
                except (RemoteError, OSError):
                    self._vms[remote] = None  # what is wrong with it is told where it matters
            return (self._vms[remote] or 0) + self._counts[remote]

    def found_full(self, vm: str, remote: str, error: BaseException) -> None:
        """``remote`` had no room after all: not again for this VM in this run."""
        with self.lock:
            self._full.setdefault(vm, {})[remote] = f"it was full in this run ({error})"

    def full(self, vm: str) -> Mapping[str, str]:
        """By remote: why not again."""
        with self.lock:
            return dict(self._full.get(vm, {}))


def is_full(error: BaseException | None) -> bool:
    """Whether a remote's lack of room ended an attempt."""
    if isinstance(error, AllSinksFailed):
        return bool(error.failures) and all(is_full(one) for one in error.failures.values())
    return isinstance(error, NoSpace | NoRoom)


def _storage(remote: str, usage: Usage | None) -> str:
    return (usage.storage if usage is not None else "") or f"remote:{remote}"
