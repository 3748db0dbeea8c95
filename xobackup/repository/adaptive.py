"""The level of zstd by what there is time for: a block is compressed harder while blocks come slowly.

After every :data:`WINDOW_BLOCKS` blocks the share of time that the writing threads spent compressing decides: below
:data:`SHARE_LOW` one level up, above :data:`SHARE_HIGH` one level down, within bounds beyond which nothing is gained
(level 1: about 550 MiB/s on one core, a ratio of 3.6 on usual disks; level 6: 140 MiB/s, 4.2). The level is no part
of the format: blocks of different levels live in one chain.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from vhd.storage import Buffer
from xobackup.repository.codecs import ZstdCodec

LEVEL_MIN, LEVEL_MAX = -1, 9
WINDOW_BLOCKS = 16
SHARE_LOW, SHARE_HIGH = 0.25, 0.6


def next_level(level: int, share: float) -> int:
    """The level after a window in which compressing took ``share`` of the time (0 to 1)."""
    if share < SHARE_LOW:
        return min(LEVEL_MAX, level + (2 if level == LEVEL_MIN else 1))  # level 0 is another name of 3
    if share > SHARE_HIGH:
        return max(LEVEL_MIN, level - (2 if level == 1 else 1))
    return level


class AdaptiveZstd:
    """A codec for one disk that is being written, by several threads at once."""

    name = "zstd"

    def __init__(self, monotonic_s: Callable[[], float], *, level: int = 1) -> None:
        self.level = level
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._threads: set[int] = set()
        self._begun_s = monotonic_s()
        self._busy_s = 0.0
        self._blocks = 0

    def compress(self, data: Buffer) -> Buffer:
        before_s = self._monotonic_s()
        packed = ZstdCodec(self.level).compress(data)
        self._note(self._monotonic_s() - before_s)
        return packed

    def decompress(self, data: bytes, limit_bytes: int) -> bytes:
        return ZstdCodec().decompress(data, limit_bytes)

    def decompress_into(self, data: bytes, place: memoryview) -> int:
        return ZstdCodec().decompress_into(data, place)

    def _note(self, spent_s: float) -> None:
        with self._lock:
            self._busy_s += spent_s
            self._blocks += 1
            self._threads.add(threading.get_ident())
            if self._blocks < WINDOW_BLOCKS:
                return
            now_s = self._monotonic_s()
            possible_s = (now_s - self._begun_s) * len(self._threads)
            self.level = next_level(self.level, self._busy_s / possible_s if possible_s > 0 else 1.0)
            self._begun_s, self._busy_s, self._blocks = now_s, 0.0, 0
            self._threads.clear()
