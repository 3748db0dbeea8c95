"""A remote that fails as planned: errors, failures after the fact, and power cuts, at any operation.

Every operation of the remote and of its open files passes :class:`remotes.faults.Faults`; ``close`` alone is neither
counted nor stopped. A power cut only stops the caller; what the storage holds afterwards is the inner remote's to
say (:meth:`remotes.memory.MemoryRemote.survivor`).
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence

from remotes import faces, names
from remotes.contract import Buffer, Capabilities, Entry, Kind, ReadableFile, Remote, Usage, WritableFile, hint_read
from remotes.faults import Cut, Fault, Faults

SECTOR_BYTES = 512


class FaultyRemote:
    """See the module's head."""

    def __init__(self, inner: Remote, faults: Faults) -> None:
        self.inner = inner
        self.faults = faults

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def list(self, directory: str) -> list[Entry]:
        return self.faults.perform("list", self.url, directory, lambda: self.inner.list(directory))

    def stat(self, name: str) -> Entry:
        return self.faults.perform("stat", self.url, name, lambda: self.inner.stat(name))

    def get(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        return self.faults.perform("get", self.url, name, lambda: self.inner.get(name, limit_bytes=limit_bytes))

    def put(self, name: str, data: Buffer, *, replace: bool = True) -> None:
        self.faults.perform(
            "put",
            self.url,
            name,
            lambda: self.inner.put(name, data, replace=replace),
            lambda rng: self._leave_temporary(name, data, rng),
        )

    def open(self, name: str) -> FaultyFile:
        file = self.faults.perform("open", self.url, name, lambda: self.inner.open(name))
        return FaultyFile(self, file)

    def create(self, name: str) -> FaultyWritableFile:
        file = self.faults.perform("create", self.url, name, lambda: self.inner.create(name))
        return FaultyWritableFile(self, file)

    def update(self, name: str) -> FaultyWritableFile:
        file = self.faults.perform("update", self.url, name, lambda: self.inner.update(name))
        return FaultyWritableFile(self, file)

    def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        self.faults.perform(
            "rename",
            self.url,
            old,
            lambda: self.inner.rename(old, new, replace=replace),
            lambda rng: self._make_some_directories(names.split(new)[0], rng),
        )

    def delete(self, name: str, *, missing_ok: bool = False) -> None:
        self.faults.perform("delete", self.url, name, lambda: self.inner.delete(name, missing_ok=missing_ok))

    def make_directory(self, name: str, *, exist_ok: bool = True) -> None:
        self.faults.perform(
            "make_directory",
            self.url,
            name,
            lambda: self.inner.make_directory(name, exist_ok=exist_ok),
            lambda rng: self._make_some_directories(name, rng),
        )

    def remove_directory(self, name: str) -> None:
        self.faults.perform("remove_directory", self.url, name, lambda: self.inner.remove_directory(name))

    def delete_tree(self, name: str) -> None:
        self.faults.perform(
            "delete_tree",
            self.url,
            name,
            lambda: self.inner.delete_tree(name),
            lambda rng: self._delete_some(name, rng),
        )

    def touch(self, name: str) -> float:
        return self.faults.perform("touch", self.url, name, lambda: self.inner.touch(name))

    def usage(self) -> Usage | None:
        return self.faults.perform("usage", self.url, "", self.inner.usage)

    def copy(self, old: str, new: str) -> None:
        self.faults.perform("copy", self.url, old, lambda: faces.copy(self.inner, old, new))

    def delete_many(self, names: Sequence[str]) -> None:
        first = names[0] if names else ""
        self.faults.perform("delete_many", self.url, first, lambda: faces.delete_many(self.inner, names))

    def upload(self, name: str, *, bound_bytes: int | None) -> FaultyUpload:
        begun = self.faults.perform(
            "upload", self.url, name, lambda: faces.upload(self.inner, name, bound_bytes=bound_bytes)
        )
        return FaultyUpload(self, name, begun)

    def discard_uploads(self, name: str) -> int:
        return self.faults.perform("discard_uploads", self.url, name, lambda: faces.discard_uploads(self.inner, name))

    def probe(self) -> None:
        self.faults.perform("probe", self.url, "", lambda: faces.probe(self.inner))

    def traffic(self) -> faces.Traffic | None:
        return faces.traffic(self.inner)

    def protection(self, name: str) -> faces.Protection | None:
        return self.faults.perform("protection", self.url, name, lambda: faces.protection(self.inner, name))

    def relock(self, names: Sequence[str]) -> None:
        self.faults.perform("relock", self.url, names[0] if names else "", lambda: faces.relock(self.inner, names))

    def remarks(self) -> Sequence[faces.Remark]:
        return self.faults.perform("remarks", self.url, "", lambda: faces.remarks(self.inner))

    def close(self) -> None:
        self.inner.close()

    def _leave_temporary(self, name: str, data: Buffer, rng: random.Random) -> None:
        directory, base = names.split(name)
        with contextlib.closing(self.inner.create(names.join(directory, names.temporary(base)))) as file:
            view = memoryview(data).cast("B")
            file.write_at(0, view[: rng.randint(0, len(view))])

    def _make_some_directories(self, name: str, rng: random.Random) -> None:
        parts = name.split("/") if name else []
        keep = rng.randint(0, len(parts))
        if keep:
            self.inner.make_directory("/".join(parts[:keep]))

    def _delete_some(self, name: str, rng: random.Random) -> None:
        for entry in self.inner.list(name):
            path = names.join(name, entry.name)
            if entry.kind is Kind.DIRECTORY:
                self._delete_some(path, rng)
            elif rng.randrange(2):
                self.inner.delete(path)


class FaultyUpload:
    """An upload to a :class:`FaultyRemote`."""

    def __init__(self, remote: FaultyRemote, name: str, inner: faces.Upload) -> None:
        self._remote = remote
        self._name = name
        self._inner = inner

    def write(self, data: memoryview) -> None:
        self._remote.faults.perform("upload_write", self._remote.url, self._name, lambda: self._inner.write(data))

    def finish(self) -> int:
        return self._remote.faults.perform("upload_finish", self._remote.url, self._name, self._inner.finish)

    def abort(self) -> None:
        self._remote.faults.perform("upload_abort", self._remote.url, self._name, self._inner.abort)


class FaultyFile:
    """An open file of a :class:`FaultyRemote`."""

    def __init__(self, remote: FaultyRemote, inner: ReadableFile) -> None:
        self.remote = remote
        self.inner: ReadableFile = inner

    @property
    def name(self) -> str:
        return self.inner.name

    def size(self) -> int:
        return self.remote.faults.perform("size", self.remote.url, self.name, self.inner.size)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        return self.remote.faults.perform(
            "read_into", self.remote.url, self.name, lambda: self.inner.read_into(offset, buffer)
        )

    def will_read(self, offset: int, length: int) -> None:
        hint_read(self.inner, offset, length)

    def close(self) -> None:
        self.inner.close()


class FaultyWritableFile(FaultyFile):
    """An open file of a :class:`FaultyRemote` that can be written."""

    def __init__(self, remote: FaultyRemote, inner: WritableFile) -> None:
        super().__init__(remote, inner)
        self._file = inner

    def write_at(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        self.remote.faults.perform(
            "write_at",
            self.remote.url,
            self.name,
            lambda: self._file.write_at(offset, view),
            lambda rng: self._file.write_at(offset, view[: _torn(rng, offset, len(view))]),
        )

    def truncate(self, size_bytes: int) -> None:
        self.remote.faults.perform("truncate", self.remote.url, self.name, lambda: self._file.truncate(size_bytes))

    def copy_range(self, source: ReadableFile, source_offset: int, offset: int, length: int) -> None:
        inner = source.inner if isinstance(source, FaultyFile) else source
        self.remote.faults.perform(
            "copy_range",
            self.remote.url,
            self.name,
            lambda: self._file.copy_range(inner, source_offset, offset, length),
            lambda rng: self._file.copy_range(inner, source_offset, offset, _torn(rng, offset, length)),
        )

    def written(self, offset: int, length: int) -> None:
        self._file.written(offset, length)

    def sync(self) -> None:
        self.remote.faults.perform("sync", self.remote.url, self.name, self._file.sync)


def _torn(rng: random.Random, offset: int, length: int) -> int:
    """How much of a write got through: up to a sector's end, since disks write sectors whole or not at all."""
    return max(0, (offset + rng.randint(0, length)) // SECTOR_BYTES * SECTOR_BYTES - offset)


@contextlib.contextmanager
def faulty(inner: Remote, *faults: Fault, cut: Cut | None = None) -> Iterator[FaultyRemote]:
    """A faulty remote for a block that must make every planned fault fire."""
    plan = Faults(*faults, cut=cut)
    yield FaultyRemote(inner, plan)
    plan.assert_all_fired()
