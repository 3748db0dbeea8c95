from __future__ import annotations

import struct
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vhd.checksum import checksum
from vhd.errors import Malformed, VhdError
from vhd.findings import Severity
from vhd.footer import NO_OFFSET, DiskType, Footer, check_footer, new_footer, unpack_footer
from vhd.geometry import Geometry, xo_geometry
from vhd.timestamps import to_unix
from xotest.foreign import NAMES, foreign

SIZE = 64 << 20
UUID_1 = UUID("22222222-0000-4000-8000-000000000040")
XO_FOOTER = bytes.fromhex(
    "636f6e6563746978 00000002 00010000 0000000000000200 6b00b36d 786f2020 00000000 5769326b"
    "0000000001000000 0000000001000000 01e20411 00000004 fffff608 22222222000040008000000000000040".replace(" ", "")
).ljust(512, b"\0")
"""As Xen Orchestra wrote it (a differencing disk of 16 MiB)."""


def sealed(raw: bytes) -> bytes:
    """``raw`` with the right checksum."""
    return raw[:64] + struct.pack(">I", checksum(raw, 64)) + raw[68:]


def patched(offset: int, data: bytes, raw: bytes | None = None) -> bytes:
    base = good() if raw is None else raw
    return sealed(base[:offset] + data + base[offset + len(data) :])


def good(kind: DiskType = DiskType.DYNAMIC) -> bytes:
    return new_footer(size_bytes=SIZE, disk_type=kind, uuid=UUID_1, timestamp=848_000_000).pack()


def test_xen_orchestra_s_bytes() -> None:
    footer = unpack_footer(XO_FOOTER, "xo")
    assert footer.pack() == XO_FOOTER
    assert footer.creator == b"xo  "
    assert footer.current_size_bytes == footer.original_size_bytes == 16 << 20
    assert footer.geometry == xo_geometry(16 << 20) == (482, 4, 17)
    assert footer.differencing
    assert footer.uuid == UUID_1
    assert to_unix(footer.timestamp, now_unix_s=footer.timestamp + 10) == 0x6B00B36D


def test_xen_orchestra_s_complaints_are_those_of_vhd_util() -> None:
    codes = [finding.code for finding in check_footer(XO_FOOTER, now_vhd_s=850_000_000)]
    assert codes == ["footer-timestamp", "footer-geometry"]


def test_what_we_write() -> None:
    raw = good()
    assert raw[:8] == b"conectix"
    assert struct.unpack_from(">I", raw, 8) == (2,)
    assert struct.unpack_from(">Q", raw, 16) == (512,)
    assert raw[28:40] == b"win \x00\x06\x00\x01Wi2k"
    assert struct.unpack_from(">HBB", raw, 56) == (963, 8, 17)
    assert raw[85] == 0
    assert check_footer(raw, now_vhd_s=848_000_000) == []
    fixed = unpack_footer(good(DiskType.FIXED), "fixed")
    assert fixed.data_offset == NO_OFFSET
    assert not fixed.differencing


@pytest.mark.parametrize("name", NAMES)
def test_foreign_footers_pack_to_the_same_bytes(name: str) -> None:
    file = foreign(name)
    raw = bytearray(512)
    file.read_into(file.size() - 512, memoryview(raw))
    footer = unpack_footer(bytes(raw), name)
    assert footer.pack() == bytes(raw)
    assert footer.hidden == (1 if name.startswith("hidden") else 0)


CODES = [
    (0, b"poison!!", "footer-cookie", Severity.ERROR),
    (12, b"\0\x02\0\0", "footer-version", Severity.ERROR),
    (60, b"\0\0\0\x05", "footer-type", Severity.ERROR),
    (16, (513).to_bytes(8, "big"), "footer-data-offset", Severity.ERROR),
    (16, bytes(8), "footer-data-offset", Severity.ERROR),
    (16, b"\xff" * 8, "footer-data-offset", Severity.ERROR),
    (48, (SIZE + 1).to_bytes(8, "big"), "footer-size", Severity.ERROR),
    (48, b"\x7f" + bytes(7), "footer-size", Severity.ERROR),
    (8, bytes(4), "footer-features", Severity.WARNING),
    (8, b"\0\0\0\x06", "footer-features", Severity.WARNING),
    (24, b"\xff" * 4, "footer-timestamp", Severity.WARNING),
    (28, b"tap\0\0\x01\0\x04", "footer-creator-version", Severity.WARNING),
    (56, b"\xff\xff\x10\xff", "footer-geometry", Severity.WARNING),
    (40, (SIZE * 2).to_bytes(8, "big"), "footer-original-size", Severity.WARNING),
    (84, b"\x02", "footer-saved-state", Severity.WARNING),
    (85, b"\x02", "footer-hidden", Severity.WARNING),
    (300, b"\x01", "footer-reserved", Severity.WARNING),
    (68, bytes(16), "footer-uuid", Severity.WARNING),
]


