"""Promises about names and whole objects."""

from __future__ import annotations

import array
from functools import partial

from remotes import errors, names
from remotes.conformance.suite import Scratch, expect, expect_bytes, expect_raises, promises
from remotes.contract import Kind

BAD_NAMES = ("", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\0b", "x" * 256, "é" * 128)
GOOD_NAMES = (
    "é ü 漢字 🐙",
    " leading",
    "trailing ",
    "quo'te\"s",
    "a\\b",
    "-dash",
    "~",
    "%2F",
    "...",
    ".dot",
    "n" * 255,
)
LISTED = 120


def names_that_lead_out_are_refused(scratch: Scratch) -> None:
    remote = scratch.remote
    for name in BAD_NAMES:
        expect_raises(errors.InvalidName, partial(remote.put, name, b""), f"put {name!r}")
        expect_raises(errors.InvalidName, partial(remote.get, name), f"get {name!r}")
        expect_raises(errors.InvalidName, partial(remote.delete_tree, name), f"delete_tree {name!r}")
    expect_raises(errors.InvalidName, lambda: remote.list("../"), "list '../'")
    expect_raises(errors.InvalidName, lambda: remote.rename("..", scratch.name("x")), "rename '..'")


def unusual_names_come_back_as_they_were(scratch: Scratch) -> None:
    remote = scratch.remote
    for name in GOOD_NAMES:
        remote.put(scratch.name(name), name.encode())
    found = [entry.name for entry in scratch.listed()]
    expect(found == sorted(GOOD_NAMES), f"expected {sorted(GOOD_NAMES)}, listed {found}")
    for name in GOOD_NAMES:
        expect_bytes(name.encode(), remote.get(scratch.name(name)), f"get {name!r}")
        remote.delete(scratch.name(name))
    expect(not scratch.listed(), "deleted names are still listed")


def what_was_put_is_got(scratch: Scratch) -> None:
    remote = scratch.remote
    for length in (0, 1, 4095, 4096, 4097, (3 << 20) + 1):
        content = (b"0123456789abcdef" * (length // 16 + 1))[:length]
        for form in (content, bytearray(content), memoryview(content)):
            remote.put(scratch.name("deep/er/object"), form)
            expect_bytes(content, remote.get(scratch.name("deep/er/object")), f"{length} bytes")
    words = array.array("I", range(1000))
    remote.put(scratch.name("words"), memoryview(words))
    expect_bytes(words.tobytes(), remote.get(scratch.name("words")), "a memoryview of words")


def put_replaces_only_when_asked(scratch: Scratch) -> None:
    remote, name = scratch.remote, scratch.name("object")
    remote.put(name, b"first", replace=False)
    expect_raises(errors.AlreadyExists, lambda: remote.put(name, b"second", replace=False), "put of an existing name")
    expect_bytes(b"first", remote.get(name), "after a refused put")
    remote.put(name, b"third")
    expect_bytes(b"third", remote.get(name), "after a replacing put")
    found = [entry.name for entry in scratch.listed()]
    expect(found == ["object"], f"expected only the object, listed {found}")


def get_honours_its_limit(scratch: Scratch) -> None:
    remote, name = scratch.remote, scratch.name("object")
    remote.put(name, bytes(1000))
    expect(len(remote.get(name, limit_bytes=1000)) == 1000, "an object of exactly the limit was cut")
    expect_raises(errors.TooLarge, lambda: remote.get(name, limit_bytes=999), "get above the limit")


def stat_and_list_agree(scratch: Scratch) -> None:
    remote = scratch.remote
    remote.put(scratch.name("object"), bytes(12345))
    scratch.make_directory("sub")
    entries = {entry.name: entry for entry in scratch.listed()}
    expect(list(entries) == ["object", "sub"], f"expected object and sub, listed {list(entries)}")
    for base, kind, size in (("object", Kind.FILE, 12345), ("sub", Kind.DIRECTORY, 0)):
        found = remote.stat(scratch.name(base))
        expect(found.name == scratch.name(base), f"stat of {base} calls it {found.name}")
        for entry in (found, entries[base]):
            expect((entry.kind, entry.size_bytes) == (kind, size), f"expected {kind} of {size} bytes, found {entry}")
        expect(abs(found.modified_s - entries[base].modified_s) < 1, f"two times: {found}, {entries[base]}")


def what_is_missing_is_not_found(scratch: Scratch) -> None:
    remote = scratch.remote
    for base in ("missing", "missing/deeper"):
        name = scratch.name(base)
        actions = (remote.get, remote.stat, remote.open, remote.update, remote.list, remote.delete, remote.touch)
        for action in (*actions, remote.remove_directory):
            expect_raises(errors.NotFound, partial(action, name), f"{action.__name__} {base}")
        remote.delete(name, missing_ok=True)
        remote.delete_tree(name)
        expect_raises(errors.NotFound, partial(remote.rename, name, f"{name}x"), f"rename {base}")


def a_listing_is_complete(scratch: Scratch) -> str:
    remote = scratch.remote
    wanted = sorted(f"{number:04d}.object" for number in range(LISTED))
    for base in wanted:
        remote.put(scratch.name(base), base.encode())
    found = [entry.name for entry in scratch.listed()]
    expect(found == wanted, f"expected {LISTED} names, listed {len(found)}")
    parent, base = names.split(scratch.directory)
    expect(
        base in [entry.name for entry in remote.list(parent)], "the directory is missing from its parent's listing"
    )
    return f"{LISTED} names"


def a_file_is_renamed(scratch: Scratch) -> None:
    remote = scratch.remote
    one, two, three = (scratch.name(base) for base in ("one", "two", "new/three"))
    remote.put(one, b"one")
    remote.put(two, b"two")
    expect_raises(errors.AlreadyExists, lambda: remote.rename(one, two), "rename onto an existing name")
    expect_bytes(b"one", remote.get(one), "after a refused rename")
    expect_bytes(b"two", remote.get(two), "after a refused rename")
    remote.rename(one, two, replace=True)
    expect_bytes(b"one", remote.get(two), "after a replacing rename")
    expect_raises(errors.NotFound, lambda: remote.get(one), "the old name after a rename")
    remote.rename(two, three)
    expect_bytes(b"one", remote.get(three), "after a rename into a new directory")
    found = [entry.name for entry in scratch.listed()]
    expect(found == ["new"], f"expected only the new directory, listed {found}")


PROMISES = promises(
    names_that_lead_out_are_refused,
    unusual_names_come_back_as_they_were,
    what_was_put_is_got,
    put_replaces_only_when_asked,
    get_honours_its_limit,
    stat_and_list_agree,
    what_is_missing_is_not_found,
    a_listing_is_complete,
    a_file_is_renamed,
)
