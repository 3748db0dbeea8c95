from __future__ import annotations

import pytest

from vhd.batmap import batmap_offset, check_batmap, read_batmap, set_bits
from vhd.file import VhdFile
from vhd.storage import read_exactly
from xotest.foreign import foreign
from xotest.layouts import QEMU, XEN, lay_out


@pytest.mark.parametrize("name", ["empty-64m.vhd", "child-64m.vhd", "grandchild-64m.vhd", "hidden-66m.vhd"])
def test_vhd_util_s_batmaps(name: str) -> None:
    disk = VhdFile.open(foreign(name))
    assert disk.header is not None
    assert batmap_offset(disk.header) == 2048
    batmap = read_batmap(disk.file, disk.footer, disk.header)
    assert batmap is not None
    assert (batmap.offset, batmap.size_sectors, batmap.end) == (2560, 1, 3072)
    assert (batmap.version, batmap.marker) == (0x00010002, 0)
    assert check_batmap(disk.file, disk.footer, disk.header, disk.bat) == []


def test_a_full_block_has_its_bit() -> None:
    disk = VhdFile.open(lay_out("-AbC-----D", XEN))
    assert disk.header is not None
    batmap = read_batmap(disk.file, disk.footer, disk.header)
    assert batmap is not None
    raw = read_exactly(disk.file, batmap.offset, 512)
    assert set_bits(raw) == [1, 3, 9]
    assert raw[0] == 0b01010000
    assert check_batmap(disk.file, disk.footer, disk.header, disk.bat) == []


def test_only_creator_tap_has_one() -> None:
    file = lay_out("A", QEMU)
    disk = VhdFile.open(file)
    assert disk.header is not None
    assert not disk.has_batmap()
    assert check_batmap(file, disk.footer, disk.header, disk.bat) == []
