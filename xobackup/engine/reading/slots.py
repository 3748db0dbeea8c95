"""How many NBD connections a run keeps open to one pool at a time.

A XAPI host serves sixteen and closes every further one without a word, which a reader cannot tell from trouble; so
disks share a budget below that, and one that finds it used up waits. Each connection also means buffers: this is the
bound on a run's memory for NBD.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from xobackup.engine.cancel import CancelToken

CONNECTIONS_MAX = 12
"""Of a host's sixteen: four stay for other programs and for connections that the host has not let go of yet."""


class NbdSlots:
    """Thread-safe."""

    def __init__(self, count: int = CONNECTIONS_MAX) -> None:
        self._free = count
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, wanted: int, cancel: CancelToken) -> Iterator[int]:
        """At least one and at most ``wanted`` connections, while inside; waits while there is none.

        A third of what is free stays for the next one: disks that come later shall not wait for whole disks.
        """
        with cancel.waking(self._wake), self._changed:
            while not self._free:
                cancel.check()
                self._changed.wait()
            cancel.check()
            count = min(wanted, max(1, self._free * 2 // 3))
            self._free -= count
        try:
            yield count
        finally:
            with self._changed:
                self._free += count
                self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
