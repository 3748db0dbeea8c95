"""Requests over kept connections: where an answer ends, what is kept, and what ends too late or never."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xobackup.xapi import exchange
from xobackup.xapi.address import Endpoint
from xobackup.xapi.errors import AnswerTimeout, ConnectionLost, ProtocolError, Unreachable, XapiError
from xobackup.xapi.exchange import Answer, Exchange

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
KEPT = OK + b"content-length: 2\r\n\r\nhi"


class Host:
    """Answers requests with the bytes given, each connection with its list; then it closes, unless it ``holds``."""

    def __init__(self, *connections: list[bytes], holds: bool = False) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._scripts = list(connections)
        self.asked: list[int] = []
        """The connection of each request."""
        self.go_on = threading.Event()
        self.drip_s = 0.0
        self.sent = 0
        self._holds = holds
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for number, script in enumerate(self._scripts):
            sock, _ = self._listener.accept()
            with sock, contextlib.suppress(OSError):  # a client may not want to hear the end of it
                for answer in script:
                    if not self._read(sock):
                        break
                    self.asked.append(number)
                    self._send(sock, answer)
                else:
                    self.go_on.wait(60 if self._holds else 0)

    def _read(self, sock: socket.socket) -> bool:
        raw = b""
        while not raw.endswith(b"\r\n\r\n?"):
            more = sock.recv(4096)
            if not more:
                return False
            raw += more
        return True

    def _send(self, sock: socket.socket, answer: bytes) -> None:
        step = 1 if self.drip_s else len(answer) or 1
        for at in range(0, len(answer), step):
            sock.sendall(answer[at : at + step])
            self.sent += step
            if self.drip_s and self.go_on.wait(self.drip_s):
                return

    @contextmanager
    def exchange(self, *, bytes_max: int = 100) -> Iterator[Exchange]:
        address = Endpoint(secure=False, host="127.0.0.1", port=self._listener.getsockname()[1])
        tls = ssl.create_default_context()
        made = Exchange(address, tls=tls, connect_s=5, answer_bytes_max=bytes_max)
        try:
            yield made
        finally:
            made.close()
            self.go_on.set()
            self._thread.join(10)
            self._listener.close()


def ask(made: Exchange, *, limit_s: float = 5) -> Answer:
    return made.post("/x", {"A": "b"}, b"?", limit_s=limit_s)


@pytest.mark.parametrize(
    ("answer", "body", "kept"),
    [
        (KEPT, b"hi", True),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1;x=y\r\ni\r\n0\r\nt: t\r\n\r\n", b"hi", True),
        (OK + b"content-length: 0\r\n\r\n", b"", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + KEPT, b"hi", True),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nhi", b"hi", True),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", b"hi", False),
        (OK + b"content-length: 2\r\nConnection: close\r\n\r\nhi", b"hi", False),
        (KEPT + b"and what nobody asked for", b"hi", False),
    ],
)
def test_an_answer_ends_where_its_head_says_and_its_connection_serves_again(
    answer: bytes, body: bytes, kept: bool
) -> None:
    host = Host([answer, KEPT]) if kept else Host([answer], [KEPT])
    with host.exchange() as made:
        assert ask(made).body == body
        assert ask(made).body == b"hi"
    assert host.asked == ([0, 0] if kept else [0, 1])


def test_without_a_length_it_ends_with_the_connection() -> None:
    host = Host([OK + b"\r\nhi"], [KEPT])
    with host.exchange() as made:
        assert ask(made) == Answer(status=200, content_type="text/plain", body=b"hi")
        assert ask(made).body == b"hi"


def test_a_connection_that_the_host_closed_meanwhile_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host([KEPT], [KEPT, KEPT], [KEPT])
    with host.exchange() as made:
        ask(made)
        while not made._idle[0][1].wait(5):
            pass  # its goodbye has not come yet
        ask(made)
        monkeypatch.setattr(exchange, "IDLE_S", 0.0)
        ask(made)
    assert host.asked == [0, 1, 2]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (OK + b"content-length: 3\r\n\r\nhi", ConnectionLost),
        (OK + b"transfer-encoding: chunked\r\n\r\n3\r\nhi", ConnectionLost),
        (b"HTTP/1.1 200", ConnectionLost),
        (OK + b"transfer-encoding: chunked\r\n\r\nx\r\nhi", ProtocolError),
        (OK + b"transfer-encoding: chunked\r\n\r\n-1\r\nhi", ProtocolError),
        (OK + b"transfer-encoding: chunked\r\n\r\n" + b"1" * 9000, ProtocolError),
        (OK + b"transfer-encoding: chunked\r\n\r\n65\r\n", ProtocolError),
        (OK + b"content-length: 101\r\n\r\n", ProtocolError),
        (OK + b"content-length: -1\r\n\r\n", ProtocolError),
        (OK + b"\r\n" + b"x" * 101, ProtocolError),
    ],
)
def test_what_is_no_whole_answer_or_too_much_is_an_error(answer: bytes, error: type[XapiError]) -> None:
    host = Host([answer])
    with host.exchange() as made, pytest.raises(error):
        ask(made)


def test_an_answer_that_drips_ends_in_time() -> None:
    host = Host([KEPT])
    host.drip_s = 0.05
    with host.exchange() as made, pytest.raises(AnswerTimeout):
        ask(made, limit_s=0.3)
    assert host.asked == [0] and host.sent < len(KEPT) / 2, "the head counts too"


def test_closing_wakes_who_waits_and_one_too_many_is_told() -> None:
    host = Host([b"HTTP/1.1"], holds=True)
    with host.exchange() as made:
        found: list[BaseException] = []

        def wait() -> None:
            try:
                ask(made, limit_s=60)
            except XapiError as error:
                found.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        while not host.asked:
            pass
        for _ in range(exchange.CONNECTIONS_MAX - 1):
            made._places.acquire()
        with pytest.raises(Unreachable, match="64 connections are busy"):
            ask(made, limit_s=0.01)
        made.close()
        waiting.join(10)
    assert isinstance(found[0], ConnectionLost)


@settings(max_examples=15)
@given(head=st.sampled_from([OK, OK + b"transfer-encoding: chunked\r\n", b""]), rest=st.binary(max_size=60))
def test_any_bytes_are_an_answer_or_our_own_error(head: bytes, rest: bytes) -> None:
    host = Host([head + rest])
    with host.exchange() as made:
        try:
            assert isinstance(ask(made), Answer)
        except XapiError as error:
            assert str(error)
