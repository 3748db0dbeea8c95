"""Copy a range from file to file inside the kernel: shared extents, a copy on the server, or page by page.

Which of them it was, ``copy_file_range`` does not say, so the first range is offered as a clone. A file system that
shares no extents copies pieces of 64 KiB through its page cache; where these start on 64 KiB of the target each gets
one large folio, else several small ones (measured on ext4: a tenth of the time). There a copy begins with a short
piece up to that boundary. Where extents are shared it does not: two pieces would be two extents.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct

FOLIO_BYTES = 64 << 10
"""What the kernel moves at a time between two page caches: the room of a pipe."""

_CLONE_RANGE = 0x4020940D
_NO_CLONE = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EXDEV})
_NO_RANGE_COPY = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ETXTBSY}
)


class RangeCopy:
    """Of one open target file, whose file system it gets to know with the first range."""

    def __init__(self) -> None:
        self._in_pieces: bool | None = None

    def copy(self, source: int, source_offset: int, target: int, offset: int, length: int) -> int:
        """Bytes copied between two descriptors; fewer than ``length`` where the kernel cannot go on."""
        if self._in_pieces is None and self._clone(source, source_offset, target, offset, length):
            return length
        done = 0
        try:
            while done < length:
                piece = length - done
                if self._in_pieces and (head := -(offset + done) % FOLIO_BYTES):
                    piece = min(piece, head)
                count = os.copy_file_range(source, target, piece, source_offset + done, offset + done)
                if count == 0:
                    break
                done += count
        except OSError as error:
            if error.errno not in _NO_RANGE_COPY:
                raise
        return done

    def _clone(self, source: int, source_offset: int, target: int, offset: int, length: int) -> bool:
        """Share the extents of a range; other failures than "never here" leave the question open."""
        if not length:
            return False  # a length of zero means: to the end
        wanted = struct.pack("=qQQQ", source, source_offset, length, offset)
        with contextlib.suppress(OSError):
            try:
                fcntl.ioctl(target, _CLONE_RANGE, wanted)
            except OSError as error:
                if error.errno in _NO_CLONE:
                    self._in_pieces = True
                raise
            self._in_pieces = False
            return True
        return False
