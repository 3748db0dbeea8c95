"""Remembered answers are the storage's own, whatever is changed through the wrapper."""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remotes import errors, faces
from remotes.memory import MemoryRemote
from remotes.remembering import SMALL_BYTES, RememberingRemote

NAMES = ("vm/a", "vm/b", "vm/sub/a", "vm/sub/deep/a", "vm/sub/b", "other/a")
DIRECTORIES = ("vm", "vm/sub", "vm/sub/deep", "other")


class Counting(MemoryRemote):
    """How often each thing was asked for."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.asked: Counter[tuple[str, str]] = Counter()

    def get(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        self.asked["get", name] += 1
        return super().get(name, limit_bytes=limit_bytes)

    def list(self, directory: str) -> list[Any]:
        self.asked["list", directory] += 1
        return super().list(directory)


def remembering(inner: Any) -> RememberingRemote:
    return RememberingRemote(inner, below="vm", remembers=lambda name: not name.endswith("b"))


def outcome(action: Any) -> Any:
    try:
        found = action()
    except errors.RemoteError as error:
        return type(error)
    return sorted((one.name, one.kind, one.size_bytes) for one in found) if isinstance(found, list) else found


def uploaded(remote: Any, name: str, data: bytes) -> None:
    upload = faces.upload(remote, name)
    upload.write(memoryview(data))
    upload.finish()


CHANGES = {
    "put": lambda r, a, _b, d: r.put(a, d),
    "put new": lambda r, a, _b, d: r.put(a, d, replace=False),
    "delete": lambda r, a, _b, _d: r.delete(a, missing_ok=True),
    "rename": lambda r, a, b, _d: r.rename(a, b, replace=True),
    "rename directory": lambda r, _a, _b, _d: r.rename("vm/sub", "vm/moved"),
    "and back": lambda r, _a, _b, _d: r.rename("vm/moved", "vm/sub"),
    "copy": lambda r, a, b, _d: faces.copy(r, a, b),
    "delete many": lambda r, a, b, _d: faces.delete_many(r, [a, b]),
    "delete tree": lambda r, _a, _b, _d: r.delete_tree("vm/sub"),
    "upload": lambda r, a, _b, d: uploaded(r, a, d),
    "touch": lambda r, a, _b, _d: r.touch(a) and None,
    "make directory": lambda r, _a, _b, _d: r.make_directory("vm/sub/deep"),
    "remove directory": lambda r, _a, _b, _d: r.remove_directory("vm/sub/deep"),
}


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(CHANGES)), st.sampled_from(NAMES), st.sampled_from(NAMES), st.binary(max_size=3)
        ),
        max_size=14,
    )
)
def test_it_answers_as_the_storage_does_after_any_changes(changes: list[tuple[str, str, str, bytes]]) -> None:
    plain, wrapped = MemoryRemote(label="plain"), remembering(MemoryRemote(label="wrapped"))
    for remote in (plain, wrapped):
        for directory in DIRECTORIES:
            remote.make_directory(directory)
    for change, first, second, data in changes:
        made = [outcome(partial(CHANGES[change], remote, first, second, data)) for remote in (plain, wrapped)]
        assert made[0] == made[1]
        for name in NAMES:
            assert outcome(partial(plain.get, name)) == outcome(partial(wrapped.get, name))
        for directory in DIRECTORIES:
            assert outcome(partial(plain.list, directory)) == outcome(partial(wrapped.list, directory))


def test_the_same_is_asked_for_once() -> None:
    inner = Counting()
    inner.make_directory("vm")
    inner.put("vm/a", b"1"), inner.put("vm/b", b"2")
    remote = remembering(inner)
    for _ in range(3):
        assert remote.get("vm/a") == b"1" and remote.get("vm/b") == b"2"
        with pytest.raises(errors.NotFound):
            remote.get("vm/absent")
        remote.list("vm"), remote.list("")
    assert inner.asked == {
        ("get", "vm/a"): 1,
        ("get", "vm/b"): 3,
        ("get", "vm/absent"): 1,
        ("list", "vm"): 1,
        ("list", ""): 3,
    }


def test_what_is_given_can_be_changed_without_harm() -> None:
    inner = Counting()
    inner.make_directory("vm")
    inner.put("vm/a", b"1")
    remote = remembering(inner)
    remote.list("vm").clear()
    assert [entry.name for entry in remote.list("vm")] == ["a"]


def test_a_limit_holds_for_what_is_remembered_too() -> None:
    inner = Counting()
    inner.make_directory("vm")
    inner.put("vm/a", b"12345")
    remote = remembering(inner)
    assert remote.get("vm/a") == b"12345"
    assert outcome(lambda: remote.get("vm/a", limit_bytes=3)) == outcome(lambda: inner.get("vm/a", limit_bytes=3))


def test_large_files_are_not_remembered() -> None:
    inner = Counting()
    inner.make_directory("vm")
    inner.put("vm/a", bytes(SMALL_BYTES + 1))
    remote = remembering(inner)
    remote.get("vm/a"), remote.get("vm/a")
    assert inner.asked["get", "vm/a"] == 2


def test_an_answer_that_was_on_its_way_during_a_change_is_not_remembered() -> None:
    inner = Counting()
    inner.make_directory("vm")
    inner.put("vm/a", b"old")
    asked, answer = threading.Event(), threading.Event()
    plain = inner.get

    def slow(name: str, *, limit_bytes: int | None = None) -> bytes:
        found = plain(name, limit_bytes=limit_bytes)
        asked.set()
        assert answer.wait(20)
        return found

    remote = remembering(inner)
    inner.get = slow  # type: ignore[method-assign]
    reader = threading.Thread(target=remote.get, args=("vm/a",))
    reader.start()
    assert asked.wait(20)
    remote.put("vm/a", b"new")
    answer.set()
    reader.join()
    inner.get = plain  # type: ignore[method-assign]
    assert remote.get("vm/a") == b"new"
