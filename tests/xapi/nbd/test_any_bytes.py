"""Whatever a peer sends, and wherever it stops: only :class:`NbdError`, never a hang, never a wrong answer."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xobackup.clock import SystemClock
from xobackup.xapi.nbd import protocol
from xobackup.xapi.nbd.connection import NbdConnection, Query, Read, Request
from xobackup.xapi.nbd.errors import NbdError, NbdProtocolError, NbdReadFailed
from xobackup.xapi.nbd.options import NbdOptions
from xobackup.xapi.nbd.protocol import Command, Kind
from xobackup.xapi.nbd.target import NbdTarget
from xobackup.xapi.nbd.wire import Wire
from xotest.nbd_servers import QUICK

SIZE = 1 << 20
GREETING = b"NBDMAGICIHAVEOPT" + struct.pack(">H", 1)
EXPORT = struct.pack(">QH", SIZE, 3) + bytes(124)
PLAIN = replace(QUICK, allocation=False, idle_s=2.0, attach_s=2.0)
TARGET = NbdTarget(address="127.0.0.1", export_name="/disk?session_id=OpaqueRef:s")


def option(number: int, kind: int, data: bytes = b"") -> bytes:
    return struct.pack(">QIII", protocol.REPLY_MAGIC, number, kind, len(data)) + data


def info(kind: int, *values: bytes) -> bytes:
    return struct.pack(">H", kind) + b"".join(values)


STRUCTURED = (
    GREETING
    + option(8, 1)
    + option(10, 4, struct.pack(">I", 9) + protocol.ALLOCATION)
    + option(10, 1)
    + option(7, 3, info(0, struct.pack(">QH", SIZE, 3)))
    + option(7, 3, info(3, struct.pack(">III", 1, 4096, 1 << 25)))
    + option(7, 1)
)
SHAKE = GREETING + EXPORT
"""What XAPI's server says up to the transmission phase."""


def simple(cookie: int, data: bytes = b"", error: int = 0) -> bytes:
    return struct.pack(">IIQ", 0x67446698, error, cookie) + data


def chunk(cookie: int, kind: int, payload: bytes = b"", *, done: bool = True) -> bytes:
    return struct.pack(">IHHQI", 0x668E33EF, int(done), kind, cookie, len(payload)) + payload


def data_at(offset: int, data: bytes) -> bytes:
    return struct.pack(">Q", offset) + data


@contextlib.contextmanager
def peer(said: bytes) -> Iterator[Wire]:
    """A connection whose other side has said this and nothing more, and takes whatever we say."""
    ours, theirs = socket.socketpair()
    ours.settimeout(2.0)

    def say() -> None:
        with contextlib.suppress(OSError):
            theirs.sendall(said)
            theirs.shutdown(socket.SHUT_WR)
            while theirs.recv(65536):
                pass

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    wire = Wire(ours, "peer", clock=SystemClock())
    try:
        yield wire
    finally:
        wire.close()
        theirs.close()
        thread.join(5)


def ask(said: bytes, *requests: Request, options: NbdOptions = PLAIN) -> list[Request]:
    """Shake hands, ask, and take the answers to all; raises :class:`NbdError` only."""
    with peer(said) as wire:
        connection = NbdConnection(wire, TARGET, options=options, clock=SystemClock())
        connection.submit(requests)
        return [connection.next_done() for _ in requests]


def read(length: int = 16, offset: int = 0) -> Read:
    return Read(offset, memoryview(bytearray(length)))


STRUCTURED_OPTIONS = replace(PLAIN, allocation=True)


def test_simple_replies_in_any_order() -> None:
    first, second = read(4), read(4, 100)
    found = ask(SHAKE + simple(2, b"2222") + simple(1, b"1111"), first, second)
    assert found == [second, first]
    assert bytes(first.view) == b"1111" and bytes(second.view) == b"2222"


def test_a_structured_answer_in_parts_with_a_hole() -> None:
    one = read(12, 1000)
    one.view[:] = b"x" * 12
    said = (
        STRUCTURED
        + chunk(1, Kind.OFFSET_DATA, data_at(1008, b"late"), done=False)
        + chunk(1, Kind.OFFSET_HOLE, struct.pack(">QI", 1004, 4), done=False)
        + chunk(1, Kind.OFFSET_DATA, data_at(1000, b"soon"), done=False)
        + chunk(1, Kind.NONE)
    )
    ask(said, one, options=STRUCTURED_OPTIONS)
    assert bytes(one.view) == b"soon\0\0\0\0late" and not one.zero


def test_a_hole_is_known_to_be_zeros() -> None:
    one = read(8, 8)
    ask(STRUCTURED + chunk(1, Kind.OFFSET_HOLE, struct.pack(">QI", 8, 8)), one, options=STRUCTURED_OPTIONS)
    assert one.zero and bytes(one.view) == bytes(8)


