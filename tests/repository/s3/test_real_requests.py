"""Requests of a run to a real store fail, each once, one run after another on the same repository.

After every failed run all that is listed reads back, and the next run goes on. ``XOTEST_SWEEP=full`` takes every
request with every failure, before and after the store did what was asked; otherwise a few, spread over a run.
"""

from __future__ import annotations

import os
from itertools import cycle, product
from typing import Any

import pytest

from remotes import errors
from remotes.retrying import RetryPolicy
from remotes.s3.client import make_client
from remotes.s3.remote import S3Remote
from remotes.url import parse_url
from vhd.errors import VhdError
from xobackup.clock import FakeClock
from xobackup.repository.errors import RepositoryError
from xotest.backups import VM, Guest
from xotest.s3.faults import FAILURES, PASSING, FaultyS3, at
from xotest.s3.stores import Store

pytestmark = pytest.mark.slow
FULL = os.environ.get("XOTEST_SWEEP") == "full"
REFUSALS = (errors.RemoteError, RepositoryError, VhdError)
NO_PATIENCE = RetryPolicy(attempts_max=3, first_pause_s=0.0, pause_max_s=0.0)
NOW_S = 1_800_000_000.0
LETTERS = cycle("EFGHIJ")


class World:
    """A bucket with backups of one VM, and a way to it that can be spoilt."""

    def __init__(self, store: Store) -> None:
        address = parse_url(store.url(store.bucket(), "dir", parallel="2")).s3
        assert address is not None
        self.address, self.client = address, make_client(address)
        self.guest = Guest(FakeClock(NOW_S), ("AB-",))

    def remote(self, client: Any) -> S3Remote:
        return S3Remote(self.address, client, clock=self.guest.clock, policy=NO_PATIENCE)

    def back_up(self, client: Any) -> None:
        self.guest.write(0, f"-{next(LETTERS)}-")
        self.guest.back_up(self.remote(client), keep=2)

    def let_go(self) -> None:
        """The lease of a run that could not give it back: the store's clock would take a minute to make it stale."""
        self.remote(self.client).delete_tree(".xobackup/leases")

    def check(self) -> None:
        there = self.guest.check(self.remote(self.client))
        assert there, "nothing is left"
        self.let_go()
        self.back_up(self.client)
        assert len(self.guest.check(self.remote(self.client), litter=False, merges=False)) == 2
        assert self.guest.repository(self.remote(self.client)).verify(VM).problems == []
        assert not self.client.list_multipart_uploads(Bucket=self.address.bucket).get("Uploads")


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_every_request_to_a_real_store_may_fail_once(radosgw_stores: tuple[Store, Store], tls: bool) -> None:
    world = World(radosgw_stores[tls])
    for _ in range(3):
        world.back_up(world.client)
    counted = FaultyS3(world.client)
    world.back_up(counted)
    for number, kind, after in chosen(counted.requests, tls):
        faulty = FaultyS3(world.client, at(number, FAILURES[kind]), after=after)
        note = f"{kind} {'after' if after else 'at'} request {number}"
        try:
            world.back_up(faulty)
        except REFUSALS as error:
            assert kind not in PASSING, f"{note} ({faulty.fired}) was not got over: {error}"
        assert len(faulty.fired) == 1 or number > faulty.requests, note
        try:
            world.check()
        except BaseException as error:
            error.add_note(f"{note}: {faulty.fired}")
            raise


def chosen(requests: int, tls: bool) -> list[tuple[int, str, bool]]:
    """Number of the request, failure, whether the store does it all the same."""
    if FULL:
        return list(product(range(1, requests + 1), FAILURES, (False, True)))
    places = range(2 + 11 * tls, requests, requests // 3)
    kinds = ("404", "reset", "403") if tls else ("403", "timeout", "500")
    return [(number, kind, bool(turn % 2)) for turn, (number, kind) in enumerate(zip(places, kinds, strict=False))]
