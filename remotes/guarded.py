"""A remote that asks before it changes anything: ``allowed`` raises to refuse.

``allowed(True)`` before what takes a name away or gives one (rename, delete, remove), ``allowed(False)`` before every
other change: an object, a directory, a range of an open file. Reading is not asked about, and neither is ``touch``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from remotes import faces
from remotes.contract import Buffer, Capabilities, Entry, ReadableFile, Remote, Usage, WritableFile, hint_read

Allowed = Callable[[bool], None]


class GuardedRemote:
    """See the module's head. Thread-safe if ``allowed`` is."""

    def __init__(self, inner: Remote, allowed: Allowed) -> None:
        self.inner = inner
        self._allowed = allowed

    # -- what is asked about

    def put(self, name: str, data: Buffer, *, replace: bool = True) -> None:
        self._allowed(False)
        self.inner.put(name, data, replace=replace)

    def create(self, name: str) -> WritableFile:
        self._allowed(False)
        return GuardedFile(self.inner.create(name), self._allowed)

    def update(self, name: str) -> WritableFile:
        self._allowed(False)
        return GuardedFile(self.inner.update(name), self._allowed)

    def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        self._allowed(True)
        self.inner.rename(old, new, replace=replace)

    def delete(self, name: str, *, missing_ok: bool = False) -> None:
        self._allowed(True)
        self.inner.delete(name, missing_ok=missing_ok)

    def make_directory(self, name: str, *, exist_ok: bool = True) -> None:
        self._allowed(False)
        self.inner.make_directory(name, exist_ok=exist_ok)

    def remove_directory(self, name: str) -> None:
        self._allowed(True)
        self.inner.remove_directory(name)

    def delete_tree(self, name: str) -> None:
        self._allowed(True)
        self.inner.delete_tree(name)

    def copy(self, old: str, new: str) -> None:
        self._allowed(False)
        faces.copy(self.inner, old, new)

    def delete_many(self, doomed: Sequence[str]) -> None:
        self._allowed(True)
        faces.delete_many(self.inner, doomed)

    def upload(self, name: str, *, bound_bytes: int | None) -> faces.Upload:
        self._allowed(False)
        return _Upload(faces.upload(self.inner, name, bound_bytes=bound_bytes), self._allowed)

    def discard_uploads(self, name: str) -> int:
        self._allowed(True)
        return faces.discard_uploads(self.inner, name)

    # -- what is passed on

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def list(self, directory: str) -> list[Entry]:
        return self.inner.list(directory)

    def stat(self, name: str) -> Entry:
        return self.inner.stat(name)

    def get(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        return self.inner.get(name, limit_bytes=limit_bytes)

    def open(self, name: str) -> ReadableFile:
        return self.inner.open(name)

    def touch(self, name: str) -> float:
        return self.inner.touch(name)

    def usage(self) -> Usage | None:
        return self.inner.usage()

    def probe(self) -> None:
        faces.probe(self.inner)

    def traffic(self) -> faces.Traffic | None:
        return faces.traffic(self.inner)

    def protection(self, name: str) -> faces.Protection | None:
        return faces.protection(self.inner, name)

    def relock(self, locked: Sequence[str]) -> None:
        faces.relock(self.inner, locked)

    def remarks(self) -> Sequence[faces.Remark]:
        return faces.remarks(self.inner)

    def close(self) -> None:
        """Nothing: the wrapped one goes on."""


class GuardedFile:
    """An open file of a :class:`GuardedRemote` that can be written."""

    def __init__(self, inner: WritableFile, allowed: Allowed) -> None:
        self.inner = inner
        self._allowed = allowed

    @property
    def name(self) -> str:
        return self.inner.name

    def size(self) -> int:
        return self.inner.size()

    def read_into(self, offset: int, buffer: memoryview) -> int:
        return self.inner.read_into(offset, buffer)

    def will_read(self, offset: int, length: int) -> None:
        hint_read(self.inner, offset, length)

    def write_at(self, offset: int, data: Buffer) -> None:
        self._allowed(False)
        self.inner.write_at(offset, data)

    def truncate(self, size_bytes: int) -> None:
        self._allowed(False)
        self.inner.truncate(size_bytes)

    def copy_range(self, source: ReadableFile, source_offset: int, offset: int, length: int) -> None:
        self._allowed(False)
        inner = source.inner if isinstance(source, GuardedFile) else source
        self.inner.copy_range(inner, source_offset, offset, length)

    def written(self, offset: int, length: int) -> None:
        self.inner.written(offset, length)

    def sync(self) -> None:
        self.inner.sync()

    def close(self) -> None:
        self.inner.close()


class _Upload:
    """An upload through a :class:`GuardedRemote`."""

    def __init__(self, inner: faces.Upload, allowed: Allowed) -> None:
        self._inner = inner
        self._allowed = allowed

    def write(self, data: memoryview) -> None:
        self._inner.write(data)

    def finish(self) -> int:
        self._allowed(True)
        return self._inner.finish()

    def abort(self) -> None:
        self._inner.abort()
