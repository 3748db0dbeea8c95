"""A remote that counts what is written to it, whichever way: objects, ranges of files, copies inside."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remotes.contract import Buffer, ReadableFile, Remote, WritableFile


class CountingRemote:
    """``written``: bytes by the name they were first written under."""

    def __init__(self, inner: Remote) -> None:
        self._inner = inner
        self.written: Counter[str] = Counter()

    def put(self, name: str, data: Buffer, *, replace: bool = True) -> None:
        self._inner.put(name, data, replace=replace)
        self.written[name] += memoryview(data).nbytes

    def create(self, name: str) -> CountingFile:
        return CountingFile(self._inner.create(name), name, self.written)

    def update(self, name: str) -> CountingFile:
        return CountingFile(self._inner.update(name), name, self.written)

    def __getattr__(self, name: str) -> Any:
        if name in ("copy", "upload"):  # what would not be counted; the ways in their place are
            raise AttributeError(name)
        return getattr(self._inner, name)


class CountingFile:
    """A file that counts what is written to it."""

    def __init__(self, inner: WritableFile, name: str, written: Counter[str]) -> None:
        self._inner, self._name, self._written = inner, name, written

    def write_at(self, offset: int, data: Buffer) -> None:
        self._inner.write_at(offset, data)
        self._written[self._name] += memoryview(data).nbytes

    def copy_range(self, source: ReadableFile, source_offset: int, offset: int, length: int) -> None:
        self._inner.copy_range(source, source_offset, offset, length)
        self._written[self._name] += length

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
