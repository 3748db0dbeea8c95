"""What a relay has open for its peers: one remote per reader, and the files that the reader has open there.

A reader is known by a number of its own, so that its files are still open, and still the same ones, when its
connection was cut and it comes again. Who does not come again within :data:`LINGER_S` is closed.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from remotes.errors import RemoteError
from xobackup.relay.errors import Refused

if TYPE_CHECKING:
    from remotes.contract import ReadableFile, Remote

LINGER_S = 120.0
"""Longer than a reader tries to come again."""
READERS_MAX = 64
FILES_MAX = 8192
"""Of one reader; a chain of so many members would be odd."""


class Reader:
    """One reader of one place; several of its connections may use it at once."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.lines = 0
        """Connections that use it."""
        self.left_s = 0.0
        """When the last one went, by the monotonic clock."""
        self._files: dict[int, ReadableFile] = {}
        self._guard = threading.Lock()

    def open(self, name: str) -> tuple[int, ReadableFile]:
        """The number of a newly opened file."""
        with self._guard:
            if len(self._files) >= FILES_MAX:
                raise Refused(f"a reader may have {FILES_MAX} files open")
        file = self.remote.open(name)
        number = secrets.randbits(62)  # no reader that lost its place takes another's for its own
        with self._guard:
            self._files[number] = file
        return number, file

    def file(self, number: int) -> ReadableFile | None:
        """``None``: it is not open here."""
        return self._files.get(number)

    def forget(self, number: int) -> None:
        with self._guard:
            file = self._files.pop(number, None)
        if file is not None:
            file.close()

    def close(self) -> None:
        with self._guard:
            files, self._files = list(self._files.values()), {}
        for file in files:
            with suppress(RemoteError, OSError):
                file.close()
        with suppress(RemoteError, OSError):
            self.remote.close()


class Readers:
    """All of a relay's; see the module's head."""

    def __init__(self, open_place: Callable[[str], Remote], now_s: Callable[[], float]) -> None:
        """``now_s``: monotonic."""
        self._open_place = open_place
        self._now_s = now_s
        self._readers: dict[Any, Reader] = {}
        self._guard = threading.Lock()

    @property
    def busy(self) -> int:
        """How many are connected."""
        with self._guard:
            return sum(one.lines > 0 for one in self._readers.values())

    @contextmanager
    def reader(self, peer: str, place: str, session: str) -> Iterator[Reader]:
        """The one of that peer, made if it is new; held for one connection. Raises what opening the place raises."""
        key = (peer, place, session)
        found = self._held(key)
        if found is None:
            found = self._made(key, self._open_place(place))
        try:
            yield found
        finally:
            with self._guard:
                found.lines -= 1
                found.left_s = self._now_s()

    def _held(self, key: Any) -> Reader | None:
        with self._guard:
            found = self._readers.get(key)
            if found is not None:
                found.lines += 1
            elif len(self._readers) >= READERS_MAX:
                raise Refused(f"{READERS_MAX} readers are served already", transient=True)
            return found

    def _made(self, key: Any, remote: Remote) -> Reader:
        made = Reader(remote)
        with self._guard:
            found = self._readers.setdefault(key, made)
            found.lines += 1
        if found is not made:  # two of its connections came at once
            made.close()
        return found

    def end(self, reader: Reader) -> None:
        """It says that it will not come again."""
        with self._guard:
            self._readers = {key: one for key, one in self._readers.items() if one is not reader}
        reader.close()

    def sweep(self) -> None:
        """Close those that did not come again."""
        now_s = self._now_s()
        with self._guard:
            gone = [key for key, one in self._readers.items() if one.lines == 0 and now_s - one.left_s > LINGER_S]
            left = [self._readers.pop(key) for key in gone]
        for one in left:
            one.close()

    def close(self) -> None:
        with self._guard:
            readers, self._readers = list(self._readers.values()), {}
        for one in readers:
            one.close()
