"""A remote that is asked for the same small thing once, while nobody else changes what it is asked for.

For the time somebody holds the lock of a directory: what lies below it is changed by the holder alone, through this
wrapper, which forgets what a change touches. So a remembered answer is the one the storage would give. What is
remembered: the contents of small files that ``remembers`` says yes to, that there is no such file, and listings below
``below``. Nothing else: lengths, times and large files always come from the storage.

An answer that was on its way while anything was changed is given, but not remembered.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

from remotes import errors, faces, names
from remotes.contract import Buffer, Capabilities, Entry, ReadableFile, Remote, Usage, WritableFile

SMALL_BYTES = 1 << 18
"""Larger ones are not remembered: the table of a disk of 2040 GiB is smaller."""
TOTAL_BYTES = 32 << 20
"""All that is remembered; beyond it everything is forgotten at once."""


class RememberingRemote:
    """See the module's head. Thread-safe. ``below``: a directory, without a slash at its end."""

    def __init__(self, inner: Remote, *, below: str, remembers: Callable[[str], bool]) -> None:
        self.inner = inner
        self._below = below
        self._remembers = remembers
        self._mutex = threading.Lock()
        self._files: dict[str, bytes | None] = {}
        self._lists: dict[str, tuple[Entry, ...]] = {}
        self._size = 0
        self._changes = 0
        """How often anything was changed, counted before and after each change."""

    # -- what is remembered

    def get(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        if not self._below_it(name) or not self._remembers(name):
            return self.inner.get(name, limit_bytes=limit_bytes)
        with self._mutex:
            known, changes = name in self._files, self._changes
            found = self._files.get(name)
        if known:
            if found is None:
                raise errors.NotFound(self.url, name)
            if limit_bytes is None or len(found) <= limit_bytes:
                return found
            return self.inner.get(name, limit_bytes=limit_bytes)  # which says what is wrong with that
        try:
            answer = self.inner.get(name, limit_bytes=limit_bytes)
        except errors.NotFound:
            self._keep(changes, name, None)
            raise
        self._keep(changes, name, answer)
        return answer

    def list(self, directory: str) -> list[Entry]:
        if not self._below_it(directory):
            return self.inner.list(directory)
        with self._mutex:
            known, changes = self._lists.get(directory), self._changes
        if known is not None:
            return list(known)
        answer = self.inner.list(directory)
        with self._mutex:
            if changes == self._changes:
                self._lists[directory] = tuple(answer)
        return answer

    def _keep(self, changes: int, name: str, answer: bytes | None) -> None:
        if answer is not None and len(answer) > SMALL_BYTES:
            return
        with self._mutex:
            if changes != self._changes:
                return
            self._size += len(answer or b"")
            if self._size > TOTAL_BYTES:
                self._forget_all()
                return
            self._files[name] = answer

    def _below_it(self, name: str) -> bool:
        return name == self._below or name.startswith(f"{self._below}/")

    # -- what makes it forget

    @contextlib.contextmanager
    def _changing(self, *changed: str, trees: bool = False) -> Iterator[None]:
        """Forget before and after: an answer from in between is of neither."""
        self._forget(changed, trees)
        try:
            yield
        finally:
            self._forget(changed, trees)

    def _forget(self, changed: Sequence[str], trees: bool) -> None:
        """``trees``: with all that is below them."""
        with self._mutex:
            self._changes += 1
            for name in changed:
                self._files.pop(name, None)
                above = name
                while above:  # a directory comes and goes with what is in it
                    self._lists.pop(above, None)
                    above, _ = names.split(above)
            if trees:
                roots = tuple(f"{name}/" for name in changed)
                self._files = {name: one for name, one in self._files.items() if not name.startswith(roots)}
                self._lists = {name: one for name, one in self._lists.items() if not name.startswith(roots)}

    def _forget_all(self) -> None:
        self._files.clear()
        self._lists.clear()
        self._size = 0

    def put(self, name: str, data: Buffer, *, replace: bool = True) -> None:
        with self._changing(name):
            self.inner.put(name, data, replace=replace)

    def create(self, name: str) -> WritableFile:
        with self._changing(name, trees=True):
            return self.inner.create(name)

    def update(self, name: str) -> WritableFile:
        with self._changing(name, trees=True):
            return self.inner.update(name)

    def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        with self._changing(old, new, trees=True):
            self.inner.rename(old, new, replace=replace)

    def delete(self, name: str, *, missing_ok: bool = False) -> None:
        with self._changing(name):
            self.inner.delete(name, missing_ok=missing_ok)

    def make_directory(self, name: str, *, exist_ok: bool = True) -> None:
        with self._changing(name):
            self.inner.make_directory(name, exist_ok=exist_ok)

    def remove_directory(self, name: str) -> None:
        with self._changing(name):
            self.inner.remove_directory(name)

    def delete_tree(self, name: str) -> None:
        with self._changing(name, trees=True):
            self.inner.delete_tree(name)

    def touch(self, name: str) -> float:
        with self._changing(name):
            return self.inner.touch(name)

    def copy(self, old: str, new: str) -> None:
        with self._changing(new):
            faces.copy(self.inner, old, new)

    def delete_many(self, doomed: Sequence[str]) -> None:
        with self._changing(*doomed):
            faces.delete_many(self.inner, doomed)

    def upload(self, name: str, *, bound_bytes: int | None) -> faces.Upload:
        self._forget((name,), False)
        return _Upload(self, name, faces.upload(self.inner, name, bound_bytes=bound_bytes))

    # -- what is passed on

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def stat(self, name: str) -> Entry:
        return self.inner.stat(name)

    def open(self, name: str) -> ReadableFile:
        return self.inner.open(name)

    def usage(self) -> Usage | None:
        return self.inner.usage()

    def discard_uploads(self, name: str) -> int:
        return faces.discard_uploads(self.inner, name)

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


class _Upload:
    """An upload through a :class:`RememberingRemote`."""

    def __init__(self, remote: RememberingRemote, name: str, inner: faces.Upload) -> None:
        self._remote, self._name, self._inner = remote, name, inner

    def write(self, data: memoryview) -> None:
        self._inner.write(data)

    def finish(self) -> int:
        with self._remote._changing(self._name):
            return self._inner.finish()

    def abort(self) -> None:
        self._inner.abort()
