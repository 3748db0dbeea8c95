"""A file of the machine as ``vhd.storage.ReadableFile``, for tests that look at files others wrote."""

from __future__ import annotations

import os
from pathlib import Path


class PathFile:
    """Read only; opened for as long as it lives."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._fd = os.open(path, os.O_RDONLY)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def read_into(self, offset: int, buffer: memoryview) -> int:
        done = 0
        while done < len(buffer) and (got := os.preadv(self._fd, [buffer[done:]], offset + done)):
            done += got
        return done

    def close(self) -> None:
        os.close(self._fd)
