"""The second judge agrees with what Xen's own tool wrote and says what it says about others; each rule can fire."""

from __future__ import annotations

import struct
import tarfile

import pytest
import zstandard

from xotest import golden
from xotest.damage import patched, with_footer, with_header
from xotest.xo_rules import vhd_util_check, vhd_util_check_chain

TAPDISK = ["empty-64m.vhd", "child-64m.vhd", "grandchild-64m.vhd", "hidden-66m.vhd"]
NOW_S = 1_795_300_000


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    directory = tmp_path_factory.mktemp("foreign")
    with (
        (golden.FIXTURES / "vhd" / "foreign-vhds.tar.zst").open("rb") as packed,
        zstandard.ZstdDecompressor().stream_reader(packed) as plain,
        tarfile.open(fileobj=plain, mode="r|") as archive,
    ):
        archive.extractall(directory, filter="data")
    return next(directory.rglob("empty-64m.vhd")).parent


@pytest.mark.parametrize("name", TAPDISK)
def test_what_vhd_util_made_is_valid(foreign, name):
    assert vhd_util_check(foreign / name, now_s=NOW_S) == []
    assert vhd_util_check_chain(foreign, name, now_s=NOW_S) == []


def test_qemus_geometry_is_too_large(foreign):
    for name in ("qemu-dynamic-64m.vhd", "qemu-fixed-64m.vhd"):
        assert vhd_util_check(foreign / name, now_s=NOW_S) == ["primary footer: geometry too large"]


def test_xen_orchestras_unix_timestamp_lies_in_the_future():
    path = next(golden.pristine("file").root.rglob("*.vhd"))
    assert "primary footer: creation time in future" in vhd_util_check(path, now_s=NOW_S)


def test_xen_orchestras_deltas_have_no_locator():
    root = golden.pristine("file").root
    delta = sorted(root.rglob("*.vhd"))[1]
    sound = with_footer(with_footer(delta.read_bytes(), 24, bytes(4)), 56, struct.pack(">HBB", 481, 4, 17))
    assert vhd_util_check(sound) == []
    assert "could not find parent" in vhd_util_check_chain({"x/a.vhd": sound}, "x/a.vhd")[0]


def test_parents_are_found_beside_the_child(foreign):
    files = {f"d/{name}": (foreign / name).read_bytes() for name in TAPDISK[:3]}
    assert vhd_util_check_chain(files, "d/grandchild-64m.vhd") == []
    without = {name: data for name, data in files.items() if "child-64m" in name}
    assert any("empty-64m.vhd not found" in text for text in vhd_util_check_chain(without, "d/grandchild-64m.vhd"))
    other = files | {"d/empty-64m.vhd": with_footer(files["d/empty-64m.vhd"], 68, b"\x11" * 16)}
    assert any("uuid does not match" in text for text in vhd_util_check_chain(other, "d/child-64m.vhd"))
    loop = files | {"d/empty-64m.vhd": files["d/child-64m.vhd"]}
    assert vhd_util_check_chain(loop, "d/child-64m.vhd")


FOOTER = {
    "invalid cookie": (0, b"x"),
    "reserved feature bit": (8, struct.pack(">I", 1)),
    "extra features": (8, struct.pack(">I", 6)),
    "file version": (12, struct.pack(">I", 0x20000)),
    "in future": (24, struct.pack(">I", 0x7FFFFFFF)),
    "tap creator version": (32, struct.pack(">I", 0x00010004)),
    "geometry": (56, struct.pack(">HBB", 65535, 16, 255)),
    "invalid type": (60, struct.pack(">I", 5)),
    "saved state": (84, b"\2"),
    "hidden state": (85, b"\2"),
    "'reserved' bits": (300, b"\1"),
    "invalid uuid": (68, bytes(16)),
}
HEADER = {
    "invalid cookie": (0, b"x"),
    "invalid data offset": (8, bytes(8)),
    "table offset": (16, struct.pack(">Q", 1537)),
    "header version": (24, struct.pack(">I", 0x20000)),
    "block size": (32, struct.pack(">I", 3 << 20)),
    "reserved bits": (800, b"\1"),
    "parent name": (64, b"\0x"),
    "parent locators": (576, b"W2ru"),
    "parent uuid": (40, b"\1"),
    "parent timestamp": (56, b"\1"),
    "BAT too small": (28, struct.pack(">I", 31)),
}


@pytest.mark.parametrize("complaint", FOOTER)
def test_each_rule_of_the_footer(foreign, complaint):
    raw = (foreign / "empty-64m.vhd").read_bytes()
    found = vhd_util_check(with_footer(raw, *FOOTER[complaint]), now_s=NOW_S)
    assert len(found) >= 1 and complaint in " ".join(found), found


@pytest.mark.parametrize("complaint", HEADER)
def test_each_rule_of_the_header(foreign, complaint):
    raw = (foreign / "empty-64m.vhd").read_bytes()
    found = vhd_util_check(with_header(raw, *HEADER[complaint]), now_s=NOW_S)
    assert complaint in " ".join(found), found


def _dynamic(foreign) -> bytes:
    """qemu's disk with an honest geometry: valid, with blocks."""
    raw = (foreign / "qemu-dynamic-64m.vhd").read_bytes()
    sound = with_footer(raw, 56, struct.pack(">HBB", 963, 8, 17))
    assert vhd_util_check(sound) == []
    return sound


def test_the_rules_of_the_blocks(foreign):
    raw = _dynamic(foreign)
    used = [at for at in range(1536, 1536 + 4 * 32, 4) if raw[at : at + 4] != b"\xff" * 4]
    first, second = used[0], used[1]
    for sector, complaint in ((1, "clobbers headers"), (len(raw) // 512 - 2, "clobbers footer")):
        found = vhd_util_check(patched(raw, first, struct.pack(">I", sector)))
        assert complaint in " ".join(found), found
    assert "overlap" in " ".join(vhd_util_check(patched(raw, second, raw[first : first + 4])))
    assert "do not match" in " ".join(vhd_util_check(raw[:8] + b"\0\0\0\3" + raw[12:]))
    assert "no number of sectors" in " ".join(vhd_util_check(raw[:-512] + b"x" * 100 + raw[-512:]))
    assert vhd_util_check(raw[:400]) == ["file too small"]


def test_the_rules_of_the_batmap(foreign):
    raw = (foreign / "empty-64m.vhd").read_bytes()
    at = raw.index(b"tdbatmap")
    assert "-22" in " ".join(vhd_util_check(patched(raw, at, b"x")))
    assert "batmap" in " ".join(vhd_util_check(patched(raw, at + 20, b"\0\1\0\7")))
    bits = struct.unpack_from(">Q", raw, at + 8)[0]
    assert "marked full" in " ".join(vhd_util_check(patched(raw, bits, b"\x80")))


def test_the_rules_of_the_locators(foreign):
    raw = (foreign / "child-64m.vhd").read_bytes()
    assert "invalid code" in " ".join(vhd_util_check(with_header(raw, 576, b"abcd")))
    assert "duplicate" in " ".join(vhd_util_check(with_header(raw, 576, raw[512 + 600 : 512 + 604])))
    assert "outside" in " ".join(vhd_util_check(with_header(raw, 592, struct.pack(">Q", 1 << 40))))
    assert "the header" in " ".join(vhd_util_check(with_header(raw, 64, "other.vhd\0".encode("utf-16-be"))))
