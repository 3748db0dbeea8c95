"""Which blocks this verification reads. Pure.

=================  ================================================================================================
everything         all of them
share              a part of them by seed: the same seed, the same blocks (``--percent``)
part k of n        a fixed n-th, by place in the lineage: n runs with k = 1 .. n read everything (``--slice 3/30``)
the oldest share   those that were verified longest ago, never verified ones first and of those the newest
                   disks' first; as many as the share of all blocks (``--slice 2%``)
=================  ================================================================================================
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from uuid import UUID

import xxhash

from xobackup.repository.verified import NEVER

PARTS_MAX = 10_000
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_PART = re.compile(r"(\d+)\s*/\s*(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A ``fraction`` by seed."""

    fraction: float = 1.0
    seed: int = 0

    def has(self, uuid: UUID, index: int) -> bool:
        if self.fraction >= 1:
            return True
        key = uuid.bytes + index.to_bytes(4, "big")
        return xxhash.xxh3_64_intdigest(key, self.seed & 0xFFFFFFFFFFFFFFFF) < self.fraction * 2**64


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Part ``number`` (from 1) of ``count``."""

    number: int
    count: int

    def has(self, lineage: str, index: int) -> bool:
        return xxhash.xxh3_64_intdigest(f"{lineage} {index}".encode()) % self.count == self.number - 1

    def has_image(self, vm: str, point: str) -> bool:
        return xxhash.xxh3_64_intdigest(f"{vm} {point}".encode()) % self.count == self.number - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OldestShare:
    """The ``fraction`` that was verified longest ago."""

    fraction: float


Slice = Share | Part | OldestShare


def parse_slice(text: str) -> Slice:
    """``2%`` or ``3/30``; ``ValueError`` says what is wrong."""
    if found := _SHARE.fullmatch(text.strip()):
        percent = float(found[1])
        if not 0 < percent <= 100:
            raise ValueError(f"expected more than 0% and at most 100%, found {text!r}")
        return OldestShare(fraction=percent / 100)
    if found := _PART.fullmatch(text.strip()):
        number, count = int(found[1]), int(found[2])
        if not 1 <= number <= count <= PARTS_MAX:
            raise ValueError(f"expected a part from 1/n to n/n, n at most {PARTS_MAX}, found {text!r}")
        return Part(number=number, count=count)
    raise ValueError(f"expected a share like 2% or a part like 3/30, found {text!r}")


class Quota:
    """Blocks to take by age: all older than ``before`` (minutes), and ``more`` of exactly that age."""

    def __init__(self, before: int, more: int) -> None:
        self.before = before
        self.more = more

    def takes(self, minutes: int) -> bool:
        """Whether a block last verified at ``minutes`` is taken. Ask about the newest disks first."""
        if minutes < self.before:
            return True
        if minutes > self.before or self.more <= 0:
            return False
        self.more -= 1
        return True


def quota_for(counted: Counter[int], fraction: float) -> Quota:
    """What takes ``fraction`` of the blocks, oldest first and at least one. ``counted``: how many by age."""
    total = counted.total()
    left = min(total, max(1, math.ceil(total * fraction - 1e-9))) if total else 0
    for minutes in sorted(counted):
        if counted[minutes] >= left:
            return Quota(minutes, left)
        left -= counted[minutes]
    return Quota(NEVER, 0)
