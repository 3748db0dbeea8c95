"""Write back what is final and drop it from the page cache, a little behind the writer.

A stream of gigabytes otherwise fills the page cache and leaves all the work to the ``fsync`` at its end. Each range
is handed to the disk at once; when :data:`WINDOW_BYTES` more have followed, it is waited for and dropped. Waiting
bounds the dirty pages, too. Linux reports a failed write-back once per descriptor, so an error met here is kept and
:meth:`WriteBehind.check` raises it for ever: otherwise the ``fsync`` after it would call lost data durable.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
from collections import deque

WINDOW_BYTES = 16 << 20

_WAIT_BEFORE, _WRITE, _WAIT_AFTER = 1, 2, 4
_LOST_DATA = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT})

_libc = ctypes.CDLL(None, use_errno=True)
_sync_file_range = getattr(_libc, "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


class WriteBehind:
    """Of one open file; several threads may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ranges: deque[tuple[int, int]] = deque()
        self._behind_bytes = 0
        self._error: OSError | None = None

    def written(self, descriptor: int, offset: int, length: int) -> None:
        """The range is final for now."""
        self._write_back(descriptor, offset, length, _WRITE)
        for old_offset, old_length in self._due(offset, length):
            self._write_back(descriptor, old_offset, old_length, _WAIT_BEFORE | _WRITE | _WAIT_AFTER)
            _drop(descriptor, old_offset, old_length)

    def check(self) -> None:
        """Raise what a write-back has met."""
        if self._error:
            raise self._error

    def drop_rest(self, descriptor: int) -> None:
        """After an ``fsync``: nothing of it is dirty any more."""
        with self._lock:
            ranges = list(self._ranges)
            self._ranges.clear()
            self._behind_bytes = 0
        for offset, length in ranges:
            _drop(descriptor, offset, length)

    def _due(self, offset: int, length: int) -> list[tuple[int, int]]:
        """Remember the range; the ranges that are more than the window behind now."""
        due = []
        with self._lock:
            self._ranges.append((offset, length))
            self._behind_bytes += length
            while self._behind_bytes > WINDOW_BYTES and len(self._ranges) > 1:
                due.append(self._ranges.popleft())
                self._behind_bytes -= due[-1][1]
        return due

    def _write_back(self, descriptor: int, offset: int, length: int, flags: int) -> None:
        if _sync_file_range is None or not length:
            return
        if _sync_file_range(descriptor, offset, length, flags):
            code = ctypes.get_errno()
            if code in _LOST_DATA and self._error is None:
                self._error = OSError(code, os.strerror(code))


def _drop(descriptor: int, offset: int, length: int) -> None:
    with contextlib.suppress(OSError):
        os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)
