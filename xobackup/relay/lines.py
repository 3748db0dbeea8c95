"""The connections of a reader to a relay: so many at a time, made anew when they are cut, for a while.

A question is asked again over another connection, and of another relay of the site when the first one is gone, until
it was answered or nothing came for :attr:`Lines.patience_s`. The reader learns of it only that it took longer.
"""

from __future__ import annotations

import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from xobackup.relay.addresses import split_address
from xobackup.relay.credentials import Credentials, client_context
from xobackup.relay.errors import BadFrame, LineLost, Refused, RelayError
from xobackup.relay.frames import VERSION, Wire

T = TypeVar("T")

LINES = 8
"""Connections of one reader: a long way wants several pieces under way."""
PATIENCE_S = 60.0
SILENCE_S = 25.0
"""A connection that says nothing for so long is given up."""
CONNECT_S = 10.0
PAUSE_S, PAUSE_MAX_S = 0.1, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayAt:
    """A relay that lives. ``address``: ``host:port``; ``certificate``: PEM."""

    worker: str
    address: str
    certificate: str


class Stopped(RelayError):
    """Whoever reads was asked to stop."""


@dataclass(slots=True)
class Line:
    """One connection, and what the relay said first."""

    wire: Wire
    greeting: dict[str, Any]


class Lines:
    """See the module's head; thread-safe."""

    def __init__(
        self,
        find: Callable[[], Sequence[RelayAt]],
        *,
        own: Credentials,
        place: str,
        stopped: Callable[[], bool] = lambda: False,
        patience_s: float = PATIENCE_S,
        silence_s: float = SILENCE_S,
    ) -> None:
        """``find``: the relays of the site that live now, asked before each connection; may raise
        :class:`RelayError`. ``stopped``: give up at once."""
        self.place = place
        self.patience_s = patience_s
        self.silence_s = silence_s
        self.cuts = 0
        """How many connections were lost."""
        self._find = find
        self._own = own
        self._stopped = stopped
        self._session = secrets.token_hex(16)
        self._room = threading.BoundedSemaphore(LINES)
        self._guard = threading.Lock()
        self._idle: list[Line] = []
        self._busy: set[Wire] = set()
        self._turn = 0
        self._closed = threading.Event()

    def use(self, ask: Callable[[Line, Callable[[], None]], T]) -> T:
        """What ``ask`` makes of a connection; again, over another one, when that is lost. ``ask`` calls what it is
        given whenever something came. Raises :class:`LineLost` when nothing came for too long, :class:`Refused`,
        :class:`BadFrame`, :class:`Stopped`."""
        with self._room:
            heard = _Heard()
            pause_s = PAUSE_S
            while True:
                before_s = heard.at_s
                try:
                    return self._once(ask, heard)
                except LineLost as error:
                    lost: RelayError = error
                except Refused as error:
                    if not error.transient:
                        raise
                    lost = error
                if self._closed.is_set() or self._stopped():
                    raise Stopped("stopped while the relay was waited for")
                waited_s = time.monotonic() - heard.at_s
                if waited_s > self.patience_s:
                    raise LineLost(self.place, f"no answer for {waited_s:.0f} s: {lost}") from lost
                pause_s = PAUSE_S if heard.at_s > before_s else min(PAUSE_MAX_S, pause_s * 2)
                self._closed.wait(pause_s)

    def _once(self, ask: Callable[[Line, Callable[[], None]], T], heard: _Heard) -> T:
        line = self._take()
        kept = False
        try:
            with self._guard:
                self._busy.add(line.wire)
            if self._closed.is_set() or self._stopped():
                raise Stopped("stopped")
            found = ask(line, heard.now)
            kept = True
            return found
        except LineLost:
            self.cuts += 1
            self._drop_idle()  # they went the same way
            raise
        finally:
            self._give_back(line, kept)

    def _drop_idle(self) -> None:
        with self._guard:
            idle, self._idle = self._idle, []
        for line in idle:
            line.wire.close()

    def _take(self) -> Line:
        with self._guard:
            if self._idle:
                return self._idle.pop()
        return self._connected()

    def _give_back(self, line: Line, kept: bool) -> None:
        with self._guard:
            self._busy.discard(line.wire)
            if kept and not self._closed.is_set():
                self._idle.append(line)
                return
        line.wire.close()

    def _connected(self) -> Line:
        relays = self._find()
        if not relays:
            raise LineLost(self.place, "no relay that leads there lives")
        with self._guard:
            self._turn += 1
            relay = relays[self._turn % len(relays)]
        wire = Wire(dialled(relay, self._own), relay.address)
        try:
            wire.say({"relay": VERSION, "place": self.place, "session": self._session})
            greeting = wire.words()
            wire.set_timeout(self.silence_s)
            refused = greeting.get("error")
            if isinstance(refused, dict):
                raise refusal(refused)
            return Line(wire, greeting)
        except BaseException:
            wire.close()
            raise

    def wake(self) -> None:
        """Whoever waits for an answer finds that the connection is lost."""
        with self._guard:
            busy = list(self._busy)
        for wire in busy:
            wire.shut()

    def close(self) -> None:
        """Say goodbye, if that can be done at once."""
        with self._guard:
            idle, self._idle = self._idle, []
            self._closed.set()
        for line in idle[:1]:
            with suppress(RelayError):
                line.wire.set_timeout(1.0)
                line.wire.say({"do": "end"})
                line.wire.words()
        for line in idle:
            line.wire.close()
        self.wake()


def dialled(relay: RelayAt, own: Credentials) -> ssl.SSLSocket:
    """A connection to it, both sides checked. Raises :class:`LineLost`."""
    try:
        plain = socket.create_connection(split_address(relay.address), timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise LineLost(relay.address, f"cannot connect: {error}") from error
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return client_context(own, relay.certificate).wrap_socket(plain)
    except (OSError, ValueError) as error:
        plain.close()
        raise LineLost(relay.address, f"TLS does not come about: {error}") from error


class _Heard:
    """When something came last."""

    def __init__(self) -> None:
        self.at_s = time.monotonic()

    def now(self) -> None:
        self.at_s = time.monotonic()


def refusal(told: dict[str, Any]) -> RelayError:
    """What a relay says instead of letting somebody in."""
    problem = str(told.get("problem") or "it gives no reason")
    if told.get("class") == "Refused":
        return Refused(problem, transient=told.get("transient") is True)
    return NotOpened(told)


class NotOpened(RelayError):
    """The relay could not open the place. ``told``: the remote's error, as it travelled."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        super().__init__(str(told.get("problem") or ""))


__all__ = ["BadFrame", "Line", "LineLost", "Lines", "NotOpened", "Refused", "RelayAt", "Stopped"]
