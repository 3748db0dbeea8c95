"""What a remote may offer besides the contract, and what is done where it does not.

Each face is a small Protocol with one function beside it. Call the function, never the method: it falls back to what
every remote has. A wrapper that passes a face on does so by calling the function with what it wraps.

==================  ==================================  ================================================
face                what it saves                       without it
==================  ==================================  ================================================
Copying             the way through this machine        the object is read and written
DeletingMany        a request for each object           each object is deleted by itself
Uploading           memory: an object written in order  a file is written out of sight, then renamed
Probing             guessing                            the capabilities are what they are
Metered             nothing; it tells what was used     nothing is told
Remarking           nothing; it tells what to know      nothing is told
Protecting          nothing; it tells what is locked    nothing is
Rewinding           nothing; it shows what was there    there is no past
Freezing            nothing; it makes files immutable   nothing can be
Relocking           nothing; it locks for longer        nothing is done
==================  ==================================  ================================================
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol, runtime_checkable

from remotes import errors, names
from remotes.contract import Remote, WritableFile


@runtime_checkable
class Copying(Protocol):
    """The storage copies objects itself."""

    def copy(self, old: str, new: str) -> None:
        """Make ``new`` a copy of the file ``old``, replacing it atomically; durable on return."""
        ...


@runtime_checkable
class DeletingMany(Protocol):
    """The storage takes the names of many objects at once."""

    def delete_many(self, names: Sequence[str]) -> None:
        """Delete files; missing ones are fine. Raises unless all are gone."""
        ...


class Upload(Protocol):
    """An object on its way, written in order by one thread at a time. It has its name only from ``finish`` on."""

    def write(self, data: memoryview) -> None:
        """Append; the buffer may be reused afterwards."""
        ...

    def finish(self) -> int:
        """Make it durable under its name, replacing what has it; returns its length as the storage knows it."""
        ...

    def abort(self) -> None:
        """Take back what is not finished. Harmless when repeated, and after :meth:`finish`."""
        ...


@runtime_checkable
class Uploading(Protocol):
    """The storage takes objects of any length in order."""

    def upload(self, name: str, *, bound_bytes: int | None) -> Upload:
        """Begin ``name``. ``bound_bytes``: it will not be longer, for the choice of how to cut it."""
        ...

    def discard_uploads(self, name: str) -> int:
        """Take back every unfinished upload of ``name``, by whomever; returns how many."""
        ...


@runtime_checkable
class Probing(Protocol):
    """Some capabilities can only be found out by trying."""

    def probe(self) -> None:
        """Find out, once; may write and delete objects under ``.xobackup/``, and remember there what came of it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What a remote asked of its storage so far."""

    requests: Mapping[str, int] = field(default_factory=dict)
    """By the storage's name of the request; those that were repeated count each time."""
    sent_bytes: int = 0
    received_bytes: int = 0
    repeated: int = 0
    """Requests that were sent again because the first one failed."""

    @property
    def total(self) -> int:
        return sum(self.requests.values())

    def since(self, before: Traffic) -> Traffic:
        """What came after ``before``."""
        counted = {kind: count - before.requests.get(kind, 0) for kind, count in self.requests.items()}
        return Traffic(
            requests={kind: count for kind, count in counted.items() if count},
            sent_bytes=self.sent_bytes - before.sent_bytes,
            received_bytes=self.received_bytes - before.received_bytes,
            repeated=self.repeated - before.repeated,
        )


@runtime_checkable
class Metered(Protocol):
    """Its requests are counted (and often paid for)."""

    def traffic(self) -> Traffic | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """Something an operator should know of a storage."""

    state: Literal["ok", "warning"]
    message: str
    hint: str | None = None


@runtime_checkable
class Remarking(Protocol):
    """There is something to know about it."""

    def remarks(self) -> Sequence[Remark]:
        """Looked up now; nothing is changed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """What keeps an object from being deleted or replaced."""

    how: str
    """In words: ``object lock (governance)``."""
    until_s: float | None
    """Unix seconds by the storage's clock; ``None``: nothing tells an end."""
    mode: str = ""
    """The storage's word for how strict it is."""
    hides: bool = False
    """The storage takes the deletion and keeps the object, out of sight; otherwise it refuses."""

    def holds(self, now_s: float) -> bool:
        return self.until_s is None or self.until_s > now_s


@runtime_checkable
class Protecting(Protocol):
    """Objects may be locked there."""

    def protection(self, name: str) -> Protection | None:
        """What locks the file or directory ``name`` itself; ``None``: nothing does, or it is not there."""
        ...


@runtime_checkable
class Relocking(Protocol):
    """Objects are locked as they are put, and can be locked for longer."""

    def relock(self, names: Sequence[str]) -> None:
        """Lock these files as if they were put now, unless they are locked for longer already."""
        ...


def relock(remote: Remote, locked: Sequence[str]) -> None:
    """Lock files for longer, where objects are locked as they are put."""
    if isinstance(remote, Relocking):
        remote.relock(locked)


