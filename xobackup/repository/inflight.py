"""Several requests to a storage under way at a time, where each one waits for a network.

One :class:`InFlight` for everything that is written to a repository, so that the bound on memory is one, whatever the
number of disks; a :class:`Flight` for what belongs together and fails together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class InFlight:
    """At most ``requests_max`` at a time; who brings one more waits."""

    def __init__(self, requests_max: int) -> None:
        self._pool = ThreadPoolExecutor(requests_max, thread_name_prefix="put")
        self._free = threading.BoundedSemaphore(requests_max)

    def begin(self) -> Flight:
        return Flight(self._pool, self._free)


class Flight:
    """Brought by one thread at a time. After a failure nothing more is taken."""

    def __init__(self, pool: ThreadPoolExecutor, free: threading.BoundedSemaphore) -> None:
        self._pool = pool
        self._free = free
        self._under_way: set[Future[None]] = set()
        self._lock = threading.Lock()
        self._failure: BaseException | None = None

    def send(self, action: Callable[[], None]) -> None:
        """Do ``action`` in another thread; waits for a free place. Raises what an earlier one raised."""
        self._raise_failure()
        self._free.acquire()
        try:
            future = self._pool.submit(action)
        except BaseException:
            self._free.release()
            raise
        with self._lock:
            self._under_way.add(future)
        future.add_done_callback(self._done)

    def land(self) -> None:
        """Wait for all of them. Raises what one of them raised."""
        self._wait()
        self._raise_failure()

    def abandon(self) -> None:
        """Wait until none is under way any more; what they raise is of no interest."""
        with self._lock:
            waiting = list(self._under_way)
        for future in waiting:
            future.cancel()
        self._wait()

    def _wait(self) -> None:
        while True:
            with self._lock:
                waiting = list(self._under_way)
            if not waiting:
                return
            for future in waiting:
                if not future.cancelled():
                    future.exception()

    def _done(self, future: Future[None]) -> None:
        self._free.release()
        failure = None if future.cancelled() else future.exception()
        with self._lock:
            self._under_way.discard(future)
            if failure is not None and self._failure is None:
                self._failure = failure

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
