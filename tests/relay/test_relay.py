"""A remote read through a relay over a line that has its bad days: every byte is the one that was written."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from remotes import errors
from remotes.memory import MemoryRemote
from xobackup.relay.credentials import client_context, make_credentials
from xobackup.relay.frames import DATA, HEADER, PLAIN, VERSION, Wire
from xobackup.relay.lines import LINES, RelayAt
from xobackup.relay.server import Known
from xotest.bad_line import BadLine
from xotest.relayed import PLACE, Relayed, in_threads, relayed

MIB = 1 << 20


@pytest.fixture
def inner() -> MemoryRemote:
    made = MemoryRemote()
    rng = random.Random(7)
    made.put("a/noise", rng.randbytes(5 * MIB + 321))
    made.put("a/text", b"again and again and again, " * 200_000)
    made.put("a/empty", b"")
    return made


@pytest.fixture
def relay(inner: MemoryRemote) -> Iterator[Relayed]:
    with relayed(inner) as made:
        yield made


@contextlib.contextmanager
def through(relay: Relayed, **options: object) -> Iterator[BadLine]:
    """A bad line before the relay."""
    at = relay.relays[0]
    host, _, port = at.address.rpartition(":")
    with BadLine(host, int(port), **options) as line:  # type: ignore[arg-type]
        relay.relays[0] = replace(at, address=line.address)
        yield line


def whole(relay: Relayed, name: str, remote=None, *, piece: int = 2 * MIB) -> bytes:
    remote = remote or relay.remote()
    with contextlib.closing(remote.open(name)) as file:
        found, buffer = bytearray(), bytearray(piece)
        while count := file.read_into(len(found), memoryview(buffer)):
            found += buffer[:count]
        assert file.size() == len(found)
    return bytes(found)


def test_what_is_read_is_what_there_is(relay: Relayed, inner: MemoryRemote) -> None:
    remote = relay.remote()
    for name in ("a/noise", "a/text", "a/empty"):
        assert whole(relay, name, remote) == inner.get(name) == remote.get(name)
        assert remote.stat(name) == inner.stat(name)
    assert remote.list("a") == inner.list("a") and remote.list("") == inner.list("")
    remote.close()
    assert relay.opened == [PLACE], "one reader, over several connections"


def test_a_long_listing_is_whole(relay: Relayed, inner: MemoryRemote) -> None:
    for number in range(2500):
        inner.put(f"many/{'ü' * 60}{number}", b"")
    assert relay.remote().list("many") == inner.list("many")


def test_nothing_is_written_through_it(relay: Relayed) -> None:
    remote = relay.remote()
    for act in (
        lambda: remote.put("a/new", b"x"),
        lambda: remote.delete("a/text"),
        lambda: remote.rename("a/text", "b"),
        lambda: remote.create("a/new"),
        lambda: remote.update("a/text"),
        lambda: remote.make_directory("b"),
        lambda: remote.remove_directory("a"),
        lambda: remote.delete_tree("a"),
        lambda: remote.touch("a/text"),
    ):
        with pytest.raises(errors.ReadOnly):
            act()


def test_errors_arrive_as_what_they_were(relay: Relayed) -> None:
    remote = relay.remote()
    with pytest.raises(errors.NotFound):
        remote.stat("nothing")
    with pytest.raises(errors.NotFound):
        remote.open("nothing")
    with pytest.raises(errors.NotADirectory):
        remote.list("a/text")
    with pytest.raises(errors.TooLarge) as caught:
        remote.get("a/text", limit_bytes=10)
    assert caught.value.limit_bytes == 10 and "relay:nas" in str(caught.value)
    assert remote.get("a/text"), "the connection goes on"


def test_a_range_far_beyond_two_gib(relay: Relayed, inner: MemoryRemote) -> None:
    far = 5 << 30
    with contextlib.closing(inner.create("sparse")) as file:
        file.write_at(far, b"here")
        file.sync()
    with contextlib.closing(relay.remote().open("sparse")) as file:
        buffer = bytearray(100)
        assert file.size() == far + 4
        assert file.read_into(far - 50, memoryview(buffer)) == 54 and buffer[50:54] == b"here"
        assert file.read_into(far + 4, memoryview(buffer)) == 0
        assert file.read_into(0, memoryview(buffer)[:0]) == 0


def test_a_line_that_is_cut_again_and_again(relay: Relayed, inner: MemoryRemote) -> None:
    with through(relay) as line:
        remote = relay.remote()
        with contextlib.closing(remote.open("a/noise")) as file:
            wanted, found, at = inner.get("a/noise"), bytearray(), 0
            while at < len(wanted):
                line.cut_after(random.Random(at).randrange(10, 700_000))
                buffer = bytearray(MIB)
                count = file.read_into(at, memoryview(buffer))
                found += buffer[:count]
                at += count
        assert found == wanted
        assert remote._lines.cuts >= 5 and relay.opened == [PLACE], "the relay kept the file open"
        remote.close()


def test_a_piece_that_was_cut_goes_on_where_it_was(relay: Relayed, inner: MemoryRemote) -> None:
    with through(relay) as line:
        remote = relay.remote()
        with contextlib.closing(remote.open("a/noise")) as file:
            line.cut_after(3 * MIB)
            before, buffer = line.passed, bytearray(5 * MIB)
            assert file.read_into(0, memoryview(buffer)) == 5 * MIB
        assert bytes(buffer) == inner.get("a/noise")[: 5 * MIB]
        assert line.passed - before < 7 * MIB, "what had arrived was not sent again"
        remote.close()


def test_a_line_that_is_held_is_given_up_for_another(relay: Relayed, inner: MemoryRemote) -> None:
    with through(relay) as line:
        remote = relay.remote(silence_s=0.3)
        assert remote.stat("a/text").size_bytes
        line.hold()
        threading.Timer(0.8, line.go_on).start()
        assert whole(relay, "a/text", remote) == inner.get("a/text")
        assert line.connections >= 2
        remote.close()


def test_a_line_that_stays_away_is_told(relay: Relayed) -> None:
    with through(relay) as line:
        remote = relay.remote(patience_s=0.5)
        with contextlib.closing(remote.open("a/text")) as file:
            line.away = True
            line.cut()
            with pytest.raises(errors.Unavailable, match="no answer for") as caught:
                file.read_into(0, memoryview(bytearray(10)))
            assert not caught.value.transient, "it was tried long enough"
        remote.close()


def test_many_readers_over_a_bad_line(relay: Relayed, inner: MemoryRemote) -> None:
    wanted = inner.get("a/noise")
    with through(relay) as line:
        remote = relay.remote()
        with contextlib.closing(remote.open("a/noise")) as file:

            def read(index: int) -> None:
                rng = random.Random(index)
                for _ in range(10):
                    offset, length = rng.randrange(len(wanted)), rng.randrange(600_000)
                    if rng.randrange(4) == 0:
                        line.cut_after(rng.randrange(300_000))
                    buffer = bytearray(length)
                    count = file.read_into(offset, memoryview(buffer))
                    assert bytes(buffer[:count]) == wanted[offset : offset + length]

            in_threads(2 * LINES, read)
        remote.close()


def test_another_relay_of_the_site_takes_over(relay: Relayed, inner: MemoryRemote) -> None:
    remote = relay.remote()
    with contextlib.closing(remote.open("a/noise")) as file:
        buffer = bytearray(MIB)
        file.read_into(0, memoryview(buffer))
        relay.servers[0].close()
        del relay.relays[0]
        relay.start()
        assert file.read_into(MIB, memoryview(buffer)) == MIB
        assert bytes(buffer) == inner.get("a/noise")[MIB : 2 * MIB]
    remote.close()


def test_a_file_that_is_another_one_by_then_is_not_read_on(relay: Relayed, inner: MemoryRemote) -> None:
    remote = relay.remote()
    with contextlib.closing(remote.open("a/text")) as file:
        relay.servers[0].close()
        del relay.relays[0]
        inner.put("a/text", b"merged meanwhile")
        relay.start()
        with pytest.raises(errors.Unavailable, match="it was changed while it was read"):
            file.read_into(0, memoryview(bytearray(10)))
    remote.close()


def test_a_file_that_is_open_stays_the_one_it_was(relay: Relayed, inner: MemoryRemote) -> None:
    was = inner.get("a/text")
    with through(relay) as line:
        remote = relay.remote()
        with contextlib.closing(remote.open("a/text")) as file:
            inner.put("a/text", b"merged meanwhile")
            line.cut()
            buffer = bytearray(100)
            assert file.read_into(5, memoryview(buffer)) == 100 and bytes(buffer) == was[5:105]
        remote.close()


def test_a_stranger_is_not_let_in(relay: Relayed) -> None:
    remote = relay.remote(own=make_credentials("stranger"), patience_s=0.3)
    with pytest.raises(errors.Unavailable, match=r"(?i)alert|closed|EOF"):
        remote.list("")
    assert relay.opened == []


def test_who_pretends_to_be_the_relay_is_not_talked_to(relay: Relayed) -> None:
    real = relay.relays[0]
    relay.relays[0] = replace(real, certificate=make_credentials("relay 0").certificate)
    with pytest.raises(errors.Unavailable, match="TLS does not come about"):
        relay.remote(patience_s=0.3).list("")
    assert relay.opened == []


def test_a_certificate_that_is_new_after_a_restart(relay: Relayed) -> None:
    remote = relay.remote()
    assert remote.list("")
    relay.servers[0].close()
    relay.relays.clear()
    relay.start()
    assert remote.list("")
    renewed = make_credentials("reader")
    with pytest.raises(errors.Unavailable):
        relay.remote(own=renewed, patience_s=0.3).list("")
    relay.board.known[0] = Known(worker="reader", certificate=renewed.certificate)
    assert relay.remote(own=renewed).list("")
    with pytest.raises(errors.Unavailable):
        relay.remote(patience_s=0.3).list("")


def test_a_place_that_no_task_is_led_to(relay: Relayed) -> None:
    with pytest.raises(errors.AccessDenied, match="no task of worker reader is led to secret"):
        relay.remote(place="secret").list("")
    assert relay.opened == []


def test_a_right_that_ended_ends_what_is_connected(inner: MemoryRemote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xobackup.relay.server.RIGHT_S", -1.0)
    with relayed(inner) as relay:
        remote = relay.remote()
        assert remote.list("")
        relay.board.away = True
        assert remote.list(""), "who is in goes on while the database is away"
        relay.board.away = False
        relay.board.rights.clear()
        with pytest.raises(errors.AccessDenied):
            remote.list("")


def test_while_the_database_is_away_who_comes_waits(relay: Relayed) -> None:
    relay.board.away = True

    def back() -> None:
        relay.board.away = False

    threading.Timer(0.5, back).start()
    assert relay.remote().list("")


def test_a_place_that_cannot_be_opened_is_told_as_it_is(inner: MemoryRemote) -> None:
    with relayed(inner) as relay:

        def refuse(name: str) -> MemoryRemote:
            raise errors.KeyRefused("nfs:10.0.0.9:/b", "the key does not fit", hint="another one")

        relay.servers[0]._readers._open_place = refuse  # type: ignore[assignment]
        with pytest.raises(errors.KeyRefused, match="relay:nas: the key does not fit") as caught:
            relay.remote().list("")
        assert caught.value.hint == "another one"


def spoken(relay: Relayed) -> Wire:
    """A connection of one who is let in, and says what he likes."""
    at = relay.relays[0]
    host, _, port = at.address.rpartition(":")
    plain = socket.create_connection((host, int(port)), timeout=10)
    return Wire(client_context(relay.reader, at.certificate).wrap_socket(plain), "relay")


@pytest.mark.parametrize("said", [
    b"GET / HTTP/1.1\r\n\r\n",
    bytes(100),
    HEADER.pack(1, PLAIN, 2**31, 2**31),
    HEADER.pack(DATA, PLAIN, 4, 4) + b"data",
    HEADER.pack(1, PLAIN, 2, 2) + b"[]",
])  # fmt: skip
def test_garbage_ends_the_connection_and_nothing_else(relay: Relayed, said: bytes) -> None:
    wire = spoken(relay)
    wire._sock.sendall(said)
    with contextlib.suppress(OSError, ssl.SSLError):
        assert not wire._sock.recv(1000)
    wire.close()
    assert relay.remote().list("")


@pytest.mark.parametrize("question", [
    {},
    {"do": "write", "name": "a"},
    {"do": "list"},
    {"do": "list", "name": "../.."},
    {"do": "get", "name": 5},
    {"do": "open", "name": "/etc/passwd"},
    {"do": "read", "file": -1, "offset": 0, "count": 1},
    {"do": "read", "file": True, "offset": 0, "count": 1},
    {"do": "read", "file": 1, "offset": 1.5, "count": 1},
    {"do": "stat", "name": "x" * 5000},
])  # fmt: skip
def test_a_question_that_is_none_is_answered_so(relay: Relayed, question: dict[str, object]) -> None:
    wire = spoken(relay)
    wire.say({"relay": VERSION, "place": PLACE, "session": "s"})
    assert "error" not in wire.words()
    wire.say(question)
    assert wire.words().get("error")
    wire.say({"do": "stat", "name": "a/text"})
    assert wire.words()["entry"]["name"] == "a/text"
    wire.close()


def test_another_worker_does_not_get_what_a_reader_has_open(relay: Relayed) -> None:
    other = make_credentials("other")
    relay.board.known.append(Known(worker="other", certificate=other.certificate))
    relay.board.rights.add(("other", PLACE))
    one = relay.remote()
    opened = one.opened("a/text")
    spy = relay.remote(own=other)
    spy._lines._session = one._lines._session
    assert spy.read_into("a/text", opened.number, 0, memoryview(bytearray(10))) is None


def test_a_relay_without_an_address_is_no_way(relay: Relayed) -> None:
    relay.relays[:] = [RelayAt(worker="w", address="nonsense", certificate=relay.relays[0].certificate)]
    with pytest.raises(errors.Unavailable, match="expected host:port"):
        relay.remote(patience_s=0.2).list("")


def test_whoever_is_stopped_does_not_wait(relay: Relayed) -> None:
    with through(relay) as line:
        stopped = threading.Event()
        remote = relay.remote(stopped=stopped.is_set, patience_s=60.0, silence_s=60.0)
        assert remote.list("")
        line.hold()

        def stop() -> None:
            stopped.set()
            remote._lines.wake()

        threading.Timer(0.3, stop).start()
        with pytest.raises(errors.Unavailable, match="stopped"):
            remote.list("")
        line.go_on()
