"""A remote in memory that knows what a power cut would leave of it.

Directories and whole objects are durable when their operation returns, as the contract asks; what a file got by
``write_at``, ``copy_range`` and ``truncate`` is durable from its ``sync`` on, and so is the name ``create`` gave it.
:meth:`MemoryRemote.power_cut` returns a new remote that holds what survived, and from then on the old one and its
open files only raise. Copies share their pages: cutting at every operation of a long program stays cheap.
"""

from __future__ import annotations

import contextlib
import random
import threading

from remotes import errors, names
from remotes.clock import Clock, SystemClock
from remotes.contract import Buffer, Capabilities, Entry, Kind, ReadableFile, Usage
from remotes.memory_content import PAGE_BYTES, Content
from remotes.memory_tree import Directory, File, Node, Tree

_CAPABILITIES = Capabilities(
    random_access=True,
    atomic_rename=True,
    exclusive_directories=True,
    range_copy=True,
    durable=False,
    hierarchical=True,
)


class MemoryRemote:
    """See the module's head. ``capacity_bytes`` makes it run full with ``NoSpace``."""

    def __init__(self, *, clock: Clock | None = None, capacity_bytes: int | None = None, label: str = "") -> None:
        self._clock = clock or SystemClock()
        self._capacity_bytes = capacity_bytes
        self._url = f"memory:{label}"
        self._lock = threading.RLock()
        self._alive = True
        self._tree = Tree(self._url, self._clock.now_s)

    @property
    def url(self) -> str:
        return self._url

    @property
    def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    def snapshot(self) -> MemoryRemote:
        """An independent copy, unsynced state included."""
        with self._lock:
            return self._twin(self._tree.copy(Content.copy))

    def survivor(self, rng: random.Random) -> MemoryRemote:
        """A remote as a power cut now may leave it; this one lives on."""
        with self._lock:
            return self._twin(self._tree.copy(lambda content: content.after_power_cut(rng)))

    def power_cut(self, rng: random.Random) -> MemoryRemote:
        """As :meth:`survivor`, and every later operation here and on open files raises ``Unavailable``."""
        with self._lock:
            survivor = self.survivor(rng)
            self._alive = False
            return survivor

    def list(self, directory: str) -> list[Entry]:
        names.validate_directory(directory, remote=self._url)
        with self._lock:
            self.check_alive(directory)
            found = self._tree.directory(directory)
            return [_entry(base, found.children[base]) for base in sorted(found.children)]

    def stat(self, name: str) -> Entry:
        names.validate_directory(name, remote=self._url)
        with self._lock:
            self.check_alive(name)
            return _entry(name, self._tree.node(name))

    def get(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        with self._lock:
            content = self._file(name).content
            if limit_bytes is not None and content.size > limit_bytes:
                raise errors.TooLarge(self._url, name, limit_bytes=limit_bytes, found_bytes=content.size)
            buffer = bytearray(content.size)
            content.read_into(0, memoryview(buffer))
            return bytes(buffer)

    def put(self, name: str, data: Buffer, *, replace: bool = True) -> None:
        names.validate(name, remote=self._url)
        with self._lock:
            self.check_alive(name)
            view = memoryview(data).cast("B")
            content = Content(linked=True)
            parent, base = self._tree.parent(name, make=True)
            old = parent.children.get(base)
            if old is not None and not replace:
                raise errors.AlreadyExists(self._url, name)
            if isinstance(old, Directory):
                raise errors.IsADirectory(self._url, name)
            self.reserve(content, name, 0, len(view))
            content.write(0, view)
            content.sync()
            self._tree.link(parent, base, File(content, self._clock.now_s()))

    def open(self, name: str) -> MemoryFile:
        with self._lock:
            return MemoryFile(self, name, self._file(name), writable=False)

    def create(self, name: str) -> MemoryFile:
        names.validate(name, remote=self._url)
        with self._lock:
            self.check_alive(name)
            parent, base = self._tree.parent(name, make=True)
            if base in parent.children:
                raise errors.AlreadyExists(self._url, name)
            file = File(Content(linked=False), self._clock.now_s())
            self._tree.link(parent, base, file)
            return MemoryFile(self, name, file, writable=True)

    def update(self, name: str) -> MemoryFile:
        with self._lock:
            return MemoryFile(self, name, self._file(name), writable=True)

    def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        names.validate(old, remote=self._url)
        names.validate(new, remote=self._url)
        with self._lock:
            self.check_alive(old)
            self._tree.rename(old, new, replace=replace)

    def delete(self, name: str, *, missing_ok: bool = False) -> None:
        names.validate(name, remote=self._url)
        with self._lock, contextlib.suppress(errors.NotFound) if missing_ok else contextlib.nullcontext():
            self.check_alive(name)
            self._tree.unlink(name, self._file(name))

    def make_directory(self, name: str, *, exist_ok: bool = True) -> None:
        names.validate(name, remote=self._url)
        with self._lock:
            self.check_alive(name)
            parent, base = self._tree.parent(name, make=True)
            if base in parent.children and not exist_ok:
                raise errors.AlreadyExists(self._url, name)
            self._tree.child_directory(parent, base, name, make=True)

    def remove_directory(self, name: str) -> None:
        names.validate(name, remote=self._url)
        with self._lock:
            self.check_alive(name)
            directory = self._tree.directory(name)
            if directory.children:
                raise errors.DirectoryNotEmpty(self._url, name)
            self._tree.unlink(name, directory)

    def delete_tree(self, name: str) -> None:
        names.validate(name, remote=self._url)
        with self._lock, contextlib.suppress(errors.NotFound):
            self.check_alive(name)
            self._tree.unlink(name, self._tree.directory(name))

    def touch(self, name: str) -> float:
        names.validate(name, remote=self._url)
        with self._lock:
            self.check_alive(name)
            node = self._tree.node(name)
            node.modified_s = self._clock.now_s()
            return node.modified_s

    def usage(self) -> Usage | None:
        if self._capacity_bytes is None:
            return None
        with self._lock:
            self.check_alive("")
            used = self._tree.allocated_bytes()
        return Usage(total_bytes=self._capacity_bytes, free_bytes=max(0, self._capacity_bytes - used))

    def close(self) -> None:
        """Nothing to give back: the content lives as long as this object."""

    def check_alive(self, name: str) -> None:
        if not self._alive:
            raise errors.Unavailable(self._url, name, "the power was cut", transient=False)

    def reserve(self, content: Content, name: str, offset: int, length: int) -> None:
        """Raise ``NoSpace`` if a write there would not fit."""
        if self._capacity_bytes is not None:
            more = content.missing_pages(offset, length) * PAGE_BYTES
            if more and self._tree.allocated_bytes() + more > self._capacity_bytes:
                raise errors.NoSpace(self._url, name)

    @property
    def lock(self) -> threading.RLock:
        """Held during every operation, those of open files included."""
        return self._lock

    def now_s(self) -> float:
        return self._clock.now_s()

    def _file(self, name: str) -> File:
        names.validate(name, remote=self._url)
        self.check_alive(name)
        return self._tree.file(name)

    def _twin(self, tree: Tree) -> MemoryRemote:
        twin = MemoryRemote(clock=self._clock, capacity_bytes=self._capacity_bytes)
        twin._url = self._url
        twin._tree = tree
        return twin


class MemoryFile:
    """An open file; it outlives a deleted or renamed name, as on a file system."""

    def __init__(self, remote: MemoryRemote, name: str, file: File, *, writable: bool) -> None:
        self._remote = remote
        self._name = name
        self._file = file
        self._writable = writable
        self._open = True

    @property
    def name(self) -> str:
        return self._name

    def size(self) -> int:
        with self._remote.lock:
            return self._content().size

    def read_into(self, offset: int, buffer: memoryview) -> int:
        with self._remote.lock:
            return self._content().read_into(offset, buffer.cast("B"))

    def write_at(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        with self._remote.lock:
            content = self._writable_content()
            self._remote.reserve(content, self._name, offset, len(view))
            content.write(offset, view)

    def truncate(self, size_bytes: int) -> None:
        with self._remote.lock:
            self._writable_content().truncate(size_bytes)

    def copy_range(self, source: ReadableFile, source_offset: int, offset: int, length: int) -> None:
        with self._remote.lock:
            content = self._writable_content()
            if isinstance(source, MemoryFile) and not (source_offset | offset | length) % PAGE_BYTES:
                found = source._content()
                if source_offset + length <= found.size:
                    self._remote.reserve(content, self._name, offset, length)
                    content.share(found, source_offset, offset, length)
                    return
        buffer = bytearray(length)
        count = source.read_into(source_offset, memoryview(buffer))
        if count < length:
            problem = f"expected {length} bytes at {source_offset}, found {count}"
            raise errors.Unavailable(self._remote.url, source.name, problem, transient=False)
        self.write_at(offset, buffer)

    def written(self, offset: int, length: int) -> None:
        """There is no cache to drop."""

    def sync(self) -> None:
        with self._remote.lock:
            self._content().sync()

    def close(self) -> None:
        self._open = False

    def _content(self) -> Content:
        self._remote.check_alive(self._name)
        if not self._open:
            raise errors.NotSupported(self._remote.url, self._name, "the file is closed")
        return self._file.content

    def _writable_content(self) -> Content:
        if not self._writable:
            raise errors.NotSupported(self._remote.url, self._name, "the file is open for reading only")
        content = self._content()
        self._file.modified_s = self._remote.now_s()
        return content


def _entry(name: str, node: Node) -> Entry:
    is_file = isinstance(node, File)
    return Entry(
        name=name,
        kind=Kind.FILE if is_file else Kind.DIRECTORY,
        size_bytes=node.content.size if isinstance(node, File) else 0,
        modified_s=node.modified_s,
    )
