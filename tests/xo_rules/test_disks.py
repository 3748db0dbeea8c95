"""Every check Xen Orchestra makes when it opens a disk, one wrong field at a time."""

from __future__ import annotations

import json
import struct

import brotli
import pytest

from xotest.damage import copy_of, patched, with_footer, with_header
from xotest.xo_rules import Broken, MappingTree, open_disk

DISK = (
    "xo-vm-backups/aaaaaaaa-0000-4000-8000-000000000001/vdis/bbbbbbbb-0000-4000-8000-000000000001/"
    "11111111-0000-4000-8000-000000000001"
)
CHILD = f"{DISK}/20260105T030000Z.vhd"
ALIAS = f"{DISK}/20260105T030000Z.alias.vhd"
DATA = f"{DISK}/data/20260105T030000Z.vhd"


def opened(vhd: bytes, **options):
    return open_disk(MappingTree({"d/x.vhd": vhd}), "d/x.vhd", **options)


def test_the_fields_of_a_real_disk():
    disk = open_disk(MappingTree(copy_of("file")), CHILD)
    assert disk.uuid == "22222222-0000-4000-8000-000000000040"
    assert disk.parent_uuid == "22222222-0000-4000-8000-000000000030"
    assert disk.parent_path == f"{DISK}/20260104T030000Z.vhd"
    assert (disk.size, disk.entries, disk.differencing, disk.is_directory) == (16 << 20, 8, True, False)


def test_a_disk_behind_an_alias():
    disk = open_disk(MappingTree(copy_of("directory")), ALIAS)
    assert (disk.data_path, disk.compression, disk.is_directory) == (DATA, "brotli", True)
    assert disk.sectors and disk.uuid == "22222222-0000-4000-8000-000000000040"


FOOTERS = {
    "cookie": (0, b"conectiX"),
    "version": (12, struct.pack(">I", 0x00020000)),
    "header at": (16, struct.pack(">Q", 1024)),
    "original size": (40, struct.pack(">Q", 32 << 20)),
    "disk type 2": (60, struct.pack(">I", 2)),
    "disk type 0": (60, struct.pack(">I", 0)),
    "uuid": (68, b"\xff" * 16),
    "table entries": (48, struct.pack(">Q", (16 << 20) + 512)),
}
HEADERS = {
    "cookie": (0, b"cxsparsE"),
    "data offset": (8, bytes(8)),
    "table entries": (28, struct.pack(">I", 7)),
    "block size": (32, struct.pack(">I", 3 << 20)),
    "uuid": (40, b"\x11" * 16),
}


@pytest.mark.parametrize("reason", FOOTERS)
def test_a_wrong_footer_breaks_the_disk(reason):
    with pytest.raises(Broken, match=reason):
        opened(with_footer(copy_of("file")[CHILD], *FOOTERS[reason]))


@pytest.mark.parametrize("reason", HEADERS)
def test_a_wrong_header_breaks_the_disk(reason):
    with pytest.raises(Broken, match=reason):
        opened(with_header(copy_of("file")[CHILD], *HEADERS[reason]))


@pytest.mark.parametrize(("offset", "reason"), [(100, "footer checksum"), (512 + 700, "header checksum")])
def test_a_flipped_bit_is_caught_by_the_checksums(offset, reason):
    raw = copy_of("file")[CHILD]
    with pytest.raises(Broken, match=reason):
        opened(patched(raw, offset, bytes([raw[offset] ^ 4])))


def test_the_footers_must_agree_unless_a_merge_is_on():
    raw = copy_of("file")[CHILD]
    torn = raw[:-512] + bytes(512)
    with pytest.raises(Broken, match="at the end"):
        opened(torn)
    assert opened(torn, force=True).uuid == opened(raw).uuid


def test_a_larger_table_than_needed_is_fine():
    raw = copy_of("file")[CHILD]
    assert opened(with_header(raw, 28, struct.pack(">I", 100))).entries == 100


def test_a_file_cut_inside_its_table():
    raw = copy_of("file")[CHILD]
    with pytest.raises(Broken, match="cut short"):
        opened(raw[:1540], force=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"data/nowhere.vhd", "missing"),
        (b"20260104T030000Z.alias.vhd", "another alias"),
        (b"data/20260105T030000Z", "no .vhd"),
        (b"x" * 1021 + b".vhd", "longer than"),
    ],
)
def test_what_an_alias_may_not_be(text, reason):
    with pytest.raises(Broken, match=reason):
        open_disk(MappingTree(copy_of("directory") | {ALIAS: text}), ALIAS)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("footer", b"rubbish", "decompressed"),
        ("header", None, "no header"),
        ("bat", None, "no bat"),
        ("chunk-filters.json", b'["lzma"]', "unknown chunk filter"),
        ("chunk-filters.json", b"[", "no JSON"),
    ],
)
def test_damage_inside_a_vhd_directory(name, data, reason):
    tree = copy_of("directory")
    if data is None:
        del tree[f"{DATA}/{name}"]
    else:
        tree[f"{DATA}/{name}"] = data
    with pytest.raises(Broken, match=reason):
        open_disk(MappingTree(tree), ALIAS)


@pytest.mark.parametrize("filters", [None, b"[]"])
def test_an_uncompressed_vhd_directory(filters):
    tree = copy_of("directory")
    for name in ("footer", "header", "bat"):
        tree[f"{DATA}/{name}"] = brotli.decompress(tree[f"{DATA}/{name}"])
    if filters is None:
        del tree[f"{DATA}/chunk-filters.json"]
    else:
        tree[f"{DATA}/chunk-filters.json"] = filters
    assert open_disk(MappingTree(tree), ALIAS).compression is None


def test_the_size_it_reports_is_the_streams():
    for name in ("file", "directory"):
        tree = copy_of(name)
        point = json.loads(tree[f"{DISK[:50]}/20260105T030000Z.json"])
        total = sum(
            open_disk(MappingTree(tree), f"{DISK[:50]}/{path}").stream_size for path in point["vhds"].values()
        )
        assert total == point["size"]
