"""The pictures that other tests are drawn with say what they seem to."""

from __future__ import annotations

import pytest

from vhd.file import VhdFile
from xotest.pictures import flat_of, flatten, picture_of, write_chain, write_picture


@pytest.mark.parametrize("picture", ["-", "A", "0", "a", "A0C-", "-b0-", "zyxZ"])
def test_a_written_picture_reads_back(picture: str) -> None:
    for backwards in (False, True):
        disk = VhdFile.open(write_picture(picture, backwards=backwards))
        assert picture_of(disk) == picture
        assert flat_of(disk) == flatten([picture])


def test_a_chain_shows_the_youngest_sector() -> None:
    blocks = flatten(["AB--", "-b0-", "C"])
    assert [set(block) for block in blocks] == [{ord("C")}]
    blocks = flatten(["AA-", "-b0B"])
    assert [set(block) for block in blocks] == [{65}, {65, 66}, {0}, {66}]
    members = [VhdFile.open(file) for file in write_chain(["AB--", "-b0-"])]
    assert [picture_of(member) for member in members] == ["AB--", "-b0-"]
    assert members[1].header is not None
    assert members[1].header.parent_uuid == members[0].footer.uuid
    assert members[1].parent_candidates() == ["0.vhd"]
