"""A relay in this process, and readers of it: remotes that are written directly and read through the relay."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from remotes.contract import Remote
from xobackup.relay.credentials import Credentials, make_credentials
from xobackup.relay.errors import Refused
from xobackup.relay.lines import Lines, RelayAt
from xobackup.relay.remote import RelayRemote
from xobackup.relay.server import Known, RelayServer
from xobackup.relay.streams import Connect, no_pools

PLACE = "nas"
READING = {"list", "stat", "get", "open"}


@dataclass
class PaperBoard:
    """``rights``: of workers, to places."""

    known: list[Known] = field(default_factory=list)
    rights: set[tuple[str, str]] = field(default_factory=set)
    away: bool = False

    def living(self) -> Sequence[Known]:
        if self.away:
            raise Refused("the database is away", transient=True)
        return list(self.known)

    def may(self, worker: str, place: str) -> bool:
        if self.away:
            raise Refused("the database is away", transient=True)
        return (worker, place) in self.rights


class NotClosed:
    """A remote that outlives the readers it is opened for."""

    def __init__(self, inner: Remote) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def close(self) -> None:
        """The test goes on with it."""


class Relayed:
    """One relay before the remote ``inner``, and a worker who may read it."""

    def __init__(
        self, inner: Remote, *, log: Callable[[str], None] = lambda _: None, connect: Connect = no_pools
    ) -> None:
        self.connect = connect
        self.inner = inner
        self.reader = make_credentials("reader")
        self.board = PaperBoard()
        self.board.known.append(Known(worker="reader", certificate=self.reader.certificate))
        self.board.rights.add(("reader", PLACE))
        self.opened: list[str] = []
        self.log = log
        self.servers: list[RelayServer] = []
        self._readers: list[RelayRemote] = []
        self.relays: list[RelayAt] = []

    def start(self) -> RelayServer:
        own = make_credentials(f"relay {len(self.servers)}")

        def open_place(name: str) -> Remote:
            self.opened.append(name)
            return NotClosed(self.inner)  # type: ignore[return-value]

        server = RelayServer(
            ("127.0.0.1", 0), own=own, board=self.board, open_place=open_place, log=self.log, connect=self.connect
        )
        server.start()
        self.servers.append(server)
        address = f"127.0.0.1:{server.port}"
        self.relays.append(RelayAt(worker=f"w{len(self.servers)}", address=address, certificate=own.certificate))
        return server

    def lines(self, *, own: Credentials | None = None, place: str = PLACE, **options: Any) -> Lines:
        patience = {"patience_s": 20.0, "silence_s": 10.0, **options}
        return Lines(lambda: list(self.relays), own=own or self.reader, place=place, **patience)

    def remote(self, **options: Any) -> RelayRemote:
        made = RelayRemote(self.lines(**options), url=f"relay:{PLACE}")
        self._readers.append(made)
        return made

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
        for server in self.servers:
            server.close()


@contextlib.contextmanager
def relayed(inner: Remote) -> Iterator[Relayed]:
    made = Relayed(inner)
    made.start()
    try:
        yield made
    finally:
        made.close()


class ReadThrough:
    """``inner``, of which everything that reads goes through a relay."""

    def __init__(self, inner: Remote) -> None:
        self._inner = inner
        self._relayed = Relayed(inner)
        self._relayed.start()
        self._far = self._relayed.remote()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._far if name in READING else self._inner, name)

    def close(self) -> None:
        self._far.close()
        self._relayed.close()
        self._inner.close()


def in_threads(count: int, act: Callable[[int], None]) -> None:
    """``act`` with 0, 1, 2 ... at once; raises what one of them raised."""
    errors: list[BaseException] = []

    def guarded(index: int) -> None:
        try:
            act(index)
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
