"""What can go wrong with a remote.

    RemoteError(remote, name)
    ├── NotFound             nothing of that name
    ├── AlreadyExists        something of that name is there and may not be replaced
    ├── NotADirectory, IsADirectory, DirectoryNotEmpty
    ├── InvalidName          the name is not one a remote accepts (never reached the storage)
    ├── InvalidUrl           a remote URL that cannot be used
    ├── NotSupported         the remote lacks that capability
    ├── TooLarge             the object is bigger than the reader allowed
    ├── NoSpace              the storage is full or over quota
    ├── ReadOnly             the storage refuses writes
    ├── AccessDenied         the storage refuses this user
    ├── Corrupt              the stored bytes are not those that were written
    ├── KeyRefused           what is stored is encrypted and does not fit the key given; nothing was touched
    └── Unavailable          the storage failed; `transient` says whether trying again can help
        └── NoAnswer         a call was abandoned: the storage did not answer in time

``transient`` alone decides a retry.
"""

from __future__ import annotations


class RemoteError(Exception):
    """Root of everything a remote raises. ``remote`` is its URL without secrets."""

    transient = False
    hint: str | None = None
    """What the operator can do, where more is known than the kind of error says."""

    def __init__(self, remote: str, name: str, problem: str) -> None:
        self.remote = remote
        self.name = name
        self.problem = problem
        where = f"{remote}: {name}" if name else remote
        super().__init__(f"{where}: {problem}")


class NotFound(RemoteError):
    def __init__(self, remote: str, name: str) -> None:
        super().__init__(remote, name, "not found")


class AlreadyExists(RemoteError):
    def __init__(self, remote: str, name: str) -> None:
        super().__init__(remote, name, "already exists")


class NotADirectory(RemoteError):
    def __init__(self, remote: str, name: str) -> None:
        super().__init__(remote, name, "expected a directory, found a file")


class IsADirectory(RemoteError):
    def __init__(self, remote: str, name: str) -> None:
        super().__init__(remote, name, "expected a file, found a directory")


class DirectoryNotEmpty(RemoteError):
    def __init__(self, remote: str, name: str) -> None:
        super().__init__(remote, name, "the directory is not empty")


class InvalidName(RemoteError):
    """A name with a leading slash, ``..``, an empty part, a NUL, or parts too long."""


class InvalidUrl(RemoteError):
    """A URL that no remote understands."""


class NotSupported(RemoteError):
    """The remote cannot do that; see its capabilities."""


class NoSpace(RemoteError):
    def __init__(self, remote: str, name: str, problem: str = "no space left") -> None:
        super().__init__(remote, name, problem)


class ReadOnly(RemoteError):
    def __init__(self, remote: str, name: str) -> None:
        super().__init__(remote, name, "the storage is read-only")


class AccessDenied(RemoteError):
    def __init__(
        self, remote: str, name: str, problem: str = "permission denied", *, hint: str | None = None
    ) -> None:
        super().__init__(remote, name, problem)
        self.hint = hint


class Corrupt(RemoteError):
    """The stored bytes are not those that were written: their authentication fails, or they end early."""


class KeyRefused(RemoteError):
    """The remote is encrypted and the key given (or none) does not fit it. Found before anything was written."""

    def __init__(self, remote: str, problem: str, *, hint: str | None = None) -> None:
        self.hint = hint
        super().__init__(remote, "", problem)


class Unavailable(RemoteError):
    """The storage failed."""

    def __init__(self, remote: str, name: str, problem: str, *, transient: bool, hint: str | None = None) -> None:
        super().__init__(remote, name, problem)
        self.transient = transient
        self.hint = hint


class NoAnswer(Unavailable):
    """Nothing is known of what was asked: it may be done, or be done later."""

    def __init__(self, remote: str, name: str, problem: str) -> None:
        super().__init__(remote, name, problem, transient=False)


class TooLarge(RemoteError):
    """An object bigger than the reader allowed."""

    def __init__(self, remote: str, name: str, *, limit_bytes: int, found_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.found_bytes = found_bytes
        super().__init__(remote, name, f"expected at most {limit_bytes} bytes, found {found_bytes}")