def test_extents_answer_a_query() -> None:
    query = Query(4096, 8192)
    payload = struct.pack(">IIIII", 9, 4096, 3, 4096, 0)
    ask(STRUCTURED + chunk(1, Kind.BLOCK_STATUS, payload), query, options=STRUCTURED_OPTIONS)
    assert [(extent.offset, extent.zero) for extent in query.extents] == [(4096, True), (8192, False)]


@pytest.mark.parametrize("kind", [Kind.ERROR, Kind.ERROR_OFFSET, 0x80FF])
def test_an_error_chunk_ends_one_request_and_not_the_connection(kind: int) -> None:
    bad, good = read(4), read(4)
    payload = struct.pack(">IH", 5, 3) + b"bad" + (bytes(8) if kind == Kind.ERROR_OFFSET else b"")
    said = STRUCTURED + chunk(1, kind, payload) + chunk(2, Kind.OFFSET_DATA, data_at(0, b"good"))
    ask(said, bad, good, options=STRUCTURED_OPTIONS)
    assert isinstance(bad.failure, NbdReadFailed) and bad.failure.errno_name == "EIO" and "bad" in str(bad.failure)
    assert good.failure is None and bytes(good.view) == b"good"


def test_an_error_after_some_data_counts() -> None:
    one = read(8)
    said = STRUCTURED + chunk(1, Kind.OFFSET_DATA, data_at(0, b"half"), done=False)
    ask(said + chunk(1, Kind.ERROR, struct.pack(">IH", 12, 0)), one, options=STRUCTURED_OPTIONS)
    assert one.failure is not None and one.failure.transient


WRONG = {
    "not a reply": b"\0" * 20,
    "unknown cookie": chunk(9, Kind.NONE),
    "unknown kind": chunk(1, 3, bytes(8)),
    "outside, before": chunk(1, Kind.OFFSET_DATA, data_at(99, b"x" * 16)),
    "outside, after": chunk(1, Kind.OFFSET_DATA, data_at(101, b"x" * 16)),
    "too long": chunk(1, Kind.OFFSET_DATA, data_at(100, b"x" * 17)),
    "no data": chunk(1, Kind.OFFSET_DATA, bytes(8)),
    "data without an end of its offset": chunk(1, Kind.OFFSET_DATA, bytes(3)),
    "twice": chunk(1, Kind.OFFSET_DATA, data_at(100, b"x" * 16), done=False)
    + chunk(1, Kind.OFFSET_DATA, data_at(108, b"x" * 8)),
    "too little": chunk(1, Kind.OFFSET_DATA, data_at(100, b"x" * 8)),
    "nothing": chunk(1, Kind.NONE),
    "endless": chunk(1, Kind.NONE, done=False),
    "empty chunk with data": chunk(1, Kind.NONE, b"x"),
    "hole of another length": chunk(1, Kind.OFFSET_HOLE, bytes(11)),
    "empty hole": chunk(1, Kind.OFFSET_HOLE, struct.pack(">QI", 100, 0)),
    "extents for a read": chunk(1, Kind.BLOCK_STATUS, bytes(12)),
    "error without number": chunk(1, Kind.ERROR, struct.pack(">IH", 0, 0)),
    "error with a longer text": chunk(1, Kind.ERROR, struct.pack(">IH", 5, 9)),
    "error too short": chunk(1, Kind.ERROR, b"x"),
    "error too long": struct.pack(">IHHQI", 0x668E33EF, 1, Kind.ERROR, 1, 1 << 30),
    "simple after chunks": chunk(1, Kind.OFFSET_DATA, data_at(100, b"x" * 8), done=False) + simple(1, b"x" * 16),
}


@pytest.mark.parametrize("said", WRONG.values(), ids=WRONG.keys())
def test_wrong_answers_to_a_read_are_told(said: bytes) -> None:
    with pytest.raises(NbdProtocolError):
        ask(STRUCTURED + said, read(16, 100), options=STRUCTURED_OPTIONS)


@pytest.mark.parametrize(
    "said",
    [
        chunk(1, Kind.NONE),
        chunk(1, Kind.BLOCK_STATUS, struct.pack(">III", 8, 1, 0)),
        chunk(1, Kind.BLOCK_STATUS, struct.pack(">III", 9, 1, 0), done=False)
        + chunk(1, Kind.BLOCK_STATUS, struct.pack(">III", 9, 1, 0)),
        chunk(1, Kind.OFFSET_DATA, data_at(0, b"x" * 16)),
        simple(1),
        struct.pack(">IHHQI", 0x668E33EF, 1, Kind.BLOCK_STATUS, 1, 1 << 31),
    ],
)
def test_wrong_answers_to_a_query_are_told(said: bytes) -> None:
    with pytest.raises(NbdProtocolError):
        ask(STRUCTURED + said, Query(0, 4096), options=STRUCTURED_OPTIONS)


