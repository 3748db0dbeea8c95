"""Something between a remote and its store that fails requests as planned, or loses the client for good.

Requests are counted from 1 as they are made, whatever thread makes them. A failure is one of :data:`FAILURES`;
``after`` lets the store do what was asked before the client hears that it failed.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

from remotes.faults import PowerCut
from xotest.s3.memory import refused

URL = "http://store"
FAILURES: dict[str, Callable[[], Exception]] = {
    "403": lambda: refused(403, "AccessDenied", "Access Denied"),
    "404": lambda: refused(404, "NoSuchKey"),
    "500": lambda: refused(500, "InternalError"),
    "503": lambda: refused(503, "SlowDown", "Please reduce your request rate."),
    "timeout": lambda: ReadTimeoutError(endpoint_url=URL),
    "reset": lambda: ConnectionClosedError(endpoint_url=URL),
}
PASSING = ("500", "503", "timeout", "reset")
"""What a client must get over by itself."""


class FaultyS3:
    """A client that does what ``plan`` says: called with a request's number and operation, it gives what to raise."""

    def __init__(
        self, client: Any, plan: Callable[[int, str], BaseException | None] = lambda *_: None, *, after: bool = False
    ) -> None:
        self._client = client
        self._plan = plan
        self._after = after
        self._lock = threading.Lock()
        self._cut = False
        self.requests = 0
        self.kinds: Counter[str] = Counter()
        self.fired: list[str] = []

    def __getattr__(self, operation: str) -> Any:
        found = getattr(self._client, operation)
        if operation in ("meta", "close"):
            return found

        def request(**parameters: Any) -> Any:
            with self._lock:
                if self._cut:
                    raise PowerCut("since an earlier request")
                self.requests += 1
                self.kinds[operation] += 1
                error = self._plan(self.requests, operation)
                if error is not None:
                    self.fired.append(f"{self.requests}: {operation} {parameters.get('Key', '')}")
                    self._cut = isinstance(error, PowerCut)
            if error is None:
                return found(**parameters)
            if self._after:
                found(**parameters)
            raise error

        return request


def at(number: int, error: Callable[[], BaseException]) -> Callable[[int, str], BaseException | None]:
    """A plan: the request of that number fails, once."""
    return lambda count, _: error() if count == number else None
