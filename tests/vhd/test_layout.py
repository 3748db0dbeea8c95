from __future__ import annotations

from uuid import UUID

import pytest

from vhd.layout import (
    ParentLink,
    align,
    blocks_of,
    first_slot_offset,
    locator_sector,
    new_header,
    streamed_size_bytes,
)
from vhd.locator import W2RU

LINK = ParentLink(name="20260104T030000Z.vhd", uuid=UUID(int=7), timestamp=9)


def test_the_first_slot_follows_the_table_on_4_kib() -> None:
    assert first_slot_offset(1) == 4096
    assert first_slot_offset(512) == 4096
    assert first_slot_offset(513) == 8192
    assert first_slot_offset(1_044_480) == 4_182_016
    assert align(4096) == 4096


def test_blocks_are_rounded_up() -> None:
    assert [blocks_of(size) for size in (0, 1, 2 << 20, (2 << 20) + 1)] == [0, 1, 1, 2]


def test_xen_orchestra_s_size() -> None:
    assert streamed_size_bytes(8, 5) == 512 + 1024 + 512 + 512 + 5 * (2_097_152 + 512)


def test_the_header_of_a_child_names_its_parent_twice() -> None:
    header = new_header(8, LINK)
    assert header.parent_name == LINK.name
    assert header.parent_uuid == LINK.uuid
    assert header.parent_timestamp == 9
    assert [locator.code for locator in header.locators if locator.used] == [W2RU]
    sector = locator_sector(LINK)
    assert len(sector) == 512
    assert sector[: header.locators[0].data_length].decode("utf-16-le") == ".\\20260104T030000Z.vhd"
    assert header.locators[0].data_offset == 1536
    assert locator_sector(None) == bytes(512)
    assert not any(locator.used for locator in new_header(8, None).locators)


def test_a_name_that_does_not_fit_the_locator_is_refused() -> None:
    new_header(1, ParentLink(name="x" * 254, uuid=UUID(int=1)))
    with pytest.raises(ValueError, match="as a locator"):
        new_header(1, ParentLink(name="x" * 255, uuid=UUID(int=1)))
