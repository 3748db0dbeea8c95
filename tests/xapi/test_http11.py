from __future__ import annotations

import contextlib
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xobackup.xapi.errors import AnswerTimeout, ConnectionLost, ProtocolError, TransportError
from xobackup.xapi.http11 import HEAD_BYTES_MAX, Connection, parse_head


@pytest.fixture
def pair() -> tuple[Connection, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.settimeout(2)
    connection = Connection(ours, "peer")
    yield connection, theirs
    connection.close()
    theirs.close()


Pair = tuple[Connection, socket.socket]


def test_a_head_as_xapi_writes_it_is_read() -> None:
    raw = b"HTTP/1.1 200 OK\r\nConnection: close\r\ntask-id:OpaqueRef:t\r\ncontent-type:application/vhd\r\n\r\n"
    head = parse_head(raw, peer="p")
    assert head.status == 200
    assert head.headers == {"connection": "close", "task-id": "OpaqueRef:t", "content-type": "application/vhd"}


@pytest.mark.parametrize("raw", [b"HTTP/1.0 404 Not Found\r\n\r\n", b"HTTP/1.1 404\n\n"])
def test_old_and_bare_heads_are_read(raw: bytes) -> None:
    assert parse_head(raw, peer="p").status == 404


@given(st.binary(max_size=200))
def test_any_head_parses_or_raises_our_own_error(raw: bytes) -> None:
    try:
        parse_head(raw, peer="p")
    except ProtocolError as error:
        assert str(error)


def test_the_body_begins_where_the_head_ends(pair: Pair) -> None:
    connection, theirs = pair
    theirs.sendall(b"HTTP/1.1 200 OK\r\n\r\nbody")
    theirs.sendall(b"more")
    theirs.close()
    assert connection.read_head().status == 200
    assert connection.peek(2) == b"bo"
    buffer = bytearray(16)
    assert connection.receive_into(memoryview(buffer)) == 8
    assert buffer[:8] == b"bodymore"
    assert connection.ended
    assert connection.receive_into(memoryview(buffer)) == 0


def test_a_head_may_arrive_byte_by_byte(pair: Pair) -> None:
    connection, theirs = pair

    def drip() -> None:
        for byte in b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\nx":
            theirs.send(bytes([byte]))

    thread = threading.Thread(target=drip)
    thread.start()
    assert connection.read_head().headers == {"a": "b"}
    thread.join()
    assert connection.peek(1) == b"x"


def test_a_buffer_is_filled_from_many_pieces(pair: Pair) -> None:
    connection, theirs = pair
    data = bytes(range(256)) * 4096
    thread = threading.Thread(target=theirs.sendall, args=(data,))
    thread.start()
    buffer = bytearray(len(data))
    assert connection.receive_into(memoryview(buffer)) == len(data)
    assert buffer == data
    assert not connection.ended
    thread.join()


def test_peeking_at_a_short_body_gives_what_there_is(pair: Pair) -> None:
    connection, theirs = pair
    theirs.sendall(b"abc")
    theirs.close()
    assert connection.peek(5) == b"abc"
    assert connection.text() == b"abc"


def test_silence_is_a_timeout(pair: Pair) -> None:
    connection, _theirs = pair
    connection.set_timeout(0.05)
    with pytest.raises(AnswerTimeout, match=r"0\.05 s"):
        connection.receive_into(memoryview(bytearray(4)))
    with pytest.raises(AnswerTimeout):
        connection.read_head()


def test_a_peer_that_does_not_take_what_we_send_is_a_timeout(pair: Pair) -> None:
    connection, _theirs = pair
    connection.set_timeout(0.05)
    with pytest.raises(AnswerTimeout):
        connection.send(bytes(64 * 1024 * 1024))


def test_sending_to_a_closed_peer_is_a_lost_connection(pair: Pair) -> None:
    connection, theirs = pair
    theirs.close()
    with pytest.raises(ConnectionLost):
        connection.send(bytes(4 * 1024 * 1024))


def test_an_endless_head_is_refused(pair: Pair) -> None:
    connection, theirs = pair

    def flood() -> None:
        with contextlib.suppress(OSError):
            theirs.sendall(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * (HEAD_BYTES_MAX // 2))

    thread = threading.Thread(target=flood)
    thread.start()
    with pytest.raises(ProtocolError, match="longer"):
        connection.read_head()
    connection.shut()
    thread.join()


def test_a_head_cut_short_is_a_lost_connection(pair: Pair) -> None:
    connection, theirs = pair
    theirs.sendall(b"HTTP/1.1 2")
    theirs.close()
    with pytest.raises(ConnectionLost, match=r"HTTP/1\.1 2"):
        connection.read_head()


def test_another_thread_can_break_a_wait(pair: Pair) -> None:
    connection, _theirs = pair
    timer = threading.Timer(0.05, connection.shut)
    timer.start()
    count = -1
    try:
        count = connection.receive_into(memoryview(bytearray(4)))
    except TransportError:
        count = 0
    timer.join()
    assert count == 0


def test_a_closed_connection_raises_our_own_errors(pair: Pair) -> None:
    connection, _theirs = pair
    connection.close()
    connection.close()
    with pytest.raises(TransportError):
        connection.send(b"x")
    with pytest.raises(TransportError):
        connection.receive_into(memoryview(bytearray(4)))
    connection.shut()
