"""Promises about what a remote may offer besides (:mod:`remotes.faces`), or what stands in for it."""

from __future__ import annotations

import random

from remotes import errors, faces
from remotes.conformance.suite import Scratch, Skipped, expect, expect_bytes, expect_raises, promises
from remotes.contract import Remote

DELETED = 60
PIECE_BYTES = (1 << 20) + 17
PIECES = 11
"""More than eight MiB: in several parts where an object is uploaded in parts."""


def an_object_is_copied(scratch: Scratch) -> None:
    remote, old, new = scratch.remote, scratch.name("old"), scratch.name("deep/new")
    remote.put(old, b"content")
    faces.copy(remote, old, new)
    expect_bytes(b"content", remote.get(new), "the copy")
    remote.put(old, b"changed")
    expect_bytes(b"content", remote.get(new), "the copy, after the original changed")
    faces.copy(remote, old, new)
    expect_bytes(b"changed", remote.get(new), "a copy onto an existing name")
    expect_raises(errors.NotFound, lambda: faces.copy(remote, scratch.name("absent"), new), "copy a missing name")
    expect_bytes(b"changed", remote.get(new), "after a refused copy")


def many_objects_are_deleted_at_once(scratch: Scratch) -> None:
    remote = scratch.remote
    for number in range(DELETED):
        remote.put(scratch.name(f"in/{number}"), b"x")
    remote.put(scratch.name("beside"), b"kept")
    faces.delete_many(remote, [scratch.name(f"in/{number}") for number in range(DELETED + 5)])
    faces.delete_many(remote, [])
    expect(not scratch.listed("in"), "deleted names are still listed")
    expect_bytes(b"kept", remote.get(scratch.name("beside")), "beside what was deleted")


def an_object_is_written_in_order(scratch: Scratch) -> None:
    remote, name = scratch.remote, scratch.name("deep/object")
    _need_uploads(remote)
    content = random.Random(6).randbytes(PIECES * PIECE_BYTES)
    upload = faces.upload(remote, name, bound_bytes=len(content))
    for start in range(0, len(content), PIECE_BYTES):
        upload.write(memoryview(content)[start : start + PIECE_BYTES])
    expect_raises(errors.NotFound, lambda: remote.stat(name), "an unfinished object")
    length = upload.finish()
    expect(length == len(content), f"expected {len(content)} bytes, found {length}")
    expect_bytes(content, remote.get(name), "after the end")
    upload.abort()
    expect(remote.stat(name).size_bytes == len(content), "taking back a finished upload took the object")
    empty = faces.upload(remote, scratch.name("empty"), bound_bytes=None)
    expect(empty.finish() == 0, "an empty object is not empty")
    expect_bytes(b"", remote.get(scratch.name("empty")), "an empty object")


def an_abandoned_object_leaves_nothing(scratch: Scratch) -> None:
    remote, name = scratch.remote, scratch.name("object")
    _need_uploads(remote)
    for pieces in (1, PIECES):
        upload = faces.upload(remote, name, bound_bytes=PIECES * PIECE_BYTES)
        for _ in range(pieces):
            upload.write(memoryview(bytes(PIECE_BYTES)))
        upload.abort()
        upload.abort()
    expect(not scratch.listed(), "something is left of an abandoned object")
    found = faces.discard_uploads(remote, name)
    expect(found == 0, f"{found} unfinished uploads are left of abandoned ones")


def _need_uploads(remote: Remote) -> None:
    if not remote.capabilities.random_access and not isinstance(remote, faces.Uploading):
        raise Skipped("this remote takes objects in one piece only")


PROMISES = promises(
    an_object_is_copied,
    many_objects_are_deleted_at_once,
    an_object_is_written_in_order,
    an_abandoned_object_leaves_nothing,
)