def test_chunks_are_not_taken_from_who_did_not_offer_them() -> None:
    with pytest.raises(NbdProtocolError, match="expected a reply"):
        ask(SHAKE + chunk(1, Kind.OFFSET_DATA, data_at(0, b"x" * 16)), read())


GOOD: dict[str, tuple[bytes, Callable[[], list[Request]], NbdOptions]] = {
    "simple": (SHAKE + simple(1, b"x" * 16) + simple(2, error=5), lambda: [read(), read()], PLAIN),
    "structured": (
        STRUCTURED
        + chunk(1, Kind.OFFSET_DATA, data_at(0, b"x" * 8), done=False)
        + chunk(1, Kind.OFFSET_HOLE, struct.pack(">QI", 8, 8))
        + chunk(2, Kind.BLOCK_STATUS, struct.pack(">III", 9, 4096, 3))
        + chunk(3, Kind.ERROR, struct.pack(">IH", 5, 2) + b"no"),
        lambda: [read(), Query(0, 4096), read()],
        STRUCTURED_OPTIONS,
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_cut_off_anywhere_it_is_an_nbd_error(name: str) -> None:
    said, requests, options = GOOD[name]
    assert len(ask(said, *requests(), options=options)) == len(requests())
    for end in range(len(said)):
        with pytest.raises(NbdError):
            ask(said[:end], *requests(), options=options)


@given(data=st.data(), name=st.sampled_from(sorted(GOOD)))
@settings(max_examples=150)
def test_changed_anywhere_it_is_an_answer_or_an_nbd_error(data: st.DataObject, name: str) -> None:
    said, requests, options = GOOD[name]
    raw = bytearray(said)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(NbdError):
        ask(bytes(raw), *requests(), options=options)


@given(st.sampled_from([b"", GREETING, SHAKE, STRUCTURED]), st.binary(max_size=300))
@settings(max_examples=150)
def test_any_bytes_are_an_answer_or_an_nbd_error(start: bytes, noise: bytes) -> None:
    options = STRUCTURED_OPTIONS if start == STRUCTURED else PLAIN
    with contextlib.suppress(NbdError):
        ask(start + noise, read(), Query(0, 512) if start == STRUCTURED else read(), options=options)


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        (option(8, 1 << 31 | 5), "requires TLS"),
        (option(8, 1) + option(10, 1) + option(7, 1 << 31 | 6, b"no export"), r"no such export \(no export\)"),
        (option(8, 1) + option(10, 1) + option(7, 1 << 31 | 5), "requires TLS"),
        (option(8, 1) + option(10, 1) + option(7, 1), "expected the export's size"),
        (option(8, 1) + option(10, 1) + option(7, 3, info(3, struct.pack(">III", 1, 1, 7))) + option(7, 1), "size"),
        (option(8, 2) * 65, "expected at most 64 replies"),
    ],
)
def test_a_refusal_says_why(answers: bytes, problem: str) -> None:
    with pytest.raises(NbdError, match=problem):
        ask(GREETING + answers, options=STRUCTURED_OPTIONS)


def test_a_refusal_does_not_quote_the_session() -> None:
    quoted = b"export '" + TARGET.name_bytes + b"' not present"
    answers = option(8, 1) + option(10, 1) + option(7, 1 << 31 | 6, quoted)
    with pytest.raises(NbdError) as caught:
        ask(GREETING + answers, options=STRUCTURED_OPTIONS)
    assert "OpaqueRef" not in str(caught.value) and "not present" in str(caught.value)
    assert "OpaqueRef" not in repr(TARGET)


def test_a_server_without_go_is_asked_by_name() -> None:
    said = GREETING + option(8, 1) + option(10, 1 << 31 | 1) + option(7, 1 << 31 | 1) + EXPORT
    one = read(4)
    ask(said + chunk(1, Kind.OFFSET_DATA, data_at(0, b"data")), one, options=STRUCTURED_OPTIONS)
    assert bytes(one.view) == b"data"


def test_no_zeroes_are_read_where_none_were_agreed_on() -> None:
    greeting = b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3)
    one = read(4)
    ask(greeting + EXPORT[:10] + simple(1, b"data"), one)
    assert bytes(one.view) == b"data"


def test_a_block_size_limits_what_is_asked_for() -> None:
    with peer(STRUCTURED.replace(struct.pack(">III", 1, 4096, 1 << 25), struct.pack(">III", 1, 4096, 65536))) as wire:
        connection = NbdConnection(wire, TARGET, options=STRUCTURED_OPTIONS, clock=SystemClock())
        assert connection.request_bytes == 65536 and connection.export.allocation == 9
        assert connection.export.read_only


def test_commands_have_the_numbers_of_the_protocol() -> None:
    assert (Command.READ, Command.DISC, Command.BLOCK_STATUS) == (0, 2, 7)
