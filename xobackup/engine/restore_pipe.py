"""The raw disk into a pipe, zeros included, from beginning to end.

Whole blocks of local files go without a copy: the pipe gets the file's own pages (splice). Each is confirmed by its
digest one block later, when the pipe, smaller than a block, must have passed it on. Everything else is read, compared
and written.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
import termios
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from vhd.block import BLOCK_BYTES, BlockBuffer
from xobackup.engine.cancel import CancelToken
from xobackup.engine.checked import CheckedDisk
from xobackup.engine.progress import Meter
from xobackup.engine.readahead import DEPTH, blocks_of

ZEROS = memoryview(bytes(BLOCK_BYTES))
PIPE_BYTES = 1 << 18
"""Asked of a pipe: large enough that its reader is not woken for every 64 KiB, smaller than a block."""
DRAIN_POLL_S = 0.002
F_SETPIPE_SZ = 1031
F_GETPIPE_SZ = 1032


def write_to_pipe(source: CheckedDisk, fd: int, meter: Meter, cancel: CancelToken) -> int:
    """Write the whole disk to ``fd`` (a pipe, or anything that can be written); returns how many blocks it has."""
    size = source.virtual_size_bytes
    indexes = source.block_indexes()
    meter.begin("restore", total_bytes=size)
    with _Sender(source, fd, indexes, cancel) as sender:
        position = 0
        for index in indexes:
            cancel.check()
            _write_zeros(fd, index * BLOCK_BYTES - position, meter, cancel)
            position = index * BLOCK_BYTES
            length = min(BLOCK_BYTES, size - position)
            sender.send(index, length)
            meter.add(length)
            position += length
        _write_zeros(fd, size - position, meter, cancel)
    return len(indexes)


class _Sender:
    """Sends blocks in order, by splice as long as that works, else by reading ahead and writing."""

    def __init__(self, source: CheckedDisk, fd: int, indexes: list[int], cancel: CancelToken) -> None:
        self._source = source
        self._fd = fd
        self._rest = deque(indexes)
        self._cancel = cancel
        self._buffer = BlockBuffer()
        self._confirming: Future[None] | None = None
        self._unconfirmed: int | None = None
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="confirm")
        self._ahead: Iterator[memoryview] | None = None
        self._splice = _shrunk_pipe(fd)

    def __enter__(self) -> _Sender:
        for index in list(self._rest)[:DEPTH] if self._splice else ():
            self._source.will_read(index)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._drain()
                self._confirm()
                self._settle()
        finally:
            self._threads.shutdown()

    def send(self, index: int, length: int) -> None:
        """The next block, ``index``."""
        if self._ahead is None and self._splice:
            if len(self._rest) > DEPTH:
                self._source.will_read(self._rest[DEPTH])
            if self._source.send_block(index, self._fd):
                self._rest.popleft()
                self._confirm()
                self._unconfirmed = index
                return
        if self._ahead is None:
            self._ahead = self._read()
        _write_all(self._fd, next(self._ahead)[:length])

    def _read(self) -> Iterator[memoryview]:
        for block in blocks_of(self._source, list(self._rest), cancel=self._cancel):
            yield block.buffer.data

    def _confirm(self) -> None:
        """Have the block before the last checked, while the next one goes out."""
        self._settle()
        if self._unconfirmed is not None:
            index, self._unconfirmed = self._unconfirmed, None
            self._confirming = self._threads.submit(self._source.confirm_block, index, self._buffer)

    def _drain(self) -> None:
        """Wait until the reader has taken what is in the pipe: the last block is only then passed on."""
        waiting = bytearray(4)
        while self._unconfirmed is not None:
            self._cancel.check()
            fcntl.ioctl(self._fd, termios.FIONREAD, waiting)
            if not int.from_bytes(waiting, sys.byteorder):
                return
            time.sleep(DRAIN_POLL_S)

    def _settle(self) -> None:
        if self._confirming is not None:
            confirming, self._confirming = self._confirming, None
            confirming.result()


def _shrunk_pipe(fd: int) -> bool:
    """Whether ``fd`` is a pipe that holds less than a block."""
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            fcntl.fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES)
            return fcntl.fcntl(fd, F_GETPIPE_SZ) < BLOCK_BYTES
    return False


def _write_zeros(fd: int, length: int, meter: Meter, cancel: CancelToken) -> None:
    while length > 0:
        cancel.check()
        piece = min(length, BLOCK_BYTES)
        _write_all(fd, ZEROS[:piece])
        meter.add(piece)
        length -= piece


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]
