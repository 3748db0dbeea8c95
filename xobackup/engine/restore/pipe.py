"""The raw disk into a pipe, zeros included, from beginning to end.

Whole blocks of local files go without a copy: the pipe gets the file's own pages (splice). Each is read and compared
with its digest while the next one goes out, when the pipe, smaller than a block, must have passed it on. Everything
else is read, compared and written.
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

from vhd.block import BLOCK_BYTES, Block, BlockBuffer, Disk
from xobackup.engine.cancel import CancelToken
from xobackup.engine.checked import PIECE_BYTES, CheckedDisk, Sending
from xobackup.engine.progress import Meter
from xobackup.engine.readahead import DEPTH, blocks_of

ZEROS = memoryview(bytes(BLOCK_BYTES))
PIPE_BYTES = 1 << 20
"""Asked of a pipe: large enough that its reader always finds something, smaller than a block."""
PIECES = range(0, BLOCK_BYTES, PIECE_BYTES)
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


def write_in_order(disk: Disk, blocks: Iterator[Block], fd: int, meter: Meter, cancel: CancelToken) -> int:
    """The same for a disk that only gives its blocks one after the other."""
    size, position, count = disk.virtual_size_bytes, 0, 0
    meter.begin("restore", total_bytes=size)
    for block in blocks:
        _write_zeros(fd, block.index * BLOCK_BYTES - position, meter, cancel)
        position = block.index * BLOCK_BYTES
        length = min(BLOCK_BYTES, size - position)
        _write_all(fd, block.buffer.data[:length])
        meter.add(length)
        position += length
        count += 1
    _write_zeros(fd, size - position, meter, cancel)
    return count


class _Sender:
    """Sends blocks in order, by splice as long as that works, else by reading ahead and writing."""

    def __init__(self, source: CheckedDisk, fd: int, indexes: list[int], cancel: CancelToken) -> None:
        self._source = source
        self._fd = fd
        self._rest = deque(indexes)
        self._cancel = cancel
        self._piece = BlockBuffer().data[:PIECE_BYTES]
        self._passed_on: Sending | None = None
        """The last block sent, which the pipe may still hold."""
        self._ahead: Iterator[memoryview] | None = None if _is_small_pipe(fd) else self._read()

    def __enter__(self) -> _Sender:
        for index in list(self._rest)[:DEPTH] if self._ahead is None else ():
            self._source.will_read(index)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._passed_on is not None:
            self._drain()
            for at in PIECES:
                self._passed_on.read_piece(at, self._piece)
            self._confirm(self._passed_on)

    def send(self, index: int, length: int) -> None:
        """The next block, ``index``."""
        if self._ahead is None and self._splice(index):
            self._rest.popleft()
            return
        if self._ahead is None:
            self._ahead = self._read()
        _write_all(self._fd, next(self._ahead)[:length])

    def _splice(self, index: int) -> bool:
        """Send the block piece by piece, and between them compare the one before, while the reader reads."""
        if len(self._rest) > DEPTH:
            self._source.will_read(self._rest[DEPTH])
        sending, before = self._source.sending(index), self._passed_on
        if sending is None or not sending.send_piece(0, self._fd):
            return False
        for at in PIECES[1:]:
            sending.send_piece(at, self._fd)
            if before is not None:
                before.read_piece(at - PIECE_BYTES, self._piece)
        if before is not None:
            before.read_piece(PIECES[-1], self._piece)
            self._confirm(before)
        self._passed_on = sending
        return True

    def _confirm(self, sent: Sending) -> None:
        sent.confirm()
        self._source.note_compared()

    def _read(self) -> Iterator[memoryview]:
        for block in blocks_of(self._source, list(self._rest), cancel=self._cancel):
            yield block.buffer.data

    def _drain(self) -> None:
        """Wait until the reader has taken what is in the pipe: the last block is only then passed on."""
        waiting = bytearray(4)
        while True:
            self._cancel.check()
            fcntl.ioctl(self._fd, termios.FIONREAD, waiting)
            if not int.from_bytes(waiting, sys.byteorder):
                return
            time.sleep(DRAIN_POLL_S)


def _is_small_pipe(fd: int) -> bool:
    """Whether ``fd`` is a pipe that holds less than a block, so that sending one pushes the one before it out."""
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
