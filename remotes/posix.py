"""The few operations on directory descriptors that a file system remote is made of.

Everything is relative to an open directory (``openat`` style) and raises ``OSError``; :func:`translate` makes a
remote's error of it. Promises: :func:`publish` leaves the old or the new content under the name at every instant and
the new one durably on return; :func:`remove_tree` never follows a symbolic link.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator

from remotes import errors, names
from remotes.contract import Buffer

_TRANSIENT = frozenset(
    {
        errno.EAGAIN,
        errno.EINTR,
        errno.EBUSY,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ECONNRESET,
        errno.ECONNREFUSED,
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOLCK,
        errno.EREMCHG,
    }
)
_BY_ERRNO: dict[int, Callable[[str, str], errors.RemoteError]] = {
    errno.ENOENT: errors.NotFound,
    errno.EEXIST: errors.AlreadyExists,
    errno.ENOTDIR: errors.NotADirectory,
    errno.EISDIR: errors.IsADirectory,
    errno.ENOTEMPTY: errors.DirectoryNotEmpty,
    errno.ENOSPC: errors.NoSpace,
    errno.EROFS: errors.ReadOnly,
    errno.EACCES: errors.AccessDenied,
    errno.EPERM: errors.AccessDenied,
}
_NO_SUCH_CALL = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EMLINK})
_RENAME_NOREPLACE = 1
_DEPTH_MAX = 256
_REMOVE_ATTEMPTS = 3
_DROP_BYTES_MIN = 256 << 10

SQUASHED = (
    "root may do everything on a local file system: does the file server take root for nobody (root_squash)? "
    "Export with no_root_squash, or give the directory there to the user that it takes root for"
)
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def translate(error: OSError, remote: str, name: str) -> errors.RemoteError:
    """The remote's error for one of the operating system."""
    code = error.errno or 0
    if code == errno.EACCES and os.geteuid() == 0:
        return errors.AccessDenied(remote, name, hint=SQUASHED)
    if code in _BY_ERRNO:
        return _BY_ERRNO[code](remote, name)
    if code == errno.EDQUOT:
        return errors.NoSpace(remote, name, "the quota is used up")
    if code == errno.EFBIG:
        return errors.NotSupported(remote, name, "the file system does not hold files that large")
    if code == errno.ENAMETOOLONG:
        return errors.InvalidName(remote, name, "the file system does not take names that long")
    problem = (error.strerror or str(error)).lower()
    return errors.Unavailable(remote, name, problem, transient=code in _TRANSIENT)


@contextlib.contextmanager
def opened(path: str, *, at: int, flags: int = DIRECTORY_FLAGS) -> Iterator[int]:
    """A descriptor for the length of the block."""
    descriptor = os.open(path, flags, dir_fd=at)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def opened_without_links(path: str, *, at: int) -> Iterator[int]:
    """The directory ``path`` below ``at`` (``""`` is ``at``), reached through no symbolic link (``ELOOP``)."""
    descriptor = os.open(".", DIRECTORY_FLAGS, dir_fd=at)
    try:
        for part in path.split("/") if path else ():
            if stat.S_ISLNK(os.stat(part, dir_fd=descriptor, follow_symlinks=False).st_mode):
                raise OSError(errno.ELOOP, f"not followed for deleting: symbolic link {part!r}")
            deeper = os.open(part, DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = deeper
        yield descriptor
    finally:
        os.close(descriptor)


def sync_directory(directory: int) -> None:
    """Make the entries of an open directory durable; some network file systems have no such call and need none."""
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:
            raise


def make_directories(path: str, *, at: int, mode: int) -> None:
    """Make ``path`` and its missing parents, durably; one that is there is fine."""
    done = ""
    for part in path.split("/"):
        done = names.join(done, part)
        with contextlib.suppress(FileExistsError):
            make_one_directory(done, at=at, mode=mode)


def make_one_directory(path: str, *, at: int, mode: int) -> None:
    """``mkdir`` and sync of the parent."""
    parent, base = names.split(path)
    with opened(parent or ".", at=at) as directory:
        os.mkdir(base, mode, dir_fd=directory)
        sync_directory(directory)


def write_all(descriptor: int, data: Buffer, offset: int = 0) -> None:
    """``pwrite`` until all is written."""
    view = memoryview(data).cast("B")
    while view:
        done = os.pwrite(descriptor, view, offset)
        view = view[done:]
        offset += done


def publish(directory: int, base: str, data: Buffer, *, replace: bool, mode: int) -> None:
    """Temporary name, write, check the length, fsync, rename, fsync of the directory."""
    temporary = names.temporary(base)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=directory)
    try:
        try:
            _write_durably(descriptor, data)
        finally:
            os.close(descriptor)
        if replace:
            os.replace(temporary, base, src_dir_fd=directory, dst_dir_fd=directory)
        else:
            rename_to_new(temporary, base, old_at=directory, new_at=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    sync_directory(directory)


def _write_durably(descriptor: int, data: Buffer) -> None:
    write_all(descriptor, data)
    expected = memoryview(data).nbytes
    found = os.fstat(descriptor).st_size
    if found != expected:
        raise OSError(errno.EIO, f"expected {expected} bytes written, found {found}")
    os.fsync(descriptor)
    if expected >= _DROP_BYTES_MIN:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def rename_to_new(old: str, new: str, *, old_at: int, new_at: int) -> None:
    """Rename unless ``new`` exists (``EEXIST``), in one step.

    By ``renameat2(RENAME_NOREPLACE)``, else (NFS) by ``link`` and ``unlink``; where a file system has neither, and
    for directories there, a look before the rename has to do, and two racing callers may both think they won.
    """
    try:
        _renameat2(old_at, old, new_at, new)
        return
    except OSError as error:
        if error.errno not in _NO_SUCH_CALL:
            raise
    try:
        os.link(old, new, src_dir_fd=old_at, dst_dir_fd=new_at, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_SUCH_CALL:
            raise
    else:
        os.unlink(old, dir_fd=old_at)
        return
    if exists(new, at=new_at):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.replace(old, new, src_dir_fd=old_at, dst_dir_fd=new_at)


_libc = ctypes.CDLL(None, use_errno=True)


def _renameat2(old_at: int, old: str, new_at: int, new: str) -> None:
    function = getattr(_libc, "renameat2", None)
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if function(old_at, os.fsencode(old), new_at, os.fsencode(new), _RENAME_NOREPLACE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def exists(path: str, *, at: int) -> bool:
    try:
        os.stat(path, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def remove_tree(base: str, *, at: int, depth: int = 0) -> None:
    """Delete the directory ``base`` and all below it; symbolic links are unlinked, never followed."""
    if depth > _DEPTH_MAX:
        raise OSError(errno.ELOOP, f"directories nested deeper than {_DEPTH_MAX}")
    for attempt in range(_REMOVE_ATTEMPTS):
        with opened(base, at=at, flags=DIRECTORY_FLAGS | os.O_NOFOLLOW) as directory:
            with os.scandir(directory) as entries:
                found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            for name, is_directory in found:
                if is_directory:
                    remove_tree(name, at=directory, depth=depth + 1)
                else:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=directory)
        try:
            os.rmdir(base, dir_fd=at)
            return
        except OSError as error:  # somebody added a file meanwhile
            if error.errno != errno.ENOTEMPTY or attempt == _REMOVE_ATTEMPTS - 1:
                raise
