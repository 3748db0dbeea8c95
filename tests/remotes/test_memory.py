"""What a power cut may take, and what it may never take."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotes import errors
from remotes.memory import MemoryRemote
from remotes.memory_content import PAGE_BYTES, Content

PAGE = PAGE_BYTES
seeds = st.integers(0, 2**32)


def survivors(remote: MemoryRemote, count: int = 60) -> list[MemoryRemote]:
    return [remote.survivor(random.Random(seed)) for seed in range(count)]


def test_what_is_durable_by_contract_always_survives() -> None:
    remote = MemoryRemote()
    remote.put("put/object", b"content")
    remote.put("old", b"moved")
    remote.rename("old", "deep/new")
    remote.make_directory("empty")
    remote.put("gone", b"")
    remote.delete("gone")
    with contextlib.closing(remote.create("file")) as file:
        file.write_at(10_000, b"synced")
        file.sync()
    for survivor in survivors(remote):
        assert [entry.name for entry in survivor.list("")] == ["deep", "empty", "file", "put"]
        assert survivor.get("put/object") == b"content"
        assert survivor.get("deep/new") == b"moved"
        assert survivor.get("file") == bytes(10_000) + b"synced"


def test_unsynced_writes_survive_whole_half_or_not_at_all() -> None:
    remote = MemoryRemote()
    remote.put("file", b"o" * 4 * PAGE)
    with contextlib.closing(remote.update("file")) as file:
        file.write_at(0, b"1" * 2 * PAGE)
        file.write_at(PAGE, b"2" * 2 * PAGE)
        file.write_at(6 * PAGE, b"2" * PAGE)
    contents = {survivor.get("file") for survivor in survivors(remote, 200)}
    assert b"o" * 4 * PAGE in contents, "nothing survived"
    assert b"1" * PAGE + b"2" * 2 * PAGE + b"o" * PAGE + bytes(2 * PAGE) + b"2" * PAGE in contents, "all survived"
    assert b"1" * 2 * PAGE + b"o" * 2 * PAGE in contents, "the first of several writes"
    assert any(content[:PAGE] == b"o" * PAGE and b"2" in content for content in contents), "the order is not kept"
    torn = [content[page : page + PAGE] for content in contents for page in range(0, 3 * PAGE, PAGE)]
    assert any(len(set(page)) > 1 for page in torn), "a page may be torn between its sectors"
    assert len({len(content) for content in contents}) > 1, "the size may be the old one"


def test_a_created_name_is_durable_from_its_sync_on() -> None:
    remote = MemoryRemote()
    file = remote.create("file")
    file.write_at(0, b"content")
    found = {tuple(entry.size_bytes for entry in survivor.list("")) for survivor in survivors(remote)}
    assert found == {(), (0,), (7,)}
    file.sync()
    assert {survivor.get("file") for survivor in survivors(remote)} == {b"content"}


def test_a_rename_makes_the_name_durable_but_not_the_content() -> None:
    remote = MemoryRemote()
    remote.put("state", b"old")
    with contextlib.closing(remote.create("next")) as file:
        file.write_at(0, b"new")
    remote.rename("next", "state", replace=True)
    assert {survivor.get("state") for survivor in survivors(remote)} == {b"", bytes(3), b"new"}


def test_after_a_power_cut_the_old_remote_and_its_files_are_dead() -> None:
    remote = MemoryRemote()
    remote.put("object", b"content")
    file = remote.update("object")
    survivor = remote.power_cut(random.Random(0))
    for action in (
        lambda: remote.get("object"),
        lambda: remote.list(""),
        lambda: remote.put("object", b""),
        lambda: file.write_at(0, b"x"),
        file.sync,
        file.size,
    ):
        with pytest.raises(errors.Unavailable, match="power"):
            action()
    file.close()
    assert survivor.get("object") == b"content"


def test_a_snapshot_goes_its_own_way() -> None:
    remote = MemoryRemote()
    remote.put("object", bytes(100 * PAGE))
    file = remote.update("object")
    file.write_at(0, b"before")
    twin = remote.snapshot()
    file.write_at(0, b"AFTER ")
    twin.put("other", b"")
    with contextlib.closing(twin.update("object")) as twin_file:
        twin_file.write_at(50 * PAGE, b"twin")
    assert twin.get("object")[:6] == b"before"
    assert remote.get("object") == b"AFTER ".ljust(100 * PAGE, b"\0")
    assert [entry.name for entry in remote.list("")] == ["object"]
    assert {survivor.get("object")[:6] for survivor in survivors(twin)} == {b"before", bytes(6)}


def test_a_copy_of_whole_pages_shares_them() -> None:
    remote = MemoryRemote()
    content = random.Random(1).randbytes(8 * PAGE)
    remote.put("source", content)
    with contextlib.closing(remote.create("target")) as target, contextlib.closing(remote.open("source")) as source:
        target.copy_range(source, PAGE, 3 * PAGE, 4 * PAGE)
        assert target._file.content._pages[3] is source._file.content._pages[1]
        target.copy_range(target, 3 * PAGE, 4 * PAGE, 2 * PAGE)
    assert (
        remote.get("target")
        == bytes(3 * PAGE) + content[PAGE : 2 * PAGE] + content[PAGE : 3 * PAGE] + (content[4 * PAGE : 5 * PAGE])
    )


def test_a_limited_remote_runs_full_and_says_how_full() -> None:
    remote = MemoryRemote(capacity_bytes=10 * PAGE)
    remote.put("one", bytes(6 * PAGE))
    with pytest.raises(errors.NoSpace):
        remote.put("two", bytes(5 * PAGE))
    with contextlib.closing(remote.update("one")) as file:
        file.write_at(0, b"x" * PAGE)
        file.write_at(1 << 40, b"far")
        with pytest.raises(errors.NoSpace):
            file.write_at(1 << 30, bytes(4 * PAGE))
    usage = remote.usage()
    assert usage
    assert (usage.total_bytes, usage.free_bytes) == (10 * PAGE, 3 * PAGE)
    remote.delete("one")
    remote.put("two", bytes(10 * PAGE))


operations = st.lists(
    st.tuples(st.sampled_from(["write", "truncate", "sync"]), st.integers(0, 5 * PAGE), st.integers(1, 2 * PAGE)),
    max_size=12,
)


@given(operations, seeds)
def test_every_byte_that_survives_was_there_once_since_the_sync(
    program: list[tuple[str, int, int]], seed: int
) -> None:
    content = Content(linked=True)
    plain = bytearray()
    versions = [bytes(plain)]
    for number, (kind, offset, length) in enumerate(program, 1):
        if kind == "write":
            content.write(offset, memoryview(bytes([number]) * length))
            plain = plain.ljust(offset, b"\0")
            plain[offset : offset + length] = bytes([number]) * length
        elif kind == "truncate":
            content.truncate(offset)
            plain = plain[:offset].ljust(offset, b"\0")
        else:
            content.sync()
            versions.clear()
        versions.append(bytes(plain))
    survivor = content.after_power_cut(random.Random(seed))
    assert survivor is not None
    assert survivor.durable
    assert survivor.size in {len(version) for version in versions}
    buffer = bytearray(survivor.size)
    assert survivor.read_into(0, memoryview(buffer)) == survivor.size
    for index, byte in enumerate(buffer):
        allowed = {version[index] if index < len(version) else 0 for version in versions}
        assert byte in allowed | {0}
    current = bytearray(content.size)
    content.read_into(0, memoryview(current))
    assert current == plain, "drawing a survivor must not change what it is drawn from"
