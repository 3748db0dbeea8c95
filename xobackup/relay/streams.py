"""Connections to hosts of a pool, made by a relay for a worker of another site.

The relay ends TLS with the host by its own rules for that pool, and carries the plain bytes inside its own TLS. A
connection is known by the session that began it; when its line is cut it stays for :data:`PATIENCE_S`, and who comes
again with that session goes on with it.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from xobackup.relay.errors import LineLost, Refused
from xobackup.relay.frames import VERSION, Wire
from xobackup.relay.pump import Attached, Pump

PATIENCE_S = 75.0
"""Longer than the other end tries to come again."""
ANSWER_S = 15.0
Connect = Callable[[str, str, int], socket.socket]
STREAM = "stream"
"""The channel, in the first words of a line."""


def no_pools(place: str, host: str, port: int) -> socket.socket:
    """Of a relay that leads to none."""
    raise Refused(f"{place} is not led to from here")


class _Stream:
    """One connection to a host."""

    def __init__(self) -> None:
        self.lines: queue.Queue[tuple[Wire, socket.socket, int, threading.Event]] = queue.Queue()
        self.wire: Wire | None = None
        self.over = threading.Event()
        """The line that is used now is not, any more."""
        self.done = threading.Event()


class Streams:
    """All of a relay's; see the module's head."""

    def __init__(self, connect: Connect) -> None:
        """``connect``: to a host of a pool (its name, host, port), checked; raises :class:`Refused`, ``OSError``."""
        self._connect = connect
        self._streams: dict[tuple[str, str, str], _Stream] = {}
        self._guard = threading.Lock()

    @property
    def busy(self) -> int:
        with self._guard:
            return len(self._streams)

    def serve(self, wire: Wire, sock: socket.socket, key: tuple[str, str, str], hello: Mapping[str, Any]) -> None:
        """One line, until it ends. ``key``: worker, place, session. Raises :class:`Refused`."""
        theirs, host, port = hello.get("received"), hello.get("host"), hello.get("port")
        if not isinstance(theirs, int) or not isinstance(host, str) or not isinstance(port, int):
            raise Refused("expected host, port and received")
        again = hello.get("again") is True
        with self._guard:
            found = self._streams.get(key)
            if found is None and not again:
                self._streams[key] = mine = _Stream()
        if found is None and again:
            raise Refused("that connection is not known here (any more)")
        over = threading.Event()
        if found is not None:
            if not again:
                raise Refused("that connection was begun already")
            found.lines.put((wire, sock, theirs, over))
            before = found.wire
            if before is not None:
                before.shut()  # the other end knows that it is lost
            while not over.wait(1.0) and not found.done.is_set():
                pass
            return
        mine.lines.put((wire, sock, theirs, over))
        self._run(mine, key, host, port)

    def _run(self, stream: _Stream, key: tuple[str, str, str], host: str, port: int) -> None:
        try:
            try:
                local = self._connect(key[1], host, port)
            except OSError as error:
                raise Refused(f"{host}:{port}: {error}") from error
            Pump(local, lambda received: self._next(stream, received)).run()
        finally:
            stream.done.set()
            with self._guard:
                self._streams.pop(key, None)

    def _next(self, stream: _Stream, received: int) -> Attached:
        """The line by which the other end comes (again)."""
        while True:
            stream.over.set()
            try:
                wire, sock, theirs, stream.over = stream.lines.get(timeout=PATIENCE_S)
            except queue.Empty:
                raise LineLost("the other end", "it did not come again") from None
            try:
                wire.set_timeout(ANSWER_S)
                wire.say({"relay": VERSION, "received": received})
            except LineLost:
                continue
            stream.wire = wire
            return Attached(sock, theirs)

    def close(self) -> None:
        with self._guard:
            streams = list(self._streams.values())
        for one in streams:
            if one.wire is not None:
                one.wire.shut()
