"""A remote whose objects are sealed by a :class:`~remotes.encryption.scheme.Scheme`.

Directories and names are in clear, and so is what a storage knows of an object: roughly its length, and when it was
written. An object whose bytes are not what was sealed raises :class:`~remotes.errors.Corrupt`; nothing of it is given
out. The files that describe the encryption itself (``hidden``) are not seen through the wrapper.

There is no random access: ``create`` gives a file that is written in order and sealed by ``sync``, after which it
cannot be written any more; ``update`` is refused. ``rename`` moves an object as it is where the scheme allows
(:meth:`~remotes.encryption.scheme.Scheme.binding`), otherwise it is sealed anew under the other name and the old one
deleted: copy and delete, one object after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from remotes import errors, names
from remotes.contract import Buffer, Capabilities, Entry, Kind, ReadableFile, Remote, Usage, WritableFile
from remotes.encryption.scheme import Scheme, StreamSealer

CLEAR = frozenset({"immutability.json"})
"""Written at the root by others, in clear."""
COPY_BYTES = 1 << 20


class EncryptedRemote:
    """See the module's head. ``begin`` is called once, before the first change: to say what is to come."""

    def __init__(
        self,
        inner: Remote,
        scheme: Scheme,
        *,
        hidden: frozenset[str] = frozenset(),
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self.inner = inner
        self.scheme = scheme
        self._hidden = hidden
        self._begin = begin
        self._begun = False
        self._lock = threading.Lock()
        self._capabilities = replace(
            inner.capabilities,
            random_access=False,
            range_copy=False,
            range_reads=scheme.range_reads,
            authenticated=True,
        )

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def list(self, directory: str) -> list[Entry]:
        found = self.inner.list(directory)
        return [
            self._entry(entry, directory) for entry in found if not self._hides(names.join(directory, entry.name))
        ]

    def stat(self, name: str) -> Entry:
        self._refuse_unseen(name)
        found = self.inner.stat(name)
        return replace(self._entry(replace(found, name=names.split(name)[1]), names.split(name)[0]), name=found.name)

    def get(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        self._refuse_unseen(name)
        if name in CLEAR:
            return self.inner.get(name, limit_bytes=limit_bytes)
        stored_max = None if limit_bytes is None else self.scheme.stored_bytes(limit_bytes)
        try:
            stored = self.inner.get(name, limit_bytes=stored_max)
        except errors.TooLarge as error:
            found = self.scheme.size_bytes(error.found_bytes)
            raise errors.TooLarge(self.url, name, limit_bytes=limit_bytes or 0, found_bytes=found) from None
        try:
            return self.scheme.unseal(name, stored)
        except ValueError as error:
            raise self._corrupt(name, error) from None

    def put(self, name: str, data: Buffer, *, replace: bool = True) -> None:
        self._begin_change(name)
        stored = data if name in CLEAR else self.scheme.seal(name, memoryview(data).cast("B"))
        self.inner.put(name, stored, replace=replace)

    def open(self, name: str) -> ReadableFile:
        self._refuse_unseen(name)
        stored = self.inner.open(name)
        if name in CLEAR:
            return stored
        try:
            return _OpenedFile(self.scheme.open(name, stored), self.url, name)
        except ValueError as error:
            stored.close()
            raise self._corrupt(name, error) from None
        except BaseException:
            stored.close()
            raise

    def create(self, name: str) -> WritableFile:
        self._begin_change(name)
        if name in CLEAR:
            return self.inner.create(name)
        return _SealingFile(self.inner.create(name), self.scheme.sealer(name), self.url, name)

    def update(self, name: str) -> WritableFile:
        if self.stat(name).kind is Kind.DIRECTORY:
            raise errors.IsADirectory(self.url, name)
        raise errors.NotSupported(self.url, name, "an encrypted object cannot be changed in place")

    def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        self._refuse_unseen(old)
        self._begin_change(new)
        if self.scheme.binding(old) == self.scheme.binding(new):
            self.inner.rename(old, new, replace=replace)
        elif self.inner.stat(old).kind is Kind.DIRECTORY:
            self._rename_directory(old, new)
        else:
            self._reseal(old, new, replace=replace)

    def delete(self, name: str, *, missing_ok: bool = False) -> None:
        self._refuse_own(name)
        self.inner.delete(name, missing_ok=missing_ok)

    def make_directory(self, name: str, *, exist_ok: bool = True) -> None:
        self._begin_change(name)
        self.inner.make_directory(name, exist_ok=exist_ok)

    def remove_directory(self, name: str) -> None:
        self._refuse_own(name)
        self.inner.remove_directory(name)

    def delete_tree(self, name: str) -> None:
        self._refuse_own(name)
        self.inner.delete_tree(name)

    def touch(self, name: str) -> float:
        self._refuse_unseen(name)
        return self.inner.touch(name)

    def usage(self) -> Usage | None:
        return self.inner.usage()

    def close(self) -> None:
        self.inner.close()

    def _hides(self, name: str) -> bool:
        return name in self._hidden or any(name.startswith(f"{hidden}/") for hidden in self._hidden)

    def _refuse_unseen(self, name: str) -> None:
        if self._hides(name):
            raise errors.NotFound(self.url, name)

    def _refuse_own(self, name: str) -> None:
        if self._hides(name):
            raise errors.NotSupported(self.url, name, "it belongs to the encryption of this remote")

    def _begin_change(self, name: str) -> None:
        names.validate(name, remote=self.url)
        self._refuse_own(name)
        with self._lock:
            if not self._begun:
                self._begin()
                self._begun = True

    def _entry(self, entry: Entry, directory: str) -> Entry:
        if entry.kind is Kind.DIRECTORY or names.join(directory, entry.name) in CLEAR:
            return entry
        return replace(entry, size_bytes=self.scheme.size_bytes(entry.size_bytes))

    def _corrupt(self, name: str, error: ValueError) -> errors.Corrupt:
        return errors.Corrupt(self.url, name, str(error))

    def _rename_directory(self, old: str, new: str) -> None:
        """Each object moved by itself: what is left of an interruption is in one of the two places, whole."""
        if new == old or new.startswith(f"{old}/"):
            raise errors.NotSupported(self.url, old, f"it cannot be moved into itself ({new})")
        below = self.inner.list(old)
        self.inner.make_directory(new, exist_ok=False)
        for entry in below:
            self.rename(names.join(old, entry.name), names.join(new, entry.name))
        self.inner.remove_directory(old)

    def _reseal(self, old: str, new: str, *, replace: bool) -> None:
        """A small object in one step; a large one is written out of sight first."""
        size = self.stat(old).size_bytes
        if size <= COPY_BYTES * 16:
            self.put(new, self.get(old), replace=replace)
        else:
            self._reseal_large(old, new, size, replace=replace)
        self.inner.delete(old)

    def _reseal_large(self, old: str, new: str, size: int, *, replace: bool) -> None:
        directory, base = names.split(new)
        hidden = names.join(directory, names.temporary(base))
        source = self.open(old)
        try:
            target = _SealingFile(self.inner.create(hidden), self.scheme.sealer(new), self.url, new)
            try:
                target.copy_range(source, 0, 0, size)
                target.sync()
            finally:
                target.close()
        finally:
            source.close()
        try:
            self.inner.rename(hidden, new, replace=replace)
        except errors.AlreadyExists:
            self.inner.delete(hidden, missing_ok=True)
            raise


class _OpenedFile:
    """An open object; what is not proven is an error of the remote."""

    def __init__(self, content: ReadableFile, url: str, name: str) -> None:
        self._content = content
        self._url = url
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def size(self) -> int:
        return self._content.size()

    def read_into(self, offset: int, buffer: memoryview) -> int:
        try:
            return self._content.read_into(offset, buffer)
        except ValueError as error:
            raise errors.Corrupt(self._url, self._name, str(error)) from None

    def close(self) -> None:
        self._content.close()


class _SealingFile:
    """A new object, written in order. It is one from ``sync`` on."""

    def __init__(self, stored: WritableFile, sealer: StreamSealer, url: str, name: str) -> None:
        self._stored = stored
        self._sealer = sealer
        self._url = url
        self._name = name
        self._size = 0
        self._stored_size = 0
        self._sealed = False

    @property
    def name(self) -> str:
        return self._name

    def size(self) -> int:
        return self._size

    def read_into(self, offset: int, buffer: memoryview) -> int:
        raise self._refusal("it cannot be read while it is written")

    def write_at(self, offset: int, data: Buffer) -> None:
        if offset != self._size:
            raise self._refusal(f"it is written in order: expected offset {self._size}, got {offset}")
        if self._sealed:
            raise self._refusal("it is sealed")
        view = memoryview(data).cast("B")
        try:
            self._append(self._sealer.update(view))
        except ValueError as error:
            raise self._refusal(str(error)) from None
        self._size += len(view)

    def truncate(self, size_bytes: int) -> None:
        if size_bytes != self._size:
            raise self._refusal("it is written in order and cannot be cut or extended")

    def copy_range(self, source: ReadableFile, source_offset: int, offset: int, length: int) -> None:
        buffer = memoryview(bytearray(min(length, COPY_BYTES)))
        for at in range(0, length, COPY_BYTES):
            piece = buffer[: min(COPY_BYTES, length - at)]
            count = source.read_into(source_offset + at, piece)
            if count < len(piece):
                problem = f"expected {length} bytes at {source_offset}, found {at + count}"
                raise errors.Unavailable(self._url, source.name, problem, transient=False)
            self.write_at(offset + at, piece)

    def written(self, offset: int, length: int) -> None:
        """What is stored of it begins at most where the content does."""
        self._stored.written(offset, length)

    def sync(self) -> None:
        if not self._sealed:
            self._append(self._sealer.finish())
            self._sealed = True
        self._stored.sync()

    def close(self) -> None:
        self._stored.close()

    def _append(self, data: bytes) -> None:
        if data:
            self._stored.write_at(self._stored_size, data)
            self._stored_size += len(data)

    def _refusal(self, problem: str) -> errors.NotSupported:
        return errors.NotSupported(self._url, self._name, f"an encrypted object: {problem}")
