"""Objects and ranges of them. A connection that breaks is resumed where it broke, on the same version."""

from __future__ import annotations

import io
import threading
from contextlib import closing
from typing import Any

from remotes import errors
from remotes.s3.keys import Keys
from remotes.s3.requester import Requester


class _Fetch:
    """The bytes ``start`` to the end of ``view`` of one object, on their way."""

    def __init__(self, requester: Requester, key: str, name: str, version: str = "") -> None:
        self._requester = requester
        self._what = {"Key": key, **({"VersionId": version} if version else {})}
        self._name = name
        self.etag = ""

    def begin(self, limit_bytes: int | None) -> tuple[Any, int]:
        """Ask for the whole object: its body and its length."""
        answer = self._requester.once("get_object", self._name, **self._what)
        size = int(answer["ContentLength"])
        self.etag = str(answer.get("ETag") or "")
        if limit_bytes is not None and size > limit_bytes:
            answer["Body"].close()
            raise errors.TooLarge(self._requester.url, self._name, limit_bytes=limit_bytes, found_bytes=size)
        return answer["Body"], size

    def resume(self, start: int, end: int) -> Any:
        """Ask for a range: its body."""
        only = {"IfMatch": self.etag} if self.etag else {}
        answer = self._requester.once(
            "get_object", self._name, **self._what, Range=f"bytes={start}-{end - 1}", **only
        )
        if int(answer["ContentLength"]) != end - start:  # rclone calls a part 200, not 206
            answer["Body"].close()
            raise errors.NotSupported(self._requester.url, self._name, "the store does not give ranges of an object")
        self.etag = self.etag or str(answer.get("ETag") or "")
        return answer["Body"]

    def fill(self, body: Any, view: memoryview) -> int:
        """:meth:`pull`, and close the body."""
        with closing(body):
            return self.pull(body, view)

    def pull(self, body: Any, view: memoryview) -> int:
        """Read into ``view`` until it is full or the body ends or breaks; returns how much came."""
        done = 0
        while done < len(view):
            try:
                count = self._requester.reading(lambda: body.readinto(view[done:]), self._name)  # noqa: B023
            except errors.RemoteError:
                break
            if not count:
                break
            done += count
        self._requester.received(done)
        return done


def get_object(requester: Requester, keys: Keys, name: str, limit_bytes: int | None, *, version: str = "") -> bytes:
    """The whole object, of one version: the newest, or the one given."""
    fetch = _Fetch(requester, keys.key(name), name, version)
    content = io.BytesIO()  # gives what was read into it as bytes without another copy
    size = done = 0

    def go_on() -> None:
        nonlocal content, size, done
        if not done:
            body, size = fetch.begin(limit_bytes)
            content = io.BytesIO(bytes(size))
        else:
            try:
                body = fetch.resume(done, size)
            except errors.AlreadyExists:  # the condition: another version has taken its place
                done = 0
                raise _cut(requester, name, "the object was replaced while it was read") from None
        done += fetch.fill(body, content.getbuffer()[done:])
        if done < size:
            raise _cut(requester, name, f"the connection ended after {done} of {size} bytes")

    requester.persist(go_on)
    return content.getvalue()


class S3File:
    """An object open for reading at any offset; several threads may. It stays the version it was when opened.

    Who reads on where he stopped gets one long answer of the store instead of a request for every piece.
    """

    def __init__(self, requester: Requester, keys: Keys, name: str, *, version: str = "") -> None:
        self._requester = requester
        self._key = keys.key(name)
        self._name = name
        self._version = version
        only: dict[str, Any] = {"VersionId": version} if version else {}
        found = requester.call("head_object", name, Key=self._key, **only)
        self._size = int(found["ContentLength"])
        self._etag = str(found.get("ETag") or "")
        self._lock = threading.Lock()
        """Of the fields below: the answer under way, where it is, and where the last reader stopped."""
        self._body: Any = None
        self._position = 0
        self._stopped_at = 0

    @property
    def name(self) -> str:
        return self._name

    def size(self) -> int:
        return self._size

    def read_into(self, offset: int, buffer: memoryview) -> int:
        view = buffer.cast("B")[: max(0, self._size - offset)]
        if view and self._lock.acquire(blocking=False):
            try:
                if self._goes_on(offset, len(view)):
                    self._read_on(view)
                    return len(view)
            finally:
                self._lock.release()
        if view:
            self._read_range(offset, view)
        return len(view)

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _goes_on(self, offset: int, length: int) -> bool:
        """Whether this is the next piece of somebody who reads in order, and not the last one."""
        goes_on = offset == self._stopped_at and offset > 0
        self._stopped_at = offset + length
        if self._body is not None and self._position == offset:
            return True
        self._drop()
        self._position = offset
        return goes_on and offset + length < self._size

    def _read_on(self, view: memoryview) -> None:
        fetch, done = self._fetch(), 0

        def go_on() -> None:
            nonlocal done
            if self._body is None:
                self._body = self._resumed(fetch, self._position, self._size)
            count = fetch.pull(self._body, view[done:])
            self._position += count
            done += count
            if done < len(view):
                self._drop()
                raise _cut(self._requester, self._name, f"the connection ended after {self._position} bytes")

        self._requester.persist(go_on)

    def _read_range(self, offset: int, view: memoryview) -> None:
        """One request, more only when the connection breaks."""
        fetch, done = self._fetch(), 0

        def go_on() -> None:
            nonlocal done
            done += fetch.fill(self._resumed(fetch, offset + done, offset + len(view)), view[done:])
            if done < len(view):
                told = f"the connection ended after {done} of {len(view)} bytes"
                raise _cut(self._requester, self._name, told)

        self._requester.persist(go_on)

    def _fetch(self) -> _Fetch:
        fetch = _Fetch(self._requester, self._key, self._name, self._version)
        fetch.etag = self._etag
        return fetch

    def _resumed(self, fetch: _Fetch, start: int, end: int) -> Any:
        try:
            return fetch.resume(start, end)
        except errors.AlreadyExists:  # the condition
            problem = "the object was replaced while it was open"
            raise errors.Unavailable(self._requester.url, self._name, problem, transient=False) from None

    def _drop(self) -> None:
        if self._body is not None:
            body, self._body = self._body, None
            body.close()


def _cut(requester: Requester, name: str, problem: str) -> errors.RemoteError:
    return errors.Unavailable(requester.url, name, problem, transient=True)
