"""How far a verb is: thread-safe counters that faces read while it works.

A :class:`Meter` follows one transfer (a disk, a merge, a verification); :class:`Progress` is all of a verb's meters.
Rates are averages over the last ``WINDOW_S`` seconds. The *bottleneck* is the side of the pump that was busy the
larger part of the time while the other one waited for it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from xobackup.clock import Clock

WINDOW_S = 10.0
SAMPLES_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A meter at one instant. ``total_bytes`` and ``eta_s`` are ``None`` when unknown."""

    name: str
    stage: str
    done_bytes: int
    total_bytes: int | None
    rate_bytes_s: float
    eta_s: float | None
    bottleneck: str
    elapsed_s: float
    finished: bool
    note: str = ""
    """What it waits for."""


class Meter:
    """Counters of one piece of work; any thread may add to it."""

    def __init__(self, name: str, clock: Clock, *, total_bytes: int | None = None, stage: str = "") -> None:
        self.name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._total = total_bytes
        self._stage = stage
        self._done = 0
        self._busy_s: dict[str, float] = {}
        self._note = ""
        self._start_s = clock.monotonic_s()
        self._end_s: float | None = None
        self._samples: deque[tuple[float, int]] = deque([(self._start_s, 0)], maxlen=SAMPLES_MAX)

    def begin(self, stage: str, *, total_bytes: int | None = None) -> None:
        """Enter a stage; with a total the byte counter starts again."""
        with self._lock:
            self._stage = stage
            self._total = total_bytes
            self._done = 0
            self._samples.clear()
            self._samples.append((self._clock.monotonic_s(), 0))

    def add(self, size_bytes: int) -> None:
        """Count bytes that are done."""
        with self._lock:
            self._done += size_bytes
            now = self._clock.monotonic_s()
            if now - self._samples[-1][0] >= WINDOW_S / SAMPLES_MAX:
                self._samples.append((now, self._done))

    def note(self, text: str) -> None:
        """Say what it waits for; ``""`` when it goes on."""
        with self._lock:
            self._note = text

    def busy(self, side: str, seconds: float) -> None:
        """Note that ``side`` worked for so long (sides: ``source``, the names of sinks, ``throttle``)."""
        with self._lock:
            self._busy_s[side] = self._busy_s.get(side, 0.0) + seconds

    def end(self) -> None:
        """No more work here; the clock stops."""
        with self._lock:
            self._end_s = self._end_s if self._end_s is not None else self._clock.monotonic_s()

    def snapshot(self) -> Snapshot:
        """The meter now."""
        with self._lock:
            now = self._end_s if self._end_s is not None else self._clock.monotonic_s()
            rate = self._rate(now)
            left = None if self._total is None else max(0, self._total - self._done)
            return Snapshot(
                name=self.name,
                stage=self._stage,
                done_bytes=self._done,
                total_bytes=self._total,
                rate_bytes_s=rate,
                eta_s=left / rate if left is not None and rate > 0 else None,
                bottleneck=max(self._busy_s, key=lambda side: self._busy_s[side], default=""),
                elapsed_s=now - self._start_s,
                finished=self._end_s is not None,
                note=self._note,
            )

    def _rate(self, now: float) -> float:
        while len(self._samples) > 2 and self._samples[1][0] < now - WINDOW_S:
            self._samples.popleft()
        since, done_then = self._samples[0]
        return (self._done - done_then) / (now - since) if now > since else 0.0


class Progress:
    """All meters of a verb, and a callback for faces that want to be told rather than to ask."""

    def __init__(self, clock: Clock, *, changed: Callable[[], None] | None = None) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._meters: list[Meter] = []
        self._changed = changed or (lambda: None)

    def meter(self, name: str, *, total_bytes: int | None = None, stage: str = "") -> Meter:
        """A new meter, listed from now on."""
        meter = Meter(name, self._clock, total_bytes=total_bytes, stage=stage)
        with self._lock:
            self._meters.append(meter)
        self._changed()
        return meter

    def drop(self, meter: Meter) -> None:
        """Stop listing a meter, so that a long run does not collect them."""
        meter.end()
        with self._lock:
            if meter in self._meters:
                self._meters.remove(meter)
        self._changed()

    def snapshots(self) -> list[Snapshot]:
        """All listed meters now, oldest first."""
        with self._lock:
            meters = list(self._meters)
        return [meter.snapshot() for meter in meters]
