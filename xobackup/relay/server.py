"""The relay: who is let in, and what he may ask for.

* Nobody comes in without the key of a certificate that the board knows of a worker that lives; asked at every
  connection.
* He gets a place only while a task of his, under way, is led to it through this site; asked at every connection and,
  while it is used, every :data:`RIGHT_S`.
* A place is opened by this worker's own configuration, for reading.
* What it holds in memory is bounded: :data:`LINES_MAX` connections with one piece each.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from remotes.errors import RemoteError
from xobackup.relay.answering import Answering
from xobackup.relay.credentials import Credentials, fingerprint_of, server_context, shown_by
from xobackup.relay.errors import BadFrame, LineLost, Refused, RelayError, error_data
from xobackup.relay.frames import SEND_BUFFER_BYTES, VERSION, Wire
from xobackup.relay.places import Reader, Readers
from xobackup.relay.streams import STREAM, Connect, Streams, no_pools

if TYPE_CHECKING:
    from remotes.contract import Remote

LINES_MAX = 256
HANDSHAKE_S = 15.0
SILENCE_S = 300.0
"""How long a connection may wait for its next question."""
SEND_S = 60.0
"""How long the other side may take nothing."""
RIGHT_S = 10.0
TICK_S = 1.0
SESSION_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A worker that lives. ``certificate``: PEM."""

    worker: str
    certificate: str


class Board(Protocol):
    """What a relay asks the board."""

    def living(self) -> Sequence[Known]:
        """The workers that live. Raises :class:`Refused` while that cannot be known."""
        ...

    def may(self, worker: str, place: str) -> bool:
        """Whether a task that this worker does is led to ``place`` through here. Raises as :meth:`living`."""
        ...


class RelayServer:
    """See the module's head. Listens from the beginning; serves from :meth:`start` on."""

    def __init__(
        self,
        listen: tuple[str, int],
        *,
        own: Credentials,
        board: Board,
        open_place: Callable[[str], Remote],
        connect: Connect = no_pools,
        log: Callable[[str], None] = lambda _told: None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ``OSError`` when nobody can listen there. ``open_place``: by name; raises errors of remotes.
        ``connect``: to a host of a pool, see :class:`~xobackup.relay.streams.Streams`."""
        self._own = own
        self._board = board
        self._log = log
        self._now_s = monotonic_s
        self._readers = Readers(open_place, monotonic_s)
        self._streams = Streams(connect)
        self._wires: set[Wire] = set()
        self._guard = threading.Lock()
        self._places = threading.BoundedSemaphore(LINES_MAX)
        self._stopped = threading.Event()
        self._contexts: dict[frozenset[str], ssl.SSLContext] = {}
        family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
        self._listener = socket.create_server(listen, family=family, backlog=64)
        self._listener.settimeout(TICK_S)
        self._thread = threading.Thread(target=self._accept, name="relay", daemon=True)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def busy(self) -> int:
        """How many readers, and connections to pools, there are."""
        return self._readers.busy + self._streams.busy

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Nobody is served any more."""
        self._stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits there
        self._listener.close()
        with self._guard:
            wires = list(self._wires)
        for wire in wires:
            wire.shut()
        self._streams.close()
        if self._thread.is_alive():
            self._thread.join()
        self._readers.close()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            self._readers.sweep()
            try:
                sock, address = self._listener.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if not self._stopped.is_set():
                    self._log(f"relay: {error}")
                    self._stopped.wait(TICK_S)  # too many files open, for example
                continue
            if not self._places.acquire(blocking=False):
                self._log(f"relay: {address[0]} was sent away, there are {LINES_MAX} connections")
                sock.close()
                continue
            threading.Thread(target=self._serve, args=(sock, str(address[0])), name="relayed", daemon=True).start()

    def _serve(self, sock: socket.socket, peer: str) -> None:
        try:
            sock.settimeout(HANDSHAKE_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            known = {fingerprint: one for one in self._board.living() if (fingerprint := _printed(one))}
            secure = self._context(known).wrap_socket(sock, server_side=True)
            with secure:
                one = known.get(shown_by(secure))
                if one is not None:
                    self._talk(secure, one.worker, peer)
        except (OSError, RelayError) as error:
            self._log(f"relay: {peer}: {error}")
        finally:
            sock.close()
            self._places.release()

    def _context(self, known: dict[str, Known]) -> ssl.SSLContext:
        """The one for those who live now."""
        key = frozenset(known)
        found = self._contexts.get(key)
        if found is None:
            found = server_context(self._own, [one.certificate for one in known.values()])
            self._contexts = {key: found}
        return found

    def _talk(self, sock: ssl.SSLSocket, worker: str, peer: str) -> None:
        wire = Wire(sock, peer)
        with self._guard:
            self._wires.add(wire)
        try:
            if self._stopped.is_set():
                return
            hello = wire.words()
            place, session = hello.get("place"), hello.get("session")
            if hello.get("relay") != VERSION or not isinstance(place, str) or not isinstance(session, str):
                raise Refused(f"expected relay {VERSION} with a place and a session, found {sorted(hello)[:8]}")
            self._require(worker, place)
            if hello.get("channel") == STREAM:
                self._streams.serve(wire, sock, (worker, place, session[:SESSION_MAX]), hello)
                return
            with self._readers.reader(worker, place, session[:SESSION_MAX]) as reader:
                self._answer(wire, reader, worker, place)
        except (Refused, RemoteError) as error:
            self._log(f"relay: worker {worker} at {peer}: {error}")
            wire.say({"error": told_error(error)})
        except BadFrame as error:
            self._log(f"relay: worker {worker} at {peer}: {error}")
        except LineLost:
            pass  # it comes again, or it is done
        finally:
            with self._guard:
                self._wires.discard(wire)
            wire.close()

    def _answer(self, wire: Wire, reader: Reader, worker: str, place: str) -> None:
        answering = Answering(reader)
        wire.say({"relay": VERSION, **answering.greeting()})
        asked_s = self._now_s()
        while True:
            wire.set_timeout(SILENCE_S)
            question = wire.words()
            wire.set_timeout(SEND_S)
            if self._now_s() - asked_s > RIGHT_S:
                with suppress(_Unknown):
                    self._require(worker, place)
                asked_s = self._now_s()
            if question.get("do") == "end":
                self._readers.end(reader)
                wire.say({})
                return
            try:
                answer: dict[str, Any] = answering.answer(question, wire.send_data)
            except (RemoteError, Refused) as error:
                answer = {"error": told_error(error)}
            wire.say(answer)

    def _require(self, worker: str, place: str) -> None:
        """Raise :class:`Refused` unless a task of the worker's is led there through here."""
        try:
            allowed = self._board.may(worker, place)
        except Refused as error:
            raise _Unknown(str(error), transient=True) from error
        if not allowed:
            raise Refused(f"no task of worker {worker} is led to {place} through here")


class _Unknown(Refused):
    """The board cannot be asked: nobody new is let in, whoever is in goes on (who lost his task stops himself)."""


def told_error(error: RemoteError | Refused) -> dict[str, Any]:
    """An answer that is none."""
    if isinstance(error, Refused):
        return {"class": "Refused", "problem": str(error), "transient": error.transient}
    return error_data(error)


def _printed(one: Known) -> str:
    try:
        return fingerprint_of(one.certificate)
    except RelayError:
        return ""
