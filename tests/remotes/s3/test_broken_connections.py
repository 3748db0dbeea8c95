"""Real connections to a real store that break in the middle of bodies: everything arrives, once and whole."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from remotes import faces
from remotes.s3.remote import S3Remote
from remotes.url import open_remote
from xotest.s3.proxy import Proxy, proxy
from xotest.s3.stores import Store

pytestmark = pytest.mark.slow
MIB = 1 << 20


@pytest.fixture
def broken(radosgw_stores: tuple[Store, Store]) -> Iterator[tuple[S3Remote, Proxy]]:
    store = radosgw_stores[0]
    bucket = store.bucket()
    with proxy(int(store.endpoint.rpartition(":")[2])) as between:
        through = replace(store, endpoint=f"http://127.0.0.1:{between.port}")
        remote = open_remote(through.url(bucket))
        assert isinstance(remote, S3Remote)
        yield remote, between
        remote.close()


def test_downloads(broken: tuple[S3Remote, Proxy]) -> None:
    remote, between = broken
    content = random.Random(1).randbytes(6 * MIB)
    remote.put("object", content)
    between.cuts = [MIB, 2 * MIB, 100_000]
    assert remote.get("object") == content
    assert between.broken == 3
    file = remote.open("object")
    between.cuts = [MIB, MIB]
    buffer, found = bytearray(700_000), bytearray()
    while count := file.read_into(len(found), memoryview(buffer)):
        found += buffer[:count]
    file.close()
    assert found == content and between.broken == 5


def test_uploads(broken: tuple[S3Remote, Proxy]) -> None:
    remote, between = broken
    between.down = False
    content = random.Random(2).randbytes(20 * MIB)
    between.cuts = [MIB, 100_000]
    remote.put("object", content[: 2 * MIB])
    assert remote.get("object") == content[: 2 * MIB] and between.broken == 2
    between.cuts = [MIB, 3 * MIB]
    upload = faces.upload(remote, "large", bound_bytes=len(content))
    upload.write(memoryview(content))
    assert upload.finish() == len(content)
    assert remote.get("large") == content and between.broken == 4
    assert remote.discard_uploads("large") == 0


def test_answers_that_get_lost(broken: tuple[S3Remote, Proxy]) -> None:
    """The store did it, and the client never heard: the second attempt must not be taken for somebody else's."""
    remote, between = broken
    remote.probe()
    for number in range(5):
        between.cuts = [1]
        remote.put(f"new/{number}", b"%d" % number, replace=False)
        between.cuts = [1]
        remote.copy(f"new/{number}", f"copied/{number}")
        between.cuts = [1]
        remote.rename(f"new/{number}", f"moved/{number}")
    between.cuts = [1, 1]
    faces.delete_many(remote, [f"copied/{number}" for number in range(5)])
    assert [entry.name for entry in remote.list("")] == [".xobackup", "moved"]
    assert [remote.get(f"moved/{number}") for number in range(5)] == [b"%d" % number for number in range(5)]
    assert between.broken >= 5
