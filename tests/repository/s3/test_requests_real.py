"""The sweep of :mod:`test_requests` against a real store: each kind of failure at some requests of a run."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from remotes import errors
from remotes.retrying import RetryPolicy
from remotes.s3.remote import S3Remote
from remotes.url import parse_url
from vhd.errors import VhdError
from xobackup.clock import FakeClock, SystemClock
from xobackup.repository.errors import RepositoryError
from xotest.backups import VM, Guest
from xotest.s3.faults import FAILURES, PASSING, FaultyS3, at
from xotest.s3.stores import Store

NUMBERS = range(1, 400, 1 if os.environ.get("XOTEST_SWEEP") == "full" else 163)
"""A run makes about 150 requests; each kind of failure begins at another one."""


class Bucket:
    """A bucket of its own with two restore points in it."""

    def __init__(self, store: Store) -> None:
        self.client: Any = store.client()
        self.name = store.bucket()
        address = parse_url(store.url(self.name, "dir")).s3
        assert address is not None
        self.address = replace(address, parallel=2)
        self.clock = FakeClock(SystemClock().now_s())
        self.guest = Guest(self.clock, ("AB-", "-C-"))
        for letter in "EF":
            self.guest.back_up(self.remote(self.client))
            self.guest.write(0, f"-{letter}-")
            self.guest.write(1, f"{letter}--")

    def remote(self, client: Any) -> S3Remote:
        policy = RetryPolicy(attempts_max=3, first_pause_s=0.0, pause_max_s=0.0)
        return S3Remote(self.address, client, clock=self.clock, policy=policy)

    @property
    def uploads(self) -> list[Any]:
        return list(self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", []))


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAILURES)
def test_requests_fail_on_a_real_store(kind: str, radosgw_stores: tuple[Store, Store]) -> None:
    first = 1 + 13 * list(FAILURES).index(kind)
    for number in (one + first for one in NUMBERS):
        bucket = Bucket(radosgw_stores[0])
        faulty = FaultyS3(bucket.client, at(number, FAILURES[kind]), after=bool(number % 2))
        note = f"{kind} at request {number}"
        try:
            bucket.guest.back_up(bucket.remote(faulty), keep=2)
        except (errors.RemoteError, RepositoryError, VhdError) as error:
            assert kind not in PASSING, f"{note} ({faulty.fired}) was not got over: {error}"
        if not faulty.fired:
            break
        there = bucket.guest.check(bucket.remote(bucket.client))
        assert len(there) >= 1, note
        assert bucket.guest.repository(bucket.remote(bucket.client)).verify(VM).damaged is False, note
        assert bucket.uploads == [], note
