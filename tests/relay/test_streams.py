"""Connections carried by a relay over a line that has its bad days: neither end notices."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from remotes.memory import MemoryRemote
from xobackup.relay.credentials import make_credentials
from xobackup.relay.dialing import Dialer
from xobackup.relay.errors import Refused
from xobackup.relay.server import Known
from xotest.bad_line import BadLine
from xotest.relayed import Relayed, in_threads

MIB = 1 << 20
POOL = "pool:lyon"


@dataclass
class Host:
    """A host that answers what was sent to it, each byte, until the end; ``reset``: no more."""

    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    came: int = 0
    reset_after: int | None = None

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def serve(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.echo, args=(sock,), daemon=True).start()

    def echo(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while piece := sock.recv(65536):
                self.came += len(piece)
                if self.reset_after is not None and self.came > self.reset_after:
                    return
                sock.sendall(piece)


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    yield made
    with contextlib.suppress(OSError):
        made.listener.shutdown(socket.SHUT_RDWR)
    made.listener.close()
    thread.join()


@pytest.fixture
def relay(host: Host) -> Iterator[Relayed]:
    def connect(place: str, name: str, port: int) -> socket.socket:
        if name != "host1" or port != 443:
            raise Refused(f"{name}:{port} is no host of {place}")
        return socket.create_connection(("127.0.0.1", host.port), timeout=10)

    made = Relayed(MemoryRemote(), connect=connect)
    made.board.rights.add(("reader", POOL))
    made.start()
    yield made
    made.close()


def dialer(relay: Relayed, **options: object) -> Dialer:
    settings = {"patience_s": 20.0, "silence_s": 10.0, **options}
    return Dialer(lambda: list(relay.relays), own=relay.reader, place=POOL, **settings)  # type: ignore[arg-type]


@contextlib.contextmanager
def through(relay: Relayed, **options: object) -> Iterator[BadLine]:
    at = relay.relays[0]
    name, _, port = at.address.rpartition(":")
    with BadLine(name, int(port), **options) as line:  # type: ignore[arg-type]
        relay.relays[0] = replace(at, address=line.address)
        yield line


def exchanged(sock: socket.socket, data: bytes) -> bytes:
    """What comes back when ``data`` is sent."""
    sock.settimeout(30)
    sender = threading.Thread(target=sock.sendall, args=(data,))
    sender.start()
    found = bytearray()
    while len(found) < len(data):
        piece = sock.recv(65536)
        if not piece:
            break
        found += piece
    sender.join()
    return bytes(found)


NOISE = random.Random(3).randbytes(3 * MIB + 77)
TEXT = b"say it again, " * 400_000


@pytest.mark.parametrize("data", [b"x", NOISE, TEXT], ids=["one byte", "noise", "text"])
def test_what_is_sent_arrives_and_comes_back(relay: Relayed, host: Host, data: bytes) -> None:
    with dialer(relay).dial("host1", 443, 10.0) as sock:
        assert exchanged(sock, data) == data
    assert host.came == len(data)


def test_a_host_that_ends_is_an_end(relay: Relayed, host: Host) -> None:
    host.reset_after = 0
    with dialer(relay).dial("host1", 443, 10.0) as sock:
        sock.settimeout(20)
        sock.sendall(b"hello")
        assert sock.recv(10) == b""
        with pytest.raises(OSError):
            for _ in range(1000):
                sock.sendall(bytes(MIB))


def test_an_end_here_ends_the_connection_to_the_host(relay: Relayed) -> None:
    with dialer(relay).dial("host1", 443, 10.0) as sock:
        assert exchanged(sock, b"hello") == b"hello"
        assert relay.servers[0].busy == 1
    for _ in range(200):
        if relay.servers[0].busy == 0:
            break
        threading.Event().wait(0.05)
    assert relay.servers[0].busy == 0


def test_a_line_that_is_cut_again_and_again_is_not_noticed(relay: Relayed, host: Host) -> None:
    with through(relay) as line, dialer(relay).dial("host1", 443, 10.0) as sock:
        line.cut_every(600_000)
        assert exchanged(sock, NOISE) == NOISE
        assert line.cuts >= 4 and host.came == len(NOISE)


def test_a_line_that_is_held_is_given_up_for_another(relay: Relayed, host: Host) -> None:
    with through(relay) as line, dialer(relay, silence_s=0.5).dial("host1", 443, 10.0) as sock:
        assert exchanged(sock, b"before") == b"before"
        line.hold()
        threading.Timer(1.0, line.go_on).start()
        assert exchanged(sock, TEXT) == TEXT
        assert line.connections >= 2 and host.came == len(TEXT) + 6


def test_a_line_that_stays_away_is_an_end(relay: Relayed) -> None:
    with through(relay) as line, dialer(relay, patience_s=0.5).dial("host1", 443, 10.0) as sock:
        assert exchanged(sock, b"before") == b"before"
        line.away = True
        line.cut()
        sock.settimeout(20)
        assert sock.recv(10) == b""


def test_who_sends_faster_than_the_line_waits(relay: Relayed) -> None:
    """Not more than the windows and what the system holds is taken from him."""
    with through(relay) as line, dialer(relay).dial("host1", 443, 10.0) as sock:
        assert exchanged(sock, b"x") == b"x"
        line.hold()
        sock.setblocking(False)
        taken = 0
        with contextlib.suppress(BlockingIOError):
            for _ in range(1000):
                taken += sock.send(NOISE[:65536])
                threading.Event().wait(0.002)
        assert taken < 16 * MIB
        line.go_on()


def test_several_at_once_over_a_bad_line(relay: Relayed) -> None:
    with through(relay) as line:
        line.cut_every(1_500_000)
        way = dialer(relay)

        def talk(index: int) -> None:
            data = random.Random(index).randbytes(700_000)
            with way.dial("host1", 443, 10.0) as sock:
                assert hashlib.sha256(exchanged(sock, data)).digest() == hashlib.sha256(data).digest()

        in_threads(8, talk)


def test_what_is_no_host_of_the_pool_is_refused(relay: Relayed) -> None:
    for name, port in (("127.0.0.1", 22), ("host1", 80)):
        with pytest.raises(ConnectionRefusedError, match="no host of pool:lyon"):
            dialer(relay).dial(name, port, 5.0)


def test_a_pool_that_no_task_is_led_to_is_refused(relay: Relayed) -> None:
    relay.board.rights.clear()
    with pytest.raises(ConnectionRefusedError, match="no task of worker reader"):
        dialer(relay).dial("host1", 443, 5.0)


def test_nobody_goes_on_with_what_another_one_began(relay: Relayed) -> None:
    other = make_credentials("other")
    relay.board.known.append(Known(worker="other", certificate=other.certificate))
    relay.board.rights.add(("other", POOL))
    with dialer(relay).dial("host1", 443, 5.0) as sock:
        assert exchanged(sock, b"mine") == b"mine"
        (key,) = relay.servers[0]._streams._streams
        thief = Dialer(lambda: relay.relays, own=other, place=POOL)
        with pytest.raises(Refused, match="not known here"):
            thief._attached(relay.relays[0], key[2], "host1", 443, 0)
        assert exchanged(sock, b"still") == b"still"


def test_a_relay_that_is_gone_ends_what_it_carried(relay: Relayed) -> None:
    with dialer(relay, patience_s=0.5).dial("host1", 443, 5.0) as sock:
        assert exchanged(sock, b"before") == b"before"
        relay.servers[0].close()
        sock.settimeout(20)
        assert sock.recv(10) == b""
