"""What comes over the line is judged before it is believed."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from xobackup.relay.errors import BadFrame, LineLost
from xobackup.relay.frames import DATA, DATA_MAX, HEADER, PLAIN, WORDS, WORDS_MAX, ZSTD, Wire, expand, parse_header


@given(st.binary(max_size=64))
def test_any_bytes_are_a_header_or_refused(raw: bytes) -> None:
    try:
        header = parse_header(raw)
    except BadFrame:
        return
    assert header.wire_bytes <= header.plain_bytes <= DATA_MAX


@given(st.binary(max_size=4096), st.integers(0, DATA_MAX))
def test_any_bytes_are_expanded_or_refused(raw: bytes, plain_bytes: int) -> None:
    with contextlib.suppress(BadFrame):
        assert len(expand(raw, plain_bytes)) == plain_bytes


@pytest.mark.parametrize("told", [
    (3, PLAIN, 1, 1),
    (DATA, 2, 1, 1),
    (DATA, PLAIN, 2, 1),
    (DATA, PLAIN, 1, 2),
    (DATA, ZSTD, 5, 5),
    (DATA, PLAIN, DATA_MAX + 1, DATA_MAX + 1),
    (WORDS, PLAIN, WORDS_MAX + 1, WORDS_MAX + 1),
    (DATA, ZSTD, 10, 2**32 - 1),
])  # fmt: skip
def test_what_cannot_be_a_frame_is_refused(told: tuple[int, int, int, int]) -> None:
    with pytest.raises(BadFrame):
        parse_header(HEADER.pack(*told))


def test_a_frame_that_says_less_than_it_holds_is_refused() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    with pytest.raises(BadFrame):
        expand(bomb, 1000)
    nameless = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000))
    with pytest.raises(BadFrame):
        expand(nameless, 1000)


@pytest.fixture
def both():
    one, other = socket.socketpair()
    wires = Wire(one, "one"), Wire(other, "other")
    yield wires
    for wire in wires:
        wire.close()


@given(st.lists(st.binary(min_size=1, max_size=5000), max_size=8))
def test_pieces_arrive_as_they_were(pieces: list[bytes]) -> None:
    one, other = socket.socketpair()
    near, far = Wire(one, "near"), Wire(other, "far")

    def send() -> None:
        for piece in pieces:
            near.send_data(memoryview(piece))
        near.say({"end": True})

    thread = threading.Thread(target=send)
    thread.start()
    found = []
    while (header := far.header()).kind == DATA:
        found.append(far.data(header))
    assert far.words(header) == {"end": True} and found == pieces
    thread.join()
    near.close()
    far.close()


def test_an_end_in_the_middle_is_a_lost_line(both: tuple[Wire, Wire]) -> None:
    near, far = both
    near._sock.sendall(HEADER.pack(DATA, PLAIN, 100, 100) + b"half")
    near.close()
    with pytest.raises(LineLost):
        far.data(far.header())


@pytest.mark.parametrize("words", [b"[]", b"{", b"\xff", b"1" * 1000])
def test_words_that_are_none_are_refused(both: tuple[Wire, Wire], words: bytes) -> None:
    near, far = both
    near._sock.sendall(HEADER.pack(WORDS, PLAIN, len(words), len(words)) + words)
    with pytest.raises(BadFrame):
        far.words()


def test_more_than_there_is_room_for_is_refused(both: tuple[Wire, Wire]) -> None:
    near, far = both
    near.send_data(memoryview(bytes(100)))
    with pytest.raises(BadFrame):
        far.data_into(far.header(), memoryview(bytearray(99)))
