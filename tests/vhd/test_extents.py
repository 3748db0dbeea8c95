from __future__ import annotations

import pytest

from vhd.bat import Bat
from vhd.extents import Region, check_extents

TAKEN = [
    Region(what="footer's copy", start=0, end=512),
    Region(what="header", start=512, end=1536),
    Region(what="table", start=2048, end=2560),
]
FIRST = 5
STEP = 4097
END = (FIRST + 4 * STEP) * 512


def table(*sectors: int | None) -> Bat:
    bat = Bat.empty(len(sectors))
    for index, sector in enumerate(sectors):
        if sector is not None:
            bat[index] = sector
    return bat


def codes(*sectors: int | None, end: int = END) -> list[str]:
    return [finding.code for finding in check_extents(table(*sectors), taken=TAKEN, end_bytes=end)]


def test_blocks_side_by_side_in_any_order_are_fine() -> None:
    places = [FIRST + n * STEP for n in range(4)]
    assert codes() == codes(None, None) == []
    assert codes(places[2]) == []
    assert codes(*places) == codes(*reversed(places)) == []
    assert codes(places[1], None, places[0], places[3]) == []


def test_a_block_must_end_before_the_footer() -> None:
    assert codes(FIRST + 3 * STEP + 1) == ["block-past-end"]
    assert codes(0xFFFFFFFE) == ["block-past-end"]
    assert codes(FIRST, end=STEP * 512) == ["block-past-end"]


@pytest.mark.parametrize("sector", [0, 1, 2, 3, 4])
def test_a_block_must_not_lie_over_the_structures(sector: int) -> None:
    found = check_extents(table(None, sector), taken=TAKEN, end_bytes=END)
    assert [finding.code for finding in found] == ["block-clobbers-headers"]
    assert "block 1 " in found[0].message


def test_a_block_between_two_structures_is_fine() -> None:
    taken = [*TAKEN, Region(what="far table", start=(FIRST + STEP) * 512, end=(FIRST + STEP + 1) * 512)]
    bat = table(FIRST, FIRST + STEP + 1)
    assert check_extents(bat, taken=taken, end_bytes=END) == []
    bat = table(FIRST + 1)
    assert [finding.code for finding in check_extents(bat, taken=taken, end_bytes=END)] == ["block-clobbers-headers"]


def test_blocks_must_not_share_bytes() -> None:
    assert codes(FIRST, FIRST + STEP - 1) == ["block-overlap"]
    assert codes(FIRST + STEP - 1, FIRST) == ["block-overlap"]
    assert codes(FIRST, FIRST + 2 * STEP, FIRST) == ["block-overlap"]
    found = check_extents(table(None, FIRST, None, FIRST), taken=TAKEN, end_bytes=END)
    assert found[0].message.startswith("blocks 1 and 3 overlap")


def test_a_region_meets_what_shares_a_byte_with_it() -> None:
    region = Region(what="x", start=10, end=20)
    assert region.meets(19, 30)
    assert region.meets(0, 11)
    assert not region.meets(20, 30)
    assert not region.meets(0, 10)


def test_a_full_table_of_2040_gib_is_judged() -> None:
    count = 1_044_480
    bat = Bat.strided(count, STEP)
    first = 9000
    for index in range(3):
        bat[index] = first + (count + index) * STEP  # moved to the end: no longer in file order
    end = (first + (count + 3) * STEP) * 512
    assert check_extents(bat, taken=TAKEN, end_bytes=end) == []
    bat[7] = bat[9] + 1
    assert [finding.code for finding in check_extents(bat, taken=TAKEN, end_bytes=end)] == ["block-overlap"]
