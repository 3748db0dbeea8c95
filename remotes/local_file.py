"""An open file of a file system, written so that multi-gigabyte streams do not churn the page cache.

- ``write_at`` of 128 KiB or more whose offset, length and memory lie on 4 KiB goes past the page cache (O_DIRECT on a
  second descriptor, where the file system takes it); everything else is buffered.
- ``written`` starts write-back of a buffered range at once and drops the range before it from the cache.
- ``copy_range`` between files of file systems shares extents, copies on the server or at least inside the kernel
  (:mod:`remotes.range_copy`), else through one buffer.
- ``sync`` is ``fsync``, and after ``create`` also makes the name durable.

Direct and buffered writes may be mixed in one file, but at the same time only in different 4 KiB pages.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import threading

from remotes import errors, posix
from remotes.contract import Buffer, ReadableFile
from remotes.range_copy import RangeCopy
from remotes.write_behind import WriteBehind

ALIGN_BYTES = 4096
DIRECT_BYTES_MIN = 128 << 10
COPY_BUFFER_BYTES = 2 << 20


class LocalFile:
    """See the module's head. ``descriptor`` and ``directory`` (to sync after a ``create``) become its own."""

    def __init__(
        self, remote: str, name: str, descriptor: int, *, writable: bool, directory: int | None = None
    ) -> None:
        self._remote = remote
        self._name = name
        self._descriptor = descriptor
        self._writable = writable
        self._directory = directory
        self._behind = WriteBehind()
        self._ranges = RangeCopy()
        self._direct: int | None = None
        self._direct_tried = not writable
        self._direct_refused = False
        self._lock = threading.Lock()
        self._translated = _Translated(self)

    @property
    def name(self) -> str:
        return self._name

    def size(self) -> int:
        with self._translated:
            return os.fstat(self._descriptor).st_size

    def read_into(self, offset: int, buffer: memoryview) -> int:
        view = buffer.cast("B")
        done = 0
        with self._translated:
            while done < len(view):
                count = os.preadv(self._descriptor, [view[done:]], offset + done)
                if count == 0:
                    break
                done += count
        return done

    def will_read(self, offset: int, length: int) -> None:
        """Hint: read this ahead. Cheap to give, worth it on a cold cache."""
        with contextlib.suppress(OSError):
            os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_WILLNEED)

    def send_to_pipe(self, offset: int, length: int, pipe: int) -> int:
        """See :class:`remotes.contract.PipeSource`. Errors of the pipe (its reader left) pass through as they are."""
        done = 0
        while done < length:
            try:
                count = os.splice(self._descriptor, pipe, length - done, offset_src=offset + done)
            except OSError as error:
                if error.errno in {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
                    break
                raise
            if count == 0:
                break
            done += count
        return done

    def write_at(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        with self._translated:
            if not (_aligned(offset, view) and self._write_direct(offset, view)):
                posix.write_all(self._descriptor, view, offset)

    def truncate(self, size_bytes: int) -> None:
        with self._translated:
            os.ftruncate(self._descriptor, size_bytes)

    def copy_range(self, source: ReadableFile, source_offset: int, offset: int, length: int) -> None:
        done = 0
        if isinstance(source, LocalFile):
            with self._translated:
                done = self._ranges.copy(source._descriptor, source_offset, self._descriptor, offset, length)
        if done < length:
            self._copy_through_memory(source, source_offset + done, offset + done, length - done)

    def written(self, offset: int, length: int) -> None:
        with self._translated:
            self._behind.written(self._descriptor, offset, length)

    def sync(self) -> None:
        with self._translated:
            self._behind.check()
            os.fsync(self._descriptor)
            self._behind.check()
            self._behind.drop_rest(self._descriptor)
            with self._lock:
                if self._directory is not None:
                    posix.sync_directory(self._directory)
                    os.close(self._directory)
                    self._directory = None

    def close(self) -> None:
        with self._lock:
            descriptors = [self._direct, self._directory, self._descriptor]
            self._direct = self._directory = None
            self._direct_tried = True
            self._descriptor = -1
        for descriptor in descriptors:
            if descriptor is not None and descriptor >= 0:
                with contextlib.suppress(OSError):  # it can only be about what was never synced (NFS tells that here)
                    os.close(descriptor)

    def translated(self, error: OSError) -> errors.RemoteError:
        """What an error of the file system means here."""
        if error.errno == errno.EBADF:
            problem = "the file is closed" if self._descriptor < 0 else "the file is open for reading only"
            return errors.NotSupported(self._remote, self._name, problem)
        return posix.translate(error, self._remote, self._name)

    def _write_direct(self, offset: int, view: memoryview) -> bool:
        """Whether all of ``view`` went past the page cache; if not, nothing is lost and nothing has to be undone."""
        descriptor = self._direct_descriptor()
        if descriptor is None:
            return False
        try:
            done = os.pwrite(descriptor, view, offset)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:
                raise
            self._give_up_direct()
            return False
        if done < len(view):  # at a limit of the file system: the buffered path says which
            posix.write_all(self._descriptor, view[done:], offset + done)
        return True

    def _direct_descriptor(self) -> int | None:
        if not self._direct_tried:
            with self._lock:
                if not self._direct_tried:
                    flags = os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC
                    with contextlib.suppress(OSError):
                        self._direct = os.open(f"/proc/self/fd/{self._descriptor}", flags)
                    self._direct_tried = True
        return None if self._direct_refused else self._direct

    def _give_up_direct(self) -> None:
        with self._lock:
            self._direct_refused = True  # stays open until close: another thread may be writing through it

    def _copy_through_memory(self, source: ReadableFile, source_offset: int, offset: int, length: int) -> None:
        buffer = memoryview(mmap.mmap(-1, min(COPY_BUFFER_BYTES, length)))  # freed with its last view
        while length:
            part = buffer[: min(length, len(buffer))]
            count = source.read_into(source_offset, part)
            if count < len(part):
                problem = f"expected {len(part)} bytes at {source_offset}, found {count}"
                raise errors.Unavailable(self._remote, source.name, problem, transient=False)
            self.write_at(offset, part)
            source_offset += count
            offset += count
            length -= count


class _Translated:
    """Around what the file system does: its errors become the room's. Made once per file; keeps nothing of a use."""

    def __init__(self, file: LocalFile) -> None:
        self._file = file

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise self._file.translated(error) from error


def _aligned(offset: int, view: memoryview) -> bool:
    """Whether O_DIRECT would take it: offset, length and address on 4 KiB. Read-only memory has no address here."""
    if view.readonly or len(view) < DIRECT_BYTES_MIN or (offset | len(view)) % ALIGN_BYTES:
        return False
    return ctypes.addressof(ctypes.c_char.from_buffer(view)) % ALIGN_BYTES == 0
