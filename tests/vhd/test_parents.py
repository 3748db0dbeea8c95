"""Parents are looked for beside the child only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vhd.errors import ChainError
from vhd.parents import parent_names


def test_folders_are_dropped_and_names_come_once() -> None:
    candidates = ["p.vhd", "./p.vhd", "/var/run/sr-mount/x/p.vhd", ".\\q.vhd", "C:\\vms\\q.vhd", "", "."]
    assert parent_names("child", candidates) == ["p.vhd", "q.vhd"]


@pytest.mark.parametrize(
    "name", ["../p.vhd", "..", "a/../../etc/shadow", "..\\p.vhd", "p\0.vhd", "p\n.vhd", "x" * 256]
)
def test_names_that_climb_or_hide_something_are_refused(name: str) -> None:
    with pytest.raises(ChainError, match="not one of a file beside it"):
        parent_names("child", ["ok.vhd", name])


@given(candidates=st.lists(st.text(max_size=30), max_size=4))
def test_any_text_gives_plain_names_or_an_error(candidates: list[str]) -> None:
    try:
        names = parent_names("child", candidates)
    except ChainError:
        return
    assert all(name not in {"", ".", ".."} and "/" not in name and "\\" not in name for name in names)
