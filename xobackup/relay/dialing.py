"""The near end: connections to hosts of a pool that only a relay reaches, as plain sockets.

TLS with the host is the relay's; what comes out of such a socket is what the host said, and nobody but the relay has
seen it on the way. A cut of the line for up to :data:`PATIENCE_S` is not noticed.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from xobackup.relay.errors import LineLost, Refused, RelayError
from xobackup.relay.frames import VERSION, Wire
from xobackup.relay.lines import PAUSE_MAX_S, PAUSE_S, RelayAt, dialled, refusal
from xobackup.relay.pump import SILENCE_S, Attached, Pump
from xobackup.relay.streams import STREAM

if TYPE_CHECKING:
    from xobackup.relay.credentials import Credentials

PATIENCE_S = 60.0
ANSWER_S = 30.0
"""How long a relay may take to reach a host."""


class Dialer:
    """To the hosts of one pool; thread-safe."""

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
        """As for :class:`~xobackup.relay.lines.Lines`."""
        self._find = find
        self._own = own
        self._place = place
        self._stopped = stopped
        self._patience_s = patience_s
        self._silence_s = silence_s
        self._turn = 0

    def dial(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """A connection to that host. Raises ``OSError`` when there is no way, or the relay says no."""
        until_s = time.monotonic() + timeout_s
        while True:
            session = secrets.token_hex(16)  # a line that was lost may have begun one
            try:
                relay, first = self._attached(None, session, host, port, 0)
                break
            except LineLost as error:
                lost: RelayError = error
            except Refused as error:
                if not error.transient:
                    raise ConnectionRefusedError(str(error)) from error
                lost = error
            if time.monotonic() >= until_s or self._stopped():
                raise ConnectionError(str(lost)) from lost
            time.sleep(PAUSE_S)
        near, far = socket.socketpair()
        lines = [first]

        def attach(received: int) -> Attached:
            return lines.pop() if lines else self._again(relay, session, host, port, received)

        pump = Pump(far, attach, silence_s=self._silence_s)
        threading.Thread(target=pump.run, name="led", daemon=True).start()
        return near

    def _again(self, relay: RelayAt, session: str, host: str, port: int, received: int) -> Attached:
        """Another line for a connection that goes on. Raises :class:`LineLost`."""
        until_s, pause_s = time.monotonic() + self._patience_s, PAUSE_S
        while True:
            try:
                return self._attached(relay, session, host, port, received)[1]
            except RelayError as error:
                if isinstance(error, Refused) and not error.transient:
                    raise LineLost(relay.address, str(error)) from error
                if time.monotonic() >= until_s or self._stopped():
                    raise LineLost(relay.address, str(error)) from error
            time.sleep(pause_s)
            pause_s = min(PAUSE_MAX_S, pause_s * 2)

    def _attached(
        self, relay: RelayAt | None, session: str, host: str, port: int, received: int
    ) -> tuple[RelayAt, Attached]:
        """``relay``: the one that has the connection; ``None``: a new one."""
        again = relay is not None
        if relay is None:
            relays = self._find()
            if not relays:
                raise LineLost(self._place, "no relay that leads there lives")
            self._turn += 1
            relay = relays[self._turn % len(relays)]
        sock = dialled(relay, self._own)
        wire = Wire(sock, relay.address)
        try:
            hello = {"relay": VERSION, "channel": STREAM, "place": self._place, "session": session}
            wire.say({**hello, "host": host, "port": port, "received": received, "again": again})
            wire.set_timeout(ANSWER_S)
            answer = wire.words()
            error, theirs = answer.get("error"), answer.get("received")
            if isinstance(error, dict):
                raise refusal(error)
            if not isinstance(theirs, int):
                raise Refused("the relay does not say how far it has got")
            return relay, Attached(sock, theirs)
        except BaseException:
            with suppress(OSError):
                sock.close()
            raise
