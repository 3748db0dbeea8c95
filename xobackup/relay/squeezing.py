"""Which level of compression pays on one connection. The decision is pure; :class:`Squeezer` keeps what was measured.

A byte costs the time to compress it and the time that sending what is left of it waits for the socket. The level with
the least sum is taken. Off costs no compression; so on a line that is faster than the CPU, and for bytes that do not
shrink, nothing is compressed. Every :data:`TRY_EVERY` pieces another level has a try: line and bytes change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import zstandard

LEVELS = (0, 1, 3)
"""Off, and of zstd."""
TRY_EVERY = 16
SMALL_BYTES = 512
"""Less is sent as it is."""
WORTH = 0.97
"""What does not shrink below this share is sent as it is."""
KEEP = 0.6
"""How much of an estimate the next measurement leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Of one level: seconds to compress a byte, and the share of it that is left."""

    compress_s: float
    share: float


def choose_level(levels: Mapping[int, Measured], send_s: float) -> int:
    """The level by which a byte is over there soonest. ``send_s``: seconds that sending a byte waits."""
    costs = {0: send_s} | {level: one.compress_s + one.share * send_s for level, one in levels.items() if level}
    return min(costs, key=lambda level: (costs[level], level))


def next_trial(levels: Mapping[int, Measured], count: int) -> int | None:
    """The level that piece number ``count`` tries out, if it does: each unknown one first, then all in turn."""
    unknown = [level for level in LEVELS if level and level not in levels]
    if unknown and count >= 1:
        return unknown[0]
    if count and count % TRY_EVERY == 0:
        turn = count // TRY_EVERY
        return LEVELS[turn % len(LEVELS)]
    return None


class Squeezer:
    """One connection's; for one thread. Tell it with :meth:`sent` how long sending took."""

    def __init__(self) -> None:
        self.level = 0
        self._levels: dict[int, Measured] = {}
        self._send_s = 0.0
        self._count = 0
        self._zstd = {level: zstandard.ZstdCompressor(level=level) for level in LEVELS if level}

    def next_level(self) -> int:
        """For the next piece."""
        trial = next_trial(self._levels, self._count)
        self._count += 1
        self.level = choose_level(self._levels, self._send_s)
        return self.level if trial is None else trial

    def compress(self, data: memoryview, level: int) -> bytes:
        return self._zstd[level].compress(data)

    def compressed(self, level: int, plain_bytes: int, wire_bytes: int, spent_s: float) -> None:
        """What a level did to a piece."""
        if level == 0 or not plain_bytes:
            return
        found = Measured(compress_s=spent_s / plain_bytes, share=min(1.0, wire_bytes / plain_bytes))
        before = self._levels.get(level, found)
        self._levels[level] = Measured(
            compress_s=_mixed(before.compress_s, found.compress_s), share=_mixed(before.share, found.share)
        )

    def sent(self, wire_bytes: int, spent_s: float) -> None:
        """How long a piece waited for the socket."""
        if wire_bytes < SMALL_BYTES:
            return
        found = spent_s / wire_bytes
        self._send_s = found if self._send_s == 0.0 else _mixed(self._send_s, found)


def _mixed(old: float, new: float) -> float:
    return KEEP * old + (1 - KEEP) * new
