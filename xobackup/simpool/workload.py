"""A guest at work: deterministic writes to a running VM's disks, so that every byte at every snapshot is known.

One :meth:`Workload.step` writes to each disk: a few small writes at random sectors, now and then a long sequential
one, zeros over old data, and bytes that are the same as before. The same seed gives the same writes.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xobackup.simpool.content import Seeded, Source, Zeros

if TYPE_CHECKING:
    from types import TracebackType

    from xobackup.simpool.content import Content
    from xobackup.simpool.pool import SimPool

SECTOR_BYTES = 512
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a guest does in one step, per disk."""

    small_writes: int = 4
    small_max_bytes: int = 64 * 1024
    sequential_bytes: int = 3 * MIB
    sequential_every: int = 4
    """A long write in one of so many steps."""
    zero_every: int = 5
    """One of so many small writes is zeros."""
    window_bytes: int | None = None
    """Small writes stay within the first so many bytes; ``None``: the whole disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestWrite:
    """One write."""

    vdi: str
    offset: int
    source: Source


class Workload:
    """The guest of one VM. A context manager that runs it in the background: ``with workload.running(0.05):``."""

    def __init__(self, pool: SimPool, vm: str, seed: int, profile: Profile | None = None) -> None:
        self._pool = pool
        self._vm = vm
        self._profile = profile or Profile()
        self._rng = random.Random(seed)
        self._steps = 0
        self._last: dict[str, GuestWrite] = {}

    def step(self) -> list[GuestWrite]:
        """Write once more to every disk; returns what was written."""
        self._steps += 1
        done: list[GuestWrite] = []
        for vdi in self._pool.vdis_of(self._vm):
            for write in self._plan(vdi):
                self._pool.write_from(write.vdi, write.offset, write.source)
                self._last[vdi] = write
                done.append(write)
        return done

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()

    def _plan(self, vdi: str) -> list[GuestWrite]:
        profile, rng = self._profile, self._rng
        size = self._pool.model.get("VDI", vdi)["virtual_size"]
        window = min(size, profile.window_bytes or size)
        writes = [self._small(vdi, window) for _ in range(profile.small_writes)]
        if vdi in self._last and rng.randrange(3) == 0:
            writes.append(self._last[vdi])  # a program that saves what it had saved before
        if self._steps % profile.sequential_every == 0 and size > profile.sequential_bytes:
            offset = rng.randrange((size - profile.sequential_bytes) // SECTOR_BYTES) * SECTOR_BYTES
            source = Seeded(seed=rng.getrandbits(64), length=profile.sequential_bytes)
            writes.append(GuestWrite(vdi=vdi, offset=offset, source=source))
        return writes

    def _small(self, vdi: str, window: int) -> GuestWrite:
        profile, rng = self._profile, self._rng
        length = rng.randint(1, profile.small_max_bytes // SECTOR_BYTES) * SECTOR_BYTES
        length = min(length, window)
        offset = rng.randrange((window - length) // SECTOR_BYTES + 1) * SECTOR_BYTES
        zeros = rng.randrange(profile.zero_every) == 0
        source = Zeros(length=length) if zeros else Seeded(seed=rng.getrandbits(64), length=length)
        return GuestWrite(vdi=vdi, offset=offset, source=source)

    # -- what a disk (live, snapshot, clone) must hold

    def content(self, vdi: str) -> Content:
        return self._pool.expectations.of(vdi)

    def expected(self, vdi: str) -> str:
        """SHA-256 of the whole disk as it must be."""
        return self.content(vdi).sha256()

    def expected_bytes(self, vdi: str, offset: int, length: int) -> bytes:
        return self.content(vdi).read(offset, length)

    def running(self, pause_s: float) -> Background:
        """Steps in a thread of their own, ``pause_s`` apart, for as long as the context lasts."""
        return Background(self, pause_s)


class Background:
    """A workload that runs while something else happens."""

    def __init__(self, workload: Workload, pause_s: float) -> None:
        self._workload = workload
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="simpool-guest", daemon=True)

    def _work(self) -> None:
        while not self._stop.wait(self._pause_s):
            self._workload.step()

    def __enter__(self) -> Workload:
        self._thread.start()
        return self._workload

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
