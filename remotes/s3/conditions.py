"""Whether the store refuses a name that is taken (``If-None-Match: *``): many do, some say no, some say yes and lie.

It is found out by trying, once, when the remote is to be written by several: a name is put twice, then by several at
the same time; only a store that refuses the second, and lets exactly one of several win, *keeps* the condition. What
came of it is remembered in ``.xobackup/s3.json``, for this endpoint.
"""

from __future__ import annotations

import json
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Any

from remotes import errors
from remotes.s3.keys import Keys
from remotes.s3.locking import Locker
from remotes.s3.reading import get_object

MEMORY = ".xobackup/s3.json"
VERSION = 1
_MEMORY_BYTES_MAX = 4096
_RACERS = 4


class Condition(StrEnum):
    UNKNOWN = "unknown"
    KEPT = "kept"
    IGNORED = "ignored"
    """It overwrites all the same."""
    REFUSED = "refused"
    """It does not know that request."""


class Conditions:
    """What is known of one store."""

    def __init__(self, locker: Locker, keys: Keys, endpoint: str) -> None:
        self._requester = locker.requester
        self._locker = locker
        self._keys = keys
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self.state = Condition.UNKNOWN

    def put(self, name: str, body: bytes) -> None:
        """Put ``name`` unless it is there: :class:`~remotes.errors.AlreadyExists`.

        After an ambiguous failure a name that holds ``body`` counts as ours.
        """
        if self.state is not Condition.KEPT and self._exists(name):
            raise errors.AlreadyExists(self._requester.url, name)
        only = {} if self.state in (Condition.REFUSED, Condition.IGNORED) else {"IfNoneMatch": "*"}
        try:
            self._put(name, body, **only)
        except errors.NotSupported:
            if not only:
                raise
            self._put(name, body)

    def find_out(self) -> Condition:
        """Remember, or try."""
        with self._lock:
            if self.state is Condition.UNKNOWN:
                self.state = self._remembered() or self._tried()
        return self.state

    def look(self) -> Condition:
        """Remember; nothing is tried."""
        with self._lock:
            if self.state is Condition.UNKNOWN:
                self.state = self._remembered() or Condition.UNKNOWN
        return self.state

    def _remembered(self) -> Condition | None:
        try:
            raw = get_object(self._requester, self._keys, MEMORY, _MEMORY_BYTES_MAX)
            found = json.loads(raw)
            if found["version"] == VERSION and found["endpoint"] == self._endpoint:
                return Condition(found["conditional_put"])
        except (errors.NotFound, errors.TooLarge, ValueError, KeyError, TypeError):
            pass
        return None

    def _tried(self) -> Condition:
        found = self._try()
        memory = {"version": VERSION, "endpoint": self._endpoint, "conditional_put": found.value}
        self._put(MEMORY, json.dumps(memory).encode())
        return found

    def _try(self) -> Condition:
        name = f".xobackup/probe-{secrets.token_hex(8)}"
        raced = f"{name}-raced"
        try:
            self._put(name, b"first", IfNoneMatch="*")
            if self._takes(name, b"second"):
                return Condition.IGNORED
            with ThreadPoolExecutor(_RACERS, thread_name_prefix="probe") as pool:
                winners = sum(pool.map(lambda number: self._takes(raced, b"%d" % number), range(_RACERS)))
            return Condition.KEPT if winners == 1 else Condition.IGNORED
        except errors.NotSupported:
            return Condition.REFUSED
        finally:
            for each in (name, raced):
                self._requester.call("delete_object", each, Key=self._keys.key(each))

    def _takes(self, name: str, body: bytes) -> bool:
        try:
            self._put(name, body, IfNoneMatch="*")
        except errors.AlreadyExists:
            return False
        return True

    def _put(self, name: str, body: bytes, **only: Any) -> None:
        def settle(error: errors.RemoteError) -> None:
            ours = isinstance(error, errors.AlreadyExists) and self._content(name, len(body)) == body
            if not ours:
                raise error

        key = self._keys.key(name)
        self._locker.put(name, settle=settle if only else None, Key=key, Body=body, **only)

    def _content(self, name: str, limit_bytes: int) -> bytes | None:
        try:
            return get_object(self._requester, self._keys, name, limit_bytes)
        except (errors.NotFound, errors.TooLarge):
            return None

    def _exists(self, name: str) -> bool:
        try:
            self._requester.call("head_object", name, Key=self._keys.key(name))
        except errors.NotFound:
            return False
        return True