@pytest.mark.parametrize(("offset", "data", "code", "severity"), CODES)
def test_each_complaint_by_its_name(offset: int, data: bytes, code: str, severity: Severity) -> None:
    raw = patched(offset, data)
    findings = [finding for finding in check_footer(raw, now_vhd_s=848_000_000) if finding.code == code]
    assert [finding.severity for finding in findings] == [severity]
    if severity is Severity.ERROR:
        with pytest.raises(Malformed, match=code):
            unpack_footer(raw, "x")
    else:
        assert [finding.code for finding in check_footer(raw, now_vhd_s=848_000_000)] == [code]
        assert unpack_footer(raw, "x").pack() == raw


def test_temporary_disks_and_saved_ones_are_fine() -> None:
    assert check_footer(patched(8, b"\0\0\0\x03")) == []
    assert check_footer(patched(84, b"\x01\x01")) == []


def test_a_fixed_disk_has_no_header() -> None:
    raw = patched(16, (512).to_bytes(8, "big"), good(DiskType.FIXED))
    assert [finding.code for finding in check_footer(raw)] == ["footer-data-offset"]


def test_a_wrong_checksum_and_a_short_footer() -> None:
    raw = bytearray(good())
    raw[100] ^= 1
    assert [finding.code for finding in check_footer(bytes(raw))] == ["footer-checksum"]
    assert [finding.code for finding in check_footer(good()[:511])] == ["footer-short"]


def test_old_blktap_set_the_hidden_byte_without_the_checksum() -> None:
    tap = patched(28, b"tap\0\0\x01\0\x03")
    raw = tap[:85] + b"\1" + tap[86:]
    assert check_footer(raw) == []
    assert unpack_footer(raw, "x").hidden == 1
    other = good()[:85] + b"\1" + good()[86:]
    assert [finding.code for finding in check_footer(other)] == ["footer-checksum"]


def test_a_resized_footer_takes_a_new_geometry() -> None:
    footer = unpack_footer(good(), "x").with_size(128 << 20)
    assert footer.current_size_bytes == 128 << 20
    assert footer.original_size_bytes == SIZE
    assert check_footer(footer.pack()) == []


footers = st.builds(
    Footer,
    current_size_bytes=st.integers(0, 1 << 20).map(lambda n: n * 512),
    original_size_bytes=st.integers(0, (1 << 64) - 1),
    disk_type=st.sampled_from([DiskType.DYNAMIC, DiskType.DIFFERENCING]),
    uuid=st.uuids(),
    geometry=st.builds(Geometry, st.integers(0, 65535), st.integers(0, 255), st.integers(0, 255)),
    timestamp=st.integers(0, 0xFFFFFFFF),
    creator=st.binary(min_size=4, max_size=4),
    saved_state=st.integers(0, 255),
    hidden=st.integers(0, 255),
    reserved=st.binary(min_size=426, max_size=426),
)


@given(footers)
def test_pack_and_unpack_are_inverse(footer: Footer) -> None:
    assert unpack_footer(footer.pack(), "x") == footer


@given(st.binary(max_size=600) | st.binary(min_size=504, max_size=504).map(lambda b: sealed(b"conectix" + b)))
def test_any_bytes_give_a_footer_or_our_error(raw: bytes) -> None:
    check_footer(raw, now_vhd_s=0)
    try:
        footer = unpack_footer(raw, "x")
    except VhdError:
        return
    assert replace(footer, features=footer.features).pack()[:64] == raw[:64]
