"""Aliases: the rules of Xen Orchestra, and that none leads out of its directory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotes.memory import MemoryRemote
from vhd.alias import alias_text, is_alias, read_alias, resolve_alias, write_alias
from vhd.errors import Malformed
from xotest.workspace import RemoteWorkspace


def test_names_of_aliases_are_recognised() -> None:
    assert is_alias("20260101T030000Z.alias.vhd")
    assert not is_alias("20260101T030000Z.vhd")


def test_an_alias_is_written_as_xo_writes_it_and_read_back() -> None:
    store = RemoteWorkspace(MemoryRemote())
    write_alias(store, "a.alias.vhd", "data/a.vhd")
    assert store.get("a.alias.vhd") == b"data/a.vhd"
    assert read_alias(store, "a.alias.vhd") == "data/a.vhd"


def test_the_target_is_relative_to_the_alias() -> None:
    assert resolve_alias("x/y/a.alias.vhd", b"./data/a.vhd") == "x/y/data/a.vhd"
    assert alias_text("x/y/a.alias.vhd", "x/y/data/a.vhd") == b"data/a.vhd"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"data/" + b"a" * 1020 + b".vhd", "alias-long"),
        (b"data/b.alias.vhd", "alias-of-alias"),
        (b"data/b.vhd\n", "alias-target"),
        (b"data/b", "alias-target"),
        (b"", "alias-target"),
        (b"\xff\xfe.vhd", "alias-text"),
        (b"/etc/b.vhd", "alias-outside"),
        (b"../other/b.vhd", "alias-outside"),
        (b"data/../../b.vhd", "alias-outside"),
        (b"data\\..\\b.vhd", "alias-outside"),
        (b"data/\0b.vhd", "alias-target"),
        (b".vhd", "alias-outside"),
    ],
)
def test_what_is_no_proper_target_is_refused(raw: bytes, code: str) -> None:
    with pytest.raises(Malformed, match=code):
        resolve_alias("a.alias.vhd", raw)


@given(
    raw=st.binary(max_size=60) | st.text(alphabet="./\\avhd\0", max_size=20).map(lambda text: text.encode() + b".vhd")
)
def test_any_bytes_give_a_name_inside_or_an_error(raw: bytes) -> None:
    try:
        found = resolve_alias("dir/a.alias.vhd", raw)
    except Malformed:
        return
    assert found.startswith("dir/") and ".." not in found.split("/") and found != "dir/"


def test_writing_an_alias_of_something_outside_is_refused() -> None:
    with pytest.raises(Malformed, match="alias-outside"):
        alias_text("x/a.alias.vhd", "y/a.vhd")
