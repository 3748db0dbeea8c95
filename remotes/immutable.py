"""The immutable flag of files and directories (``chattr +i``), as far as a file system has it.

While it is set nobody can change, rename, replace or delete a file, and nothing can come into a directory or leave
it; only root on the machine that has the disks can set and clear it. Over a network file system the flag cannot be
seen: whether a file can be opened for writing tells it then (the only reason why root would be refused).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import sys

GET_FLAGS, SET_FLAGS = 0x80086601, 0x40086602
IMMUTABLE, APPEND_ONLY = 0x10, 0x20
_NO_FLAGS = frozenset({errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
_UNSEEN = frozenset({errno.ELOOP, errno.EACCES, errno.ENXIO})
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW


def held_by(path: str, *, at: int) -> str:
    """Which flag keeps the file or directory from being changed, in words; ``""``: none, or it cannot be looked at.
    ``OSError`` as it comes."""
    try:
        descriptor = os.open(path, _OPEN, dir_fd=at)
    except OSError as error:
        if error.errno in _UNSEEN:
            return ""
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            return ""
        flags = _flags(descriptor)
    finally:
        os.close(descriptor)
    if flags is None:
        return "" if stat.S_ISDIR(mode) else _refused(path, at=at)
    return "the immutable flag" if flags & IMMUTABLE else "the append-only flag" if flags & APPEND_ONLY else ""


def set_immutable(path: str, frozen: bool, *, at: int) -> bool:
    """Set or clear the flag of what is no symbolic link; whether that changed anything. ``OSError`` as it comes:
    ``ENOTTY`` where there are no flags, ``EPERM`` for anybody but root."""
    descriptor = os.open(path, _OPEN, dir_fd=at)
    try:
        flags = _flags(descriptor)
        if flags is None:
            raise OSError(errno.ENOTTY, "the file system has no such flag")
        wanted = flags | IMMUTABLE if frozen else flags & ~IMMUTABLE
        if wanted == flags:
            return False
        fcntl.ioctl(descriptor, SET_FLAGS, struct.pack("=l", wanted))
        return True
    finally:
        os.close(descriptor)


def _flags(descriptor: int) -> int | None:
    """``None`` where the file system has none."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        answer = fcntl.ioctl(descriptor, GET_FLAGS, struct.pack("=l", 0))
    except OSError as error:
        if error.errno in _NO_FLAGS:
            return None
        raise
    return int(struct.unpack("=l", answer[:4])[0])


def _refused(path: str, *, at: int) -> str:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=at))
    except PermissionError as error:
        return "an immutable file" if error.errno == errno.EPERM else ""
    return ""
