"""Which server to connect to, and connecting: each time with a name for the export that is valid now."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from xobackup.clock import Clock
from xobackup.xapi.errors import XapiError
from xobackup.xapi.nbd.connection import NbdConnection
from xobackup.xapi.nbd.errors import NbdNotOffered, NbdSizeMismatch
from xobackup.xapi.nbd.options import NbdOptions
from xobackup.xapi.nbd.target import NbdTarget, TargetSource
from xobackup.xapi.nbd.wire import Wire

LOOK_S = 0.2
"""How often whoever waits looks whether it should stop."""


class Servers:
    """Which server to connect to: the one with the fewest failures, then the fewest connections of ours."""

    def __init__(self, source: TargetSource) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._failures: Counter[str] = Counter()
        self._open: Counter[str] = Counter()

    def choose(self) -> NbdTarget:
        """A target with a name that is valid now, counted as connected until :meth:`left`."""
        targets = self._source()
        if not targets:
            raise NbdNotOffered("pool", "no server any more")
        with self._lock:
            best = min(targets, key=lambda target: (self._failures[target.server], self._open[target.server]))
            self._open[best.server] += 1
            return best

    def left(self, target: NbdTarget, *, failed: bool) -> None:
        with self._lock:
            self._open[target.server] -= 1
            self._failures[target.server] += failed

    def works(self, target: NbdTarget) -> None:
        """It has answered: what was before is forgiven."""
        with self._lock:
            self._failures[target.server] = 0


class Connector:
    """Makes connections to one disk, and checks that they lead to all of it."""

    def __init__(self, servers: Servers, *, options: NbdOptions, clock: Clock, size_bytes: int | None = None) -> None:
        self.servers = servers
        self.options = options
        self.clock = clock
        self.size_bytes = size_bytes

    def connect(self, target: NbdTarget, watch: Callable[[Wire], None]) -> NbdConnection:
        """One attempt; ``watch`` is given the wire as soon as there is one, so that somebody can break it."""
        options = self.options
        wire = Wire.connect(target, connect_s=options.connect_s, clock=self.clock)
        try:
            watch(wire)
            connection = NbdConnection(wire, target, options=options, clock=self.clock)
            found = connection.export.size_bytes
            if self.size_bytes is not None and found < self.size_bytes:
                raise NbdSizeMismatch(wire.server, expected_bytes=self.size_bytes, found_bytes=found)
        except BaseException:
            wire.close()
            raise
        return connection

    def first(self, watch: Callable[[Wire], None], stopped: Callable[[], bool]) -> tuple[NbdTarget, NbdConnection]:
        """A connection and its server, with bounded attempts."""
        tries = 0
        while True:
            target = None
            try:
                target = self.servers.choose()
                return target, self.connect(target, watch)
            except XapiError as error:
                tries += 1
                if target is not None:
                    self.servers.left(target, failed=True)
                if not error.transient or tries >= self.options.reconnect_tries or stopped():
                    raise
            self.pause(stopped)

    def pause(self, stopped: Callable[[], bool]) -> None:
        """Between two attempts; looks now and then whether it should end."""
        end = self.clock.monotonic_s() + self.options.reconnect_pause_s
        while not stopped() and (left := end - self.clock.monotonic_s()) > 0:
            self.clock.sleep(min(left, LOOK_S))
