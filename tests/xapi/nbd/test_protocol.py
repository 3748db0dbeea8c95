from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xobackup.xapi.nbd import protocol
from xobackup.xapi.nbd.protocol import BadBytes, Command, Extent, Option


def extents(*pairs: tuple[int, int], context: int = 7) -> bytes:
    return struct.pack(">I", context) + b"".join(struct.pack(">II", *pair) for pair in pairs)


def test_a_request_is_28_bytes_in_network_order() -> None:
    raw = protocol.pack_request(Command.READ, 0x1122334455667788, 1 << 40, 1 << 21)
    assert raw.hex() == "25609513" + "0000" + "0000" + "1122334455667788" + "0000010000000000" + "00200000"


def test_an_option_is_its_number_length_and_data() -> None:
    assert protocol.pack_option(Option.EXPORT_NAME, b"/x") == b"IHAVEOPT" + b"\0\0\0\1\0\0\0\2/x"
    assert protocol.pack_export_query(b"/x", 3) == b"\0\0\0\2/x\0\1\0\3"
    assert protocol.pack_meta_query(b"/x", b"a:b") == b"\0\0\0\2/x\0\0\0\1\0\0\0\3a:b"


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"HTTP/1.1 400 Bad R", "expected NBD's greeting"),
        (b"NBDMAGIC" + protocol.OLD_STYLE_MAGIC + b"\0\1", "old style"),
        (b"NBDMAGICWHATEVER\0\1", "expected b'IHAVEOPT'"),
        (b"NBDMAGICIHAVEOPT\0\2", "fixed newstyle"),
    ],
)
def test_other_greetings_are_told_apart(raw: bytes, problem: str) -> None:
    with pytest.raises(BadBytes, match=problem):
        protocol.unpack_greeting(raw)


def test_a_greeting_gives_its_flags() -> None:
    assert protocol.unpack_greeting(b"NBDMAGICIHAVEOPT\0\3") == 3


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ((1, 3, 1, 0), "expected a reply to option GO, found"),
        ((protocol.REPLY_MAGIC, 3, 1, 0), "found one to option 3"),
        ((protocol.REPLY_MAGIC, 7, 1, 1 << 20), "expected at most 65536 bytes"),
    ],
)
def test_replies_to_something_else_are_refused(reply: tuple[int, int, int, int], problem: str) -> None:
    with pytest.raises(BadBytes, match=problem):
        protocol.unpack_option_reply(struct.pack(">QIII", *reply), Option.GO)


def test_extents_are_cut_at_the_end_of_what_was_asked_for() -> None:
    found = protocol.unpack_extents(extents((10, 0), (90, 3), (1000, 1)), context=7, offset=100, length=120)
    assert found == [Extent(100, 10, False), Extent(110, 90, True), Extent(200, 20, False)]


def test_a_hole_alone_does_not_promise_zeros() -> None:
    (found,) = protocol.unpack_extents(extents((8, protocol.STATE_HOLE)), context=7, offset=0, length=8)
    assert not found.zero


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (extents(), "found 4 bytes"),
        (extents((1, 0)) + b"x", "found 13 bytes"),
        (extents((1, 0), context=8), "expected extents of context 7"),
        (extents((0, 0)), "without length"),
        (extents((100, 0), (1, 0)), "past the 100 bytes"),
    ],
)
def test_bad_extents_are_refused(payload: bytes, problem: str) -> None:
    with pytest.raises(BadBytes, match=problem):
        protocol.unpack_extents(payload, context=7, offset=0, length=100)


@given(st.binary(max_size=100))
def test_any_extents_are_inside_and_in_order_or_refused(payload: bytes) -> None:
    context = int.from_bytes(payload[:4], "big")
    try:
        found = protocol.unpack_extents(payload, context=context, offset=50, length=1000)
    except BadBytes:
        return
    at = 50
    for extent in found:
        assert extent.offset == at and extent.length > 0
        at += extent.length
    assert at <= 1050


def test_errors_have_names_and_some_can_pass() -> None:
    assert protocol.errno_name(5) == "EIO" and protocol.errno_name(999) == "error 999"
    assert protocol.errno_passes(5) and protocol.errno_passes(12) and not protocol.errno_passes(22)
