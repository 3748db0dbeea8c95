"""Every request of a run fails once, or is the last one its client makes; nothing published is ever lost.

The run is a backup with retention and merge, after two others. Requests are made by several threads, so the same
number may be another request from run to run. ``XOTEST_SWEEP=full`` tries every number, otherwise every n-th.
"""

from __future__ import annotations

import os

import pytest

from remotes import errors
from remotes.faults import PowerCut
from remotes.retrying import RetryPolicy
from remotes.s3.address import S3Address
from remotes.s3.remote import S3Remote
from vhd.errors import VhdError
from xobackup.clock import FakeClock
from xobackup.repository.errors import RepositoryError
from xotest.backups import START_S, VM, Guest
from xotest.s3.faults import FAILURES, PASSING, FaultyS3, at
from xotest.s3.memory import BUCKET, MemoryS3

FULL = os.environ.get("XOTEST_SWEEP") == "full"
REFUSALS = (errors.RemoteError, RepositoryError, VhdError)
NO_PATIENCE = RetryPolicy(attempts_max=3, first_pause_s=0.0, pause_max_s=0.0)


class World:
    """A store with two restore points, and copies of it to break."""

    def __init__(self) -> None:
        self.clock = FakeClock(START_S)
        self.guest = Guest(self.clock, ("AB-", "-C-"))
        self.store = MemoryS3(self.clock)
        remote = self.remote(self.store)
        for letter in "EF":
            self.guest.back_up(remote)
            self.guest.write(0, f"-{letter}-")
            self.guest.write(1, f"{letter}--")
        self.points = list(self.guest.expected)
        self.bases, self.drawn = [list(b) for b in self.guest.bases], [dict(d) for d in self.guest.drawn]
        remote = self.remote(FaultyS3(self.store.snapshot()))
        self.back_up(remote)
        self.requests = remote.traffic().total

    def remote(self, client: object) -> S3Remote:
        address = S3Address(endpoint="http://memory", bucket=BUCKET, prefix="dir", parallel=2)
        return S3Remote(address, client, clock=self.clock, policy=NO_PATIENCE)

    def back_up(self, remote: S3Remote) -> None:
        """What the pool knows of: a run that did not come back gave no new base."""
        self.guest.bases, self.guest.drawn = [list(b) for b in self.bases], [dict(d) for d in self.drawn]
        self.guest.back_up(remote, keep=2)

    def check_after(self, store: MemoryS3) -> None:
        """The newest old point is there; whatever is listed reads back; the next run goes on and leaves nothing."""
        there = self.guest.check(self.remote(store))
        assert self.points[-1] in there or len(there) >= 2
        self.clock.advance(120)  # the dead holder's lease is stale by now
        remote = self.remote(store)
        self.back_up(remote)
        there = self.guest.check(remote, litter=False, merges=False)
        assert len(there) == 2
        repository = self.guest.repository(remote)
        assert repository.verify(VM).problems == []
        assert [str(f) for f in repository.clean_plan(VM) if f.problem.code != "digests-stale"] == []
        assert store.uploads == {}
        left = [key for key in store.objects if "/begun/" in key or "/now-" in key]
        assert left == []


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def numbers(world: World, every: int, first: int = 1) -> range:
    return range(first, world.requests + 1, 1 if FULL else every)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAILURES)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_every_request_may_fail_once(world: World, kind: str, after: bool) -> None:
    every = {"403": 31, "404": 37, "500": 53, "503": 59, "timeout": 61, "reset": 67}[kind]
    for number in numbers(world, every, first=1 + 3 * after):
        store = world.store.snapshot()
        faulty = FaultyS3(store, at(number, FAILURES[kind]), after=after)
        note = f"{kind} {'after' if after else 'at'} request {number}"
        try:
            world.back_up(world.remote(faulty))
        except REFUSALS as error:
            assert kind not in PASSING, f"{note} ({faulty.fired}) was not got over: {error}"
        assert len(faulty.fired) == 1 or number > faulty.requests, note
        try:
            world.check_after(store)
        except BaseException as error:
            error.add_note(f"{note}: {faulty.fired}")
            raise


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_the_client_may_die_at_every_request(world: World, after: bool) -> None:
    died = 0
    for number in numbers(world, 19, first=1 + 7 * after):
        store = world.store.snapshot()
        faulty = FaultyS3(store, at(number, lambda: PowerCut("killed")), after=after)
        with pytest.raises(PowerCut) if number <= world.requests * 0.8 else _perhaps():
            world.back_up(world.remote(faulty))
        died += bool(faulty.fired)
        try:
            world.check_after(store)
        except BaseException as error:
            error.add_note(f"killed {'after' if after else 'at'} request {number}: {faulty.fired}")
            raise
    assert died > 5


class _perhaps:
    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is PowerCut
