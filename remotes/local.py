"""A directory of this machine as a remote: a local disk, or whatever the administrator mounted there.

The root is held open from the start: when its file system is unmounted or its directory deleted, operations fail
instead of finding an empty remote. Nothing is deleted through a symbolic link. Names ending in what an
NFS client leaves of deleted open files (``.nfs...``) are not listed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from remotes import errors, immutable, names, posix
from remotes.contract import Buffer, Capabilities, Entry, Kind, Usage
from remotes.faces import Protection
from remotes.local_file import LocalFile

DIRECTORY_MODE = 0o700
FILE_MODE = 0o666
"""Before the umask."""

HELD_HINT = "whoever set the flag lifts it in time; at once: chattr -i, as root on the machine that has the disks"
_SILLY_RENAME = re.compile(r"\.nfs[0-9a-fA-F]{8,}")
_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK
_CAPABILITIES = Capabilities(
    random_access=True,
    atomic_rename=True,
    exclusive_directories=True,
    range_copy=True,
    durable=True,
    hierarchical=True,
)


class LocalRemote:
    """See :mod:`remotes.contract`. ``create_root`` makes a missing root, otherwise it raises ``Unavailable``."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        create_root: bool = False,
        directory_mode: int = DIRECTORY_MODE,
        file_mode: int = FILE_MODE,
        shown: str = "",
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        """``shown``: its URL for messages. ``guard`` raises when the path is not what it should be (a lost mount)."""
        self._path = Path(path).absolute()
        self._shown = shown or f"file://{self._path}"
        self._guard = guard
        self._directory_mode = directory_mode
        self._file_mode = file_mode
        self._root = -1
        self._stale: list[int] = []
        if create_root:
            self._create_root()
        self._open_root()

    @property
    def url(self) -> str:
        return self._shown

    @property
    def path(self) -> Path:
        """Where it is mounted."""
        return self._path

    @property
    def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    def list(self, directory: str) -> list[Entry]:
        names.validate_directory(directory, remote=self.url)
        with (
            self._translated(directory),
            posix.opened(directory or ".", at=self._root) as descriptor,
            os.scandir(descriptor) as entries,
        ):
            found = [_entry(each) for each in entries if not _SILLY_RENAME.fullmatch(each.name)]
        return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.name)

    def stat(self, name: str) -> Entry:
        names.validate_directory(name, remote=self.url)
        with self._translated(name):
            return _entry_of(name, os.stat(name or ".", dir_fd=self._root))

    def get(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        file = self.open(name)
        try:
            size = file.size()
            if limit_bytes is not None and size > limit_bytes:
                raise errors.TooLarge(self.url, name, limit_bytes=limit_bytes, found_bytes=size)
            buffer = bytearray(size)
            return bytes(buffer[: file.read_into(0, memoryview(buffer))])
        finally:
            file.close()

    def put(self, name: str, data: Buffer, *, replace: bool = True) -> None:
        names.validate(name, remote=self.url)
        with self._translated(name), self._parent(name, make=True) as (directory, base):
            posix.publish(directory, base, data, replace=replace, mode=self._file_mode)

    def open(self, name: str) -> LocalFile:
        names.validate(name, remote=self.url)
        with self._translated(name):
            descriptor = self._open_regular(name, _READ_FLAGS)
        return LocalFile(self.url, name, descriptor, writable=False)

    def create(self, name: str) -> LocalFile:
        names.validate(name, remote=self.url)
        with self._translated(name), self._parent(name, make=True) as (directory, base):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(base, flags, self._file_mode, dir_fd=directory)
            return LocalFile(self.url, name, descriptor, writable=True, directory=os.dup(directory))

    def update(self, name: str) -> LocalFile:
        names.validate(name, remote=self.url)
        with self._translated(name):
            descriptor = self._open_regular(name, _WRITE_FLAGS)
        return LocalFile(self.url, name, descriptor, writable=True)

    def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        names.validate(old, remote=self.url)
        names.validate(new, remote=self.url)
        if new.startswith(f"{old}/"):
            raise errors.InvalidName(self.url, new, f"cannot move {old!r} into itself")
        with self._translated(old), self._parent(old) as (old_at, old_base):
            mode = os.stat(old_base, dir_fd=old_at, follow_symlinks=False).st_mode
            if old.startswith(f"{new}/"):
                raise (errors.AlreadyExists if not replace or stat.S_ISDIR(mode) else errors.IsADirectory)(
                    self.url, new
                )
            with self._translated(new), self._parent(new, make=True) as (new_at, new_base):
                if replace and not stat.S_ISDIR(mode):
                    os.replace(old_base, new_base, src_dir_fd=old_at, dst_dir_fd=new_at)
                else:
                    posix.rename_to_new(old_base, new_base, old_at=old_at, new_at=new_at)
                posix.sync_directory(new_at)
            posix.sync_directory(old_at)

    def delete(self, name: str, *, missing_ok: bool = False) -> None:
        names.validate(name, remote=self.url)
        try:
            with self._translated(name), self._parent_without_links(name) as (directory, base):
                os.unlink(base, dir_fd=directory)
                posix.sync_directory(directory)
        except errors.NotFound:
            if not missing_ok:
                raise

    def make_directory(self, name: str, *, exist_ok: bool = True) -> None:
        names.validate(name, remote=self.url)
        parent, _ = names.split(name)
        with self._translated(name):
            try:
                posix.make_one_directory(name, at=self._root, mode=self._directory_mode)
            except FileNotFoundError:
                self._check_root()
                posix.make_directories(parent, at=self._root, mode=self._directory_mode)
                self._make_last_directory(name, exist_ok=exist_ok)
            except FileExistsError:
                self._accept_directory(name, exist_ok=exist_ok)

    def remove_directory(self, name: str) -> None:
        names.validate(name, remote=self.url)
        with self._translated(name), self._parent_without_links(name) as (directory, base):
            os.rmdir(base, dir_fd=directory)
            posix.sync_directory(directory)

    def delete_tree(self, name: str) -> None:
        names.validate(name, remote=self.url)
        with (
            contextlib.suppress(errors.NotFound),
            self._translated(name),
            self._parent_without_links(name) as (directory, base),
        ):
            if stat.S_ISLNK(os.stat(base, dir_fd=directory, follow_symlinks=False).st_mode):
                raise OSError(errno.ELOOP, f"not followed for deleting: symbolic link {base!r}")
            posix.remove_tree(base, at=directory)
            posix.sync_directory(directory)

    def touch(self, name: str) -> float:
        names.validate(name, remote=self.url)
        with self._translated(name):
            os.utime(name, dir_fd=self._root)
            return os.stat(name, dir_fd=self._root).st_mtime

    def usage(self) -> Usage | None:
        with self._translated(""):
            found, device = os.statvfs(self._root), os.fstat(self._root).st_dev
        return Usage(
            total_bytes=found.f_blocks * found.f_frsize,
            free_bytes=found.f_bavail * found.f_frsize,
            storage=f"device {device}",
        )

    def protection(self, name: str) -> Protection | None:
        names.validate(name, remote=self.url)
        try:
            with self._translated(name):
                how = immutable.held_by(name, at=self._root)
        except (errors.NotFound, errors.NotADirectory):
            return None
        return Protection(how=how, until_s=None, mode="immutable") if how else None

    def freeze(self, name: str, frozen: bool) -> bool:
        names.validate(name, remote=self.url)
        with self._translated(name), self._parent_without_links(name) as (directory, base):
            return immutable.set_immutable(base, frozen, at=directory)

    def close(self) -> None:
        roots, self._root, self._stale = [self._root, *self._stale], -1, []
        for root in roots:
            if root >= 0:
                os.close(root)

    @contextlib.contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.EBADF}:
                self._check_root()
            if error.errno == errno.ESTALE:
                self._renew_root()
            if error.errno == errno.EPERM and (how := self._held_by(name)):
                told = f"permission denied: it is held by {how} (chattr +i)"
                raise errors.AccessDenied(self.url, name, told, hint=HELD_HINT) from error
            if error.errno == errno.ENOTTY:
                raise errors.NotSupported(self.url, name, "the file system has no immutable flag") from error
            raise posix.translate(error, self.url, name) from error

    def _held_by(self, name: str) -> str:
        """What keeps ``name``, or the directory it is in, from being changed."""
        for each in (name, names.split(name)[0]):
            with contextlib.suppress(OSError):
                if each and (how := immutable.held_by(each, at=self._root)):
                    return how
        return ""

    def _check_root(self) -> None:
        """A name that is missing because the whole remote is gone must never read as "not found"."""
        if self._root < 0:
            raise self._root_problem("the remote is closed")
        try:
            links = os.fstat(self._root).st_nlink
        except OSError as error:
            raise posix.translate(error, self.url, "") from error
        if links == 0:
            raise self._root_problem("the directory of the remote was deleted")

    def _open_root(self) -> None:
        self._guard()
        try:
            self._root = os.open(self._path, posix.DIRECTORY_FLAGS)
        except FileNotFoundError as error:
            raise self._root_problem("the directory of the remote does not exist") from error
        except OSError as error:
            raise posix.translate(error, self.url, "") from error

    def _renew_root(self) -> None:
        """A file server forgot the handle of the root: open it anew, if it is still the same mount."""
        try:
            os.fstat(self._root)
        except OSError as error:
            if error.errno != errno.ESTALE:
                return
            self._stale.append(self._root)  # kept: another thread may be about to use it
            self._open_root()  # the error that led here is passing: whoever tries again finds the new one

    def _root_problem(self, problem: str) -> errors.Unavailable:
        return errors.Unavailable(self.url, "", problem, transient=False)

    def _create_root(self) -> None:
        try:
            for missing in reversed([each for each in (self._path, *self._path.parents) if not each.exists()]):
                missing.mkdir(self._directory_mode, exist_ok=True)
                with posix.opened(str(missing.parent), at=-1) as directory:
                    posix.sync_directory(directory)
        except OSError as error:
            raise posix.translate(error, self.url, "") from error

    @contextlib.contextmanager
    def _parent(self, name: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """The open directory of ``name`` and its base name; ``make`` makes missing directories, never the root."""
        parent, base = names.split(name)
        if make and parent and not posix.exists(parent, at=self._root):
            self._check_root()
            posix.make_directories(parent, at=self._root, mode=self._directory_mode)
        with posix.opened(parent or ".", at=self._root) as directory:
            yield directory, base

    @contextlib.contextmanager
    def _parent_without_links(self, name: str) -> Iterator[tuple[int, str]]:
        parent, base = names.split(name)
        with posix.opened_without_links(parent, at=self._root) as directory:
            yield directory, base

    def _make_last_directory(self, name: str, *, exist_ok: bool) -> None:
        try:
            posix.make_one_directory(name, at=self._root, mode=self._directory_mode)
        except FileExistsError:
            self._accept_directory(name, exist_ok=exist_ok)

    def _accept_directory(self, name: str, *, exist_ok: bool) -> None:
        if not exist_ok:
            raise errors.AlreadyExists(self.url, name)
        if not stat.S_ISDIR(os.stat(name, dir_fd=self._root).st_mode):
            raise errors.NotADirectory(self.url, name)

    def _open_regular(self, name: str, flags: int) -> int:
        descriptor = os.open(name, flags, dir_fd=self._root)
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            return descriptor
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise errors.IsADirectory(self.url, name)
        raise errors.NotSupported(self.url, name, "expected a regular file, found a device, pipe or socket")


def _entry(found: os.DirEntry[str]) -> Entry | None:
    """None for a name that vanished since it was listed."""
    try:
        return _entry_of(found.name, found.stat())
    except FileNotFoundError:
        pass
    try:
        return _entry_of(found.name, found.stat(follow_symlinks=False))  # a dangling link
    except FileNotFoundError:
        return None


def _entry_of(name: str, found: os.stat_result) -> Entry:
    is_directory = stat.S_ISDIR(found.st_mode)
    return Entry(
        name=name,
        kind=Kind.DIRECTORY if is_directory else Kind.FILE,
        size_bytes=0 if is_directory else found.st_size,
        modified_s=found.st_mtime,
    )
