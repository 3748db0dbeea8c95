"""A valid name stays inside whatever holds it; everything else is refused with its own error."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotes import names
from remotes.errors import InvalidName

texts = st.text(st.characters() | st.sampled_from("/.\0a"), max_size=300) | st.lists(
    st.sampled_from(["a", "..", ".", "", "b c", "x" * 255, "x" * 256, "\udc80", "\ud800"]), max_size=6
).map("/".join)


@given(texts)
def test_any_text_is_valid_or_refused(text: str) -> None:
    try:
        assert names.validate(text) is text
    except InvalidName as error:
        assert error.name == text
        return
    path = PurePosixPath(text)
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert str(path) == text
    assert all(len(os.fsencode(part)) <= 255 for part in path.parts)
    assert names.join(*names.split(text)) == text


@given(texts)
def test_a_directory_may_also_be_the_root(text: str) -> None:
    assert names.validate_directory("") == ""
    if text:
        try:
            names.validate(text)
        except InvalidName:
            with pytest.raises(InvalidName):
                names.validate_directory(text)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "empty string"),
        ("/a", "leading slash"),
        ("a/", "empty part"),
        ("a//b", "empty part"),
        ("a/../b", r"'\.\.'"),
        (".", r"'\.'"),
        ("a\0", "NUL"),
        ("x" * 256, "255 bytes, found 256"),
        ("/".join(["x" * 200] * 6), "1024 bytes, found 1205"),
        ("\ud800", "UTF-8"),
    ],
)
def test_a_refusal_says_why(name: str, problem: str) -> None:
    with pytest.raises(InvalidName, match=problem):
        names.validate(name)


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=255))
def test_a_temporary_name_is_hidden_valid_and_known(base: str) -> None:
    temporary = names.temporary(base)
    assert names.validate(temporary) == temporary
    assert temporary.startswith(".")
    assert not temporary.endswith((".vhd", ".json"))
    assert names.is_temporary(temporary)
    assert temporary != names.temporary(base)


def test_other_hidden_names_are_nobodys_leftovers() -> None:
    for base in (".20260101T000000Z.vhd.merge.json", "a.tmp", ".a.tmp", ".a.0123456789abcdeg.tmp", ".lock"):
        assert not names.is_temporary(base)


def test_names_that_are_not_text_survive_a_file_system(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    (tmp_path / odd).write_bytes(b"")
    assert names.validate(os.listdir(tmp_path)[0]) == odd