@runtime_checkable
class Freezing(Protocol):
    """Files can be made immutable from here."""

    def freeze(self, name: str, frozen: bool) -> bool:
        """Set or lift the immutable flag of a file, or of a directory alone; whether that changed anything."""
        ...


class Since(StrEnum):
    """What has become of a file since then."""

    SAME = "same"
    HIDDEN = "hidden"
    """It is not there any more; the storage still has it."""
    REPLACED = "replaced"
    """Something else has its name."""


class Past(Remote, Protocol):
    """A remote as it was: it can be read."""

    def since(self, name: str) -> Since:
        """What has become of a file that was there then."""
        ...

    def bring_back(self, name: str) -> None:
        """Give a hidden file its name again, durably; :class:`~remotes.errors.AlreadyExists` if it is taken."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """One version of a file. Times are Unix seconds by the storage's clock."""

    name: str
    """Base name."""
    size_bytes: int
    written_s: float
    gone_s: float | None
    """When it was deleted or replaced; ``None``: it is there."""
    replaced: bool = False
    """Something else took its place; otherwise it was deleted."""
    locked_until_s: float | None = None


@runtime_checkable
class Rewinding(Protocol):
    """The storage keeps what is deleted or replaced."""

    def as_of(self, time_s: float) -> Past:
        """The remote as it was at ``time_s``, Unix time by the storage's clock. Shares the connection of this one."""
        ...

    def versions(self, directory: str, pattern: str) -> Sequence[Once]:
        """Every version of the files directly in ``directory`` whose base name fits the regular expression, oldest
        first."""
        ...

    def ever(self, directory: str) -> Sequence[str]:
        """Base names of the directories directly in ``directory`` below which anything is, or was."""
        ...


def as_of(remote: Remote, time_s: float) -> Past:
    """The remote as it was. :class:`~remotes.errors.NotSupported` where the storage has no past."""
    return rewinding(remote).as_of(time_s)


def rewinding(remote: Remote) -> Rewinding:
    """The remote's past. :class:`~remotes.errors.NotSupported` where the storage has none."""
    if not isinstance(remote, Rewinding):
        problem = "only a bucket that keeps old versions has a past: this storage knows what is there now"
        raise errors.NotSupported(remote.url, "", problem)
    return remote


def protection(remote: Remote, name: str) -> Protection | None:
    """What locks ``name``, where the storage has locks."""
    return remote.protection(name) if isinstance(remote, Protecting) else None


def copy(remote: Remote, old: str, new: str) -> None:
    """Make ``new`` a copy of the file ``old``."""
    if isinstance(remote, Copying):
        remote.copy(old, new)
    else:
        remote.put(new, remote.get(old))


def delete_many(remote: Remote, doomed: Sequence[str]) -> None:
    """Delete files; missing ones are fine."""
    if isinstance(remote, DeletingMany):
        remote.delete_many(doomed)
        return
    for name in doomed:
        remote.delete(name, missing_ok=True)


def upload(remote: Remote, name: str, *, bound_bytes: int | None = None) -> Upload:
    """Begin to write ``name`` in order; see :class:`Upload`."""
    if isinstance(remote, Uploading):
        return remote.upload(name, bound_bytes=bound_bytes)
    if remote.capabilities.random_access:
        return _HiddenFile(remote, name)
    raise errors.NotSupported(remote.url, name, "the remote takes objects in one piece only")


def discard_uploads(remote: Remote, name: str) -> int:
    """Take back unfinished uploads of ``name``, where there can be any."""
    return remote.discard_uploads(name) if isinstance(remote, Uploading) else 0


def probe(remote: Remote) -> None:
    """Find out what only trying can tell."""
    if isinstance(remote, Probing):
        remote.probe()


def traffic(remote: Remote) -> Traffic | None:
    """What was asked of the storage so far, where that is counted."""
    return remote.traffic() if isinstance(remote, Metered) else None


def remarks(remote: Remote) -> Sequence[Remark]:
    """What an operator should know of the storage."""
    return remote.remarks() if isinstance(remote, Remarking) else ()


class _HiddenFile:
    """An upload to a remote of files: written under a temporary name in the same directory, then renamed."""

    def __init__(self, remote: Remote, name: str) -> None:
        self._remote = remote
        self._name = names.validate(name, remote=remote.url)
        directory, base = names.split(name)
        self._hidden = names.join(directory, names.temporary(base))
        self._file: WritableFile | None = remote.create(self._hidden)
        self._size = 0
        self._done = False

    def write(self, data: memoryview) -> None:
        assert self._file is not None, "the upload is finished"
        self._file.write_at(self._size, data)
        self._file.written(self._size, len(data))
        self._size += len(data)

    def finish(self) -> int:
        assert self._file is not None, "the upload is finished"
        self._file.sync()
        self._close()
        length = self._remote.stat(self._hidden).size_bytes
        self._remote.rename(self._hidden, self._name, replace=True)
        self._done = True
        return length

    def abort(self) -> None:
        if self._done:
            return
        with contextlib.suppress(errors.RemoteError):
            self._close()
        self._remote.delete(self._hidden, missing_ok=True)

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()
