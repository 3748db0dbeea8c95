from __future__ import annotations

import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vhd.checksum import checksum
from vhd.errors import Malformed, VhdError
from vhd.findings import Severity
from vhd.header import ENTRIES_MAX, Header, check_header, check_sizes, unpack_header
from vhd.locator import MACX, Locator
from xotest.foreign import NAMES, foreign

XO_HEADER = (
    bytes.fromhex(
        "6378737061727365 ffffffffffffffff 0000000000000600 00010000 00000008 00200000 ffffee27"
        "22222222000040008000000000000030 00000000 00000000".replace(" ", "")
    )
    + "20260104T030000Z.vhd".encode("utf-16-be")
).ljust(1024, b"\0")
"""As Xen Orchestra wrote it (the header of the footer in test_footer)."""


def sealed(raw: bytes) -> bytes:
    return raw[:36] + struct.pack(">I", checksum(raw, 36)) + raw[40:]


def patched(offset: int, data: bytes) -> bytes:
    raw = Header(table_offset=2048, table_entries=32).pack()
    return sealed(raw[:offset] + data + raw[offset + len(data) :])


def test_xen_orchestra_s_bytes() -> None:
    header = unpack_header(XO_HEADER, "xo")
    assert header.pack() == XO_HEADER
    assert header.parent_name == "20260104T030000Z.vhd"
    assert header.parent_uuid == UUID("22222222-0000-4000-8000-000000000030")
    assert header.table_offset == 1536
    assert header.table_entries == 8
    assert check_header(XO_HEADER) == []


@pytest.mark.parametrize("name", [name for name in NAMES if "fixed" not in name])
def test_foreign_headers_pack_to_the_same_bytes(name: str) -> None:
    raw = bytearray(1024)
    foreign(name).read_into(512, memoryview(raw))
    assert unpack_header(bytes(raw), name).pack() == bytes(raw)
    assert check_header(bytes(raw)) == []


def test_vhd_util_s_child_names_its_parent_three_times() -> None:
    raw = bytearray(1024)
    foreign("child-64m.vhd").read_into(512, memoryview(raw))
    header = unpack_header(bytes(raw), "child")
    assert header.parent_name == "empty-64m.vhd"
    assert [locator.code for locator in header.locators if locator.used] == [b"MacX", b"W2ku", b"W2ru"]
    assert [locator.space_bytes for locator in header.locators if locator.used] == [512, 512, 512]


CODES = [
    (0, b"cxspoiled"[:8], "header-cookie", Severity.ERROR),
    (24, b"\0\2\0\0", "header-version", Severity.ERROR),
    (16, bytes(8), "header-table-offset", Severity.ERROR),
    (16, (2049).to_bytes(8, "big"), "header-table-offset", Severity.ERROR),
    (16, b"\xff" * 8, "header-table-offset", Severity.ERROR),
    (32, (1 << 20).to_bytes(4, "big"), "header-block-size", Severity.ERROR),
    (32, bytes(4), "header-block-size", Severity.ERROR),
    (28, b"\xff\xff\xff\xff", "header-table-entries", Severity.ERROR),
    (28, (ENTRIES_MAX + 1).to_bytes(4, "big"), "header-table-entries", Severity.ERROR),
    (8, bytes(8), "header-data-offset", Severity.WARNING),
    (60, b"\1", "header-reserved", Severity.WARNING),
    (1000, b"\1", "header-reserved", Severity.WARNING),
    (64, b"\xd8\x00\x00\x41", "header-parent-name", Severity.WARNING),
]


@pytest.mark.parametrize(("offset", "data", "code", "severity"), CODES)
def test_each_complaint_by_its_name(offset: int, data: bytes, code: str, severity: Severity) -> None:
    raw = patched(offset, data)
    assert [(finding.code, finding.severity) for finding in check_header(raw)] == [(code, severity)]
    if severity is Severity.ERROR:
        with pytest.raises(Malformed, match=code):
            unpack_header(raw, "x")
    else:
        unpack_header(raw, "x")


def test_a_wrong_checksum_and_a_short_header() -> None:
    raw = bytearray(XO_HEADER)
    raw[70] ^= 1
    assert [finding.code for finding in check_header(bytes(raw))] == ["header-checksum"]
    assert [finding.code for finding in check_header(XO_HEADER[:1023])] == ["header-short"]


def test_a_name_ends_at_its_first_zero_whatever_follows() -> None:
    raw = patched(64, "a.vhd\0".encode("utf-16-be") + b"\xd8\x00\x00\x41")
    assert check_header(raw) == []
    assert unpack_header(raw, "x").parent_name == "a.vhd"
    full = patched(64, "x".encode("utf-16-be") * 256)
    assert unpack_header(full, "x").parent_name == "x" * 256


def test_a_name_too_long_for_the_field_is_refused() -> None:
    assert Header(table_offset=2048, table_entries=1, parent_name="x" * 256).pack()
    with pytest.raises(ValueError, match="takes 514 bytes"):
        Header(table_offset=2048, table_entries=1, parent_name="x" * 257).pack()


def test_the_table_must_reach_the_end_of_the_disk() -> None:
    header = Header(table_offset=2048, table_entries=8)
    assert check_sizes(header, 16 << 20) == []
    assert check_sizes(header, 15_000_576) == []
    assert [finding.code for finding in check_sizes(header, (16 << 20) + 512)] == ["header-table-entries"]


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=120)
headers = st.builds(
    Header,
    table_offset=st.integers(1, 1 << 20).map(lambda n: n * 512),
    table_entries=st.integers(0, ENTRIES_MAX),
    parent_uuid=st.uuids(),
    parent_timestamp=st.integers(0, 0xFFFFFFFF),
    parent_name=names,
    locators=st.tuples(
        *[
            st.builds(
                Locator,
                code=st.sampled_from([MACX, b"W2ru", b"junk"]),
                data_space=st.integers(0, 0xFFFFFFFF),
                data_length=st.integers(0, 0xFFFFFFFF),
                data_offset=st.integers(0, (1 << 64) - 1),
            )
        ]
        * 8
    ),
    reserved1=st.integers(0, 0xFFFFFFFF),
    reserved2=st.binary(min_size=256, max_size=256),
)


@given(headers)
def test_pack_and_unpack_are_inverse(header: Header) -> None:
    assert unpack_header(header.pack(), "x") == header


@given(st.binary(max_size=1100) | st.binary(min_size=1016, max_size=1016).map(lambda b: sealed(b"cxsparse" + b)))
def test_any_bytes_give_a_header_or_our_error(raw: bytes) -> None:
    check_header(raw)
    try:
        unpack_header(raw, "x")
    except VhdError:
        return
    assert raw.startswith(b"cxsparse")
