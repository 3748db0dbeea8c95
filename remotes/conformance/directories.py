"""Promises about directories, the locks made of them, and time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from remotes import errors
from remotes.conformance.suite import Scratch, Skipped, expect, expect_bytes, expect_raises, promises

SKEW_MAX_S = 5.0
"""A lock counts as stale after 10 s by the clock of whoever looks at it, and is refreshed every 5 s."""


def directories_are_made_and_removed(scratch: Scratch) -> None:
    remote = scratch.remote
    if not remote.capabilities.hierarchical:
        raise Skipped("this remote has no directories of its own")
    deep = scratch.name("a/b/c")
    remote.make_directory(deep)
    remote.make_directory(deep)
    expect_raises(errors.AlreadyExists, lambda: remote.make_directory(deep, exist_ok=False), "exclusive directory")
    expect(remote.list(deep) == [], "a new directory is not empty")
    expect_raises(errors.DirectoryNotEmpty, lambda: remote.remove_directory(scratch.name("a")), "remove a full one")
    remote.remove_directory(deep)
    expect_raises(errors.NotFound, lambda: remote.list(deep), "list a removed directory")


def files_and_directories_are_told_apart(scratch: Scratch) -> None:
    remote = scratch.remote
    if not remote.capabilities.hierarchical:
        raise Skipped("this remote has no directories of its own")
    file, directory = scratch.name("file"), scratch.name("directory")
    remote.put(file, b"content")
    remote.make_directory(directory)
    file_actions: tuple[Callable[[str], object], ...] = (remote.get, remote.open, remote.update, remote.delete)
    for action in file_actions:
        expect_raises(errors.IsADirectory, partial(action, directory), f"{_called(action)} a directory")
    expect_raises(errors.IsADirectory, lambda: remote.put(directory, b""), "put onto a directory")
    expect_raises(errors.AlreadyExists, lambda: remote.put(directory, b"", replace=False), "put onto a directory")
    expect_raises(
        errors.IsADirectory, lambda: remote.rename(file, directory, replace=True), "rename onto a directory"
    )
    directory_actions: tuple[Callable[[str], object], ...] = (
        *(remote.list, remote.remove_directory),
        *(remote.delete_tree, remote.make_directory),
    )
    for action in directory_actions:
        expect_raises(errors.NotADirectory, partial(action, file), f"{_called(action)} a file")
    below = f"{file}/below"
    expect_raises(errors.NotADirectory, lambda: remote.put(below, b""), "put below a file")
    expect_raises(errors.NotADirectory, lambda: remote.get(below), "get below a file")
    expect_bytes(b"content", remote.get(file), "after all that")


def a_directory_is_renamed_with_its_content(scratch: Scratch) -> None:
    remote = scratch.remote
    if not remote.capabilities.hierarchical:
        raise Skipped("this remote has no directories of its own")
    old, new, other = (scratch.name(base) for base in ("old", "deep/new", "other"))
    remote.put(f"{old}/sub/object", b"content")
    remote.make_directory(other)
    for replace in (False, True):
        expect_raises(
            errors.AlreadyExists,
            partial(remote.rename, old, other, replace=replace),
            "rename onto an empty directory",
        )
    expect_raises(errors.InvalidName, lambda: remote.rename(old, f"{old}/sub/x"), "rename into itself")
    remote.rename(old, new)
    expect_bytes(b"content", remote.get(f"{new}/sub/object"), "after the rename")
    expect_raises(errors.NotFound, lambda: remote.list(old), "the old name")


def a_tree_is_deleted_and_nothing_beside_it(scratch: Scratch) -> None:
    remote = scratch.remote
    for base in ("tree/a/b/one", "tree/two", "tree/.hidden", "treehouse/three"):
        remote.put(scratch.name(base), base.encode())
    remote.delete_tree(scratch.name("tree"))
    remote.delete_tree(scratch.name("tree"))
    found = [entry.name for entry in scratch.listed()]
    expect(found == ["treehouse"], f"expected only treehouse, listed {found}")
    expect_bytes(b"treehouse/three", remote.get(scratch.name("treehouse/three")), "beside the tree")


def touch_moves_the_time_forward(scratch: Scratch) -> None:
    remote = scratch.remote
    remote.put(scratch.name("file"), b"")
    remote.make_directory(scratch.name("directory"))
    for base in ("file", "directory"):
        if base == "directory" and not remote.capabilities.hierarchical:
            continue
        name = scratch.name(base)
        before_s = remote.stat(name).modified_s
        touched_s = remote.touch(name)
        expect(touched_s >= before_s, f"touch moved the time of a {base} back from {before_s} to {touched_s}")
        found_s = remote.stat(name).modified_s
        expect(abs(found_s - touched_s) < 0.001, f"touch said {touched_s}, stat says {found_s}")


def the_storage_and_this_machine_agree_on_the_time(scratch: Scratch) -> str:
    """A lock of XO's kind needs it."""
    remote, name = scratch.remote, scratch.name("now")
    remote.put(name, b"")
    before_s = scratch.clock.now_s()
    storage_s = remote.touch(name)
    after_s = scratch.clock.now_s()
    ahead_s = max(storage_s - after_s, 0.0) or min(storage_s - before_s, 0.0)
    detail = f"the storage's clock is {abs(ahead_s):.1f} s {'behind' if ahead_s < 0 else 'ahead'}"
    expect(abs(ahead_s) <= SKEW_MAX_S, f"{detail}; locks need at most {SKEW_MAX_S:.0f} s")
    return detail


def free_space_is_known(scratch: Scratch) -> str:
    usage = scratch.remote.usage()
    if usage is None:
        raise Skipped("this remote does not know its space")
    expect(0 <= usage.free_bytes <= usage.total_bytes, f"impossible space: {usage}")
    return f"{usage.free_bytes / 2**30:.1f} of {usage.total_bytes / 2**30:.1f} GiB free"


def _called(action: Callable[[str], object]) -> str:
    return str(getattr(action, "__name__", action))


PROMISES = promises(
    directories_are_made_and_removed,
    files_and_directories_are_told_apart,
    a_directory_is_renamed_with_its_content,
    a_tree_is_deleted_and_nothing_beside_it,
    touch_moves_the_time_forward,
    the_storage_and_this_machine_agree_on_the_time,
    free_space_is_known,
)
