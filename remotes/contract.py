"""What a remote is.

Names are relative, ``/``-separated, validated (:func:`remotes.names.validate`). A remote MUST

1. list completely or raise: never a partial listing; a directory that is not there raises :class:`NotFound`;
2. make ``put`` atomic and durable: afterwards, also after a power cut, the name holds the whole old or the whole
   new content; with ``replace=False`` an existing name raises :class:`AlreadyExists` and stays untouched;
3. make ``rename``, ``delete``, ``make_directory`` durable on return; ``rename`` of a file onto an existing name
   replaces it atomically only with ``replace=True``;
4. keep what a :class:`WritableFile` wrote only from its ``sync`` on; before that anything of it may be lost;
5. raise only :mod:`remotes.errors`, naming the object;
6. be usable by several threads at once.

What a remote cannot do it says in its :class:`Capabilities`; callers branch on those, never on its type. What it may
offer besides is in :mod:`remotes.faces`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a remote can do, as data."""

    random_access: bool
    """``create`` and ``update`` give files that can be written at any offset."""
    range_reads: bool = True
    """Open files can be read here and there at no greater cost than what is read; otherwise from start to end."""
    authenticated: bool = False
    """Every object is proven to be what was written before any of it is given out (:class:`~remotes.errors.Corrupt`
    otherwise): no checksum beside it can say more."""
    atomic_rename: bool
    """A rename is one step, also onto an existing name; otherwise copy and delete."""
    exclusive_directories: bool
    """``make_directory`` fails for all but one caller, and ``touch`` refreshes its time: good enough for a lock."""
    range_copy: bool
    """``copy_range`` may share extents or copy on the server."""
    durable: bool
    """``sync`` reaches stable storage. False only for memory."""
    hierarchical: bool
    """Directories exist by themselves and can be empty."""
    conditional_put: bool = True
    """``put`` with ``replace=False`` is decided by the storage: of several at once exactly one succeeds. Where only
    trying can tell, False until :func:`remotes.faces.probe`."""
    keeps_versions: bool = False
    """What is replaced or deleted stays there, out of sight, as long as a lock wants it."""
    parallel: int = 1
    """Requests that are worth having under way at a time: more than 1 where each one waits for a network."""


class Kind(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One name in a directory. ``modified_s`` is Unix time by the storage's own clock."""

    name: str
    """Base name in a listing; the name asked for in ``stat``."""
    kind: Kind
    size_bytes: int
    modified_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Space of the storage behind a remote."""

    total_bytes: int
    free_bytes: int
    storage: str = ""
    """The same for remotes that share this space, as far as this machine can tell; ``""``: nothing is known."""


class ReadableFile(Protocol):
    """An open file; several threads may read it at once. The same shape as :class:`vhd.storage.ReadableFile`."""

    @property
    def name(self) -> str: ...

    def size(self) -> int: ...

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer``; fewer bytes only at the end of the file."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class ReadAhead(Protocol):
    """What an open file may offer besides."""

    def will_read(self, offset: int, length: int) -> None:
        """Hint: this range is read soon; never needed for correctness."""
        ...


def hint_read(file: ReadableFile, offset: int, length: int) -> None:
    """Tell ``file`` what is read soon, if it wants to know."""
    if isinstance(file, ReadAhead):
        file.will_read(offset, length)


@runtime_checkable
class PipeSource(Protocol):
    """What an open file may offer besides: its pages put into a pipe without a copy."""

    def send_to_pipe(self, offset: int, length: int, pipe: int) -> int:
        """Send a range; returns how many bytes went, fewer when the file system cannot (go on).

        The pipe holds the file's own pages until its reader takes them: who changes that range meanwhile changes
        what is read.
        """
        ...


class WritableFile(ReadableFile, Protocol):
    """An open file that can be written at any offset. The same shape as :class:`vhd.storage.WritableFile`."""

    def write_at(self, offset: int, data: Buffer) -> None: ...

    def truncate(self, size_bytes: int) -> None: ...

    def copy_range(self, source: ReadableFile, source_offset: int, offset: int, length: int) -> None: ...

    def written(self, offset: int, length: int) -> None:
        """Hint: the range is final for now; write it back and drop it from caches."""
        ...

    def sync(self) -> None: ...


class Remote(Protocol):
    """See the module's head for the MUSTs."""

    @property
    def url(self) -> str:
        """Where it is, without secrets; what error messages show."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    def list(self, directory: str) -> list[Entry]:
        """Everything directly in ``directory`` (``""`` is the root), sorted by name."""
        ...

    def stat(self, name: str) -> Entry: ...

    def get(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        """The whole content; more than ``limit_bytes`` raises instead of filling memory."""
        ...

    def put(self, name: str, data: Buffer, *, replace: bool = True) -> None:
        """Write the whole object, making missing directories."""
        ...

    def open(self, name: str) -> ReadableFile: ...

    def create(self, name: str) -> WritableFile:
        """A new file (:class:`AlreadyExists` if there is one), making missing directories."""
        ...

    def update(self, name: str) -> WritableFile:
        """An existing file, for reading and writing in place."""
        ...

    def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        """Move a file or a directory, making ``new``'s missing directories. ``replace`` only for files."""
        ...

    def delete(self, name: str, *, missing_ok: bool = False) -> None:
        """Delete a file."""
        ...

    def make_directory(self, name: str, *, exist_ok: bool = True) -> None:
        """Make it and missing parents; with ``exist_ok=False`` exactly one of several callers succeeds."""
        ...

    def remove_directory(self, name: str) -> None:
        """Remove an empty directory (:class:`DirectoryNotEmpty` otherwise)."""
        ...

    def delete_tree(self, name: str) -> None:
        """Delete a directory and all below it; a missing one is fine."""
        ...

    def touch(self, name: str) -> float:
        """Set a file's or directory's time to the storage's now; return that as Unix seconds."""
        ...

    def usage(self) -> Usage | None:
        """Space, where the storage knows."""
        ...

    def close(self) -> None: ...
