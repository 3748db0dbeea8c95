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
from collections.abc import Callable, Sequence
from dataclasses import replace

from remotes import errors, faces, names
from remotes.contract import Buffer, Capabilities, Entry, Kind, ReadableFile, Remote, Usage, WritableFile
from remotes.encryption.files import COPY_BYTES, OpenedFile, SealingFile, SealingUpload
from remotes.encryption.scheme import Scheme

CLEAR = frozenset({"immutability.json"})
"""Written at the root by others, in clear."""
IN_MEMORY_BYTES_MAX = 16 << 20
"""An object up to that size is sealed anew in memory."""


class EncryptedRemote:
    """See the module's head. ``begin`` is called once, before the first change; ``notes``: what to know."""

    def __init__(
        self,
        inner: Remote,
        scheme: Scheme,
        *,
        hidden: frozenset[str] = frozenset(),
        begin: Callable[[], None] = lambda: None,
        notes: Callable[[], Sequence[faces.Remark]] = lambda: (),
    ) -> None:
        self.inner = inner
        self.scheme = scheme
        self._hidden = hidden
        self._begin = begin
        self._notes = notes
        self._begun = False
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def capabilities(self) -> Capabilities:
        return replace(
            self.inner.capabilities,
            random_access=False,
            range_copy=False,
            range_reads=self.scheme.range_reads,
            authenticated=True,
        )

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
            return OpenedFile(self.scheme.open(name, stored), self.url, name)
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
        return SealingFile(self.inner.create(name), self.scheme.sealer(name), self.url, name)

    def update(self, name: str) -> WritableFile:
        if self.stat(name).kind is Kind.DIRECTORY:
            raise errors.IsADirectory(self.url, name)
        raise errors.NotSupported(self.url, name, "an encrypted object cannot be changed in place")

    def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        self._refuse_unseen(old)
        self._begin_change(new)
        if self._moves_freely(old, new):
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

    def copy(self, old: str, new: str) -> None:
        self._refuse_unseen(old)
        self._begin_change(new)
        if self.scheme.binding(old) == self.scheme.binding(new):
            faces.copy(self.inner, old, new)
        else:
            self._seal_again(old, new, replace=True)

    def delete_many(self, names: Sequence[str]) -> None:
        for name in names:
            self._refuse_own(name)
        faces.delete_many(self.inner, names)

    def upload(self, name: str, *, bound_bytes: int | None) -> SealingUpload:
        self._begin_change(name)
        stored_max = None if bound_bytes is None else self.scheme.stored_bytes(bound_bytes)
        begun = faces.upload(self.inner, name, bound_bytes=stored_max)
        return SealingUpload(begun, self.scheme.sealer(name), self.url, name)

    def discard_uploads(self, name: str) -> int:
        self._refuse_own(name)
        return faces.discard_uploads(self.inner, name)

    def probe(self) -> None:
        faces.probe(self.inner)

    def traffic(self) -> faces.Traffic | None:
        return faces.traffic(self.inner)

    def protection(self, name: str) -> faces.Protection | None:
        return faces.protection(self.inner, name)

    def _own_files(self) -> Sequence[str]:
        """The files that describe the encryption, and hold its keys."""
        found = []
        for entry in self.inner.list(""):
            if entry.name in self._hidden:
                inside = self.inner.list(entry.name) if entry.kind is Kind.DIRECTORY else []
                found += [names.join(entry.name, each.name) for each in inside] or [entry.name]
        return found

    def relock(self, names: Sequence[str]) -> None:
        """Besides, what is needed to decrypt anything: it stays the same while backups come and go."""
        faces.relock(self.inner, [*names, *self._own_files()])

    def remarks(self) -> Sequence[faces.Remark]:
        return [*self._notes(), *faces.remarks(self.inner)]

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

    def _moves_freely(self, old: str, new: str) -> bool:
        """Whether all that ``old`` is or holds opens under ``new`` as it is."""
        if not self.scheme.binds_names:
            return True
        if self.inner.stat(old).kind is Kind.FILE:
            return self.scheme.binding(old) == self.scheme.binding(new)
        return all(
            self._moves_freely(names.join(old, entry.name), names.join(new, entry.name))
            if entry.kind is Kind.DIRECTORY
            else self.scheme.binding(names.join(old, entry.name)) == self.scheme.binding(names.join(new, entry.name))
            for entry in self.inner.list(old)
        )

    def _rename_directory(self, old: str, new: str) -> None:
        """Each object moved by itself: what is left of an interruption is in one of the two places, whole."""
        if new == old or new.startswith(f"{old}/"):
            raise errors.InvalidName(self.url, new, f"expected a name outside of {old}, which is moved there")
        below = self.inner.list(old)
        self.inner.make_directory(new, exist_ok=False)
        for entry in below:
            self.rename(names.join(old, entry.name), names.join(new, entry.name))
        self.inner.remove_directory(old)

    def _reseal(self, old: str, new: str, *, replace: bool) -> None:
        self._seal_again(old, new, replace=replace)
        self.inner.delete(old)

    def _seal_again(self, old: str, new: str, *, replace: bool) -> None:
        """A small object in one step; a large one is written out of sight first."""
        size = self.stat(old).size_bytes
        if size <= IN_MEMORY_BYTES_MAX:
            self.put(new, self.get(old), replace=replace)
            return
        directory, base = names.split(new)
        hidden = names.join(directory, names.temporary(base))
        try:
            self._write_again(old, hidden, new, size)
            self.inner.rename(hidden, new, replace=replace)
        except errors.RemoteError:
            self.inner.delete(hidden, missing_ok=True)
            raise

    def _write_again(self, old: str, hidden: str, new: str, size: int) -> None:
        source = self.open(old)
        try:
            upload = SealingUpload(
                faces.upload(self.inner, hidden, bound_bytes=self.scheme.stored_bytes(size)),
                self.scheme.sealer(new),
                self.url,
                new,
            )
            try:
                buffer = memoryview(bytearray(COPY_BYTES))
                for at in range(0, size, COPY_BYTES):
                    upload.write(buffer[: source.read_into(at, buffer)])
                upload.finish()
            finally:
                upload.abort()
        finally:
            source.close()
