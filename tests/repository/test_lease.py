"""One writer at a time by leases; a holder that is late, or overtaken, knows it before anybody else may act."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from remotes.errors import Unavailable
from remotes.faults import Fault
from remotes.faulty import faulty
from remotes.memory import MemoryRemote
from xobackup.clock import FakeClock
from xobackup.repository import holder
from xobackup.repository.errors import LockHeld, LockLost
from xobackup.repository.layout import lease_directory, lease_name
from xobackup.repository.lease import HOLD_S, LEASE_S, Lease
from xobackup.repository.locking import NoLock, lock_for
from xobackup.repository.options import RepositoryOptions
from xotest.backups import START_S, VM
from xotest.s3.memory import MemoryS3


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START_S)


@pytest.fixture
def remote(clock: FakeClock):
    made = MemoryS3(clock).remote()
    made.probe()
    return made


def lease_of(remote, clock: FakeClock, **options) -> Lease:
    return Lease(remote, VM, clock=clock, **{"refresh_s": 3600.0, **options})


def numbers(remote) -> list[str]:
    return [entry.name for entry in remote.list(lease_directory(VM))]


def stranger(remote, number: int = 1, **fields) -> None:
    """A lease of another machine."""
    note = {"version": 1, "host": "elsewhere", "pid": 7, "boot": "other", "processes": "p", "lease_s": 60, **fields}
    remote.put(lease_name(VM, number), json.dumps(note).encode())


def test_numbers_grow_with_every_lease_and_one_object_is_left(remote, clock) -> None:
    for expected in (1, 2, 3):
        with lease_of(remote, clock, purpose="a test") as lease:
            lease.check()
            assert lease.number == expected
        assert numbers(remote) == [f"{expected:010d}.json"]


def test_a_second_one_is_told_who_holds_it(remote, clock) -> None:
    with lease_of(remote, clock, purpose="run 17"):
        clock.advance(4)
        with pytest.raises(LockHeld, match=r"refreshed 4 s ago.*pid \d+ on .*run 17"):
            lease_of(remote, clock).acquire()
    assert numbers(remote) == ["0000000001.json"], "looking at the storage's clock leaves nothing"


def test_a_lease_is_respected_until_it_is_stale_by_the_storages_clock(remote, clock) -> None:
    stranger(remote)
    clock.advance(LEASE_S)
    with pytest.raises(LockHeld, match="elsewhere"):
        lease_of(remote, clock).acquire()
    clock.advance(1)
    with lease_of(remote, clock) as lease:
        assert lease.number == 2 and numbers(remote) == ["0000000002.json"]


def test_waiting_ends_when_it_becomes_stale(remote, clock) -> None:
    stranger(remote)
    with lease_of(remote, clock, timeout_s=120):
        assert LEASE_S < clock.now_s() - START_S < LEASE_S + 5


@pytest.mark.parametrize("raw", [b"", b"no json", b'{"lease_s": -5}', b'{"lease_s": 1e99}', b"[]"])
def test_a_note_that_says_nothing_is_a_lease_all_the_same(remote, clock, raw: bytes) -> None:
    remote.put(lease_name(VM, 41), raw)
    with pytest.raises(LockHeld):
        lease_of(remote, clock).acquire()
    clock.advance(LEASE_S + 1)
    with lease_of(remote, clock) as lease:
        assert lease.number == 42


def test_a_holder_that_was_overtaken_knows_it(remote, clock) -> None:
    first = lease_of(remote, clock)
    first.acquire()
    clock.advance(LEASE_S + 1)
    with lease_of(remote, clock):
        with pytest.raises(LockLost, match="took it over"):
            first.refresh()
        first.release()
        assert numbers(remote) == ["0000000002.json"]


def test_a_holder_stops_before_anybody_may_take_over(remote, clock) -> None:
    lease = lease_of(remote, clock)
    lease.acquire()
    clock.advance(HOLD_S)
    lease.check()
    clock.advance(1)
    with pytest.raises(LockLost, match="could not be refreshed for 45 s"):
        lease.check()
    with pytest.raises(LockHeld):
        lease_of(remote, clock).acquire()
    lease.release()
    assert json.loads(remote.get(lease_name(VM, 1)))["released"] is False


def test_refreshing_keeps_it(remote, clock) -> None:
    with lease_of(remote, clock) as lease:
        for _ in range(5):
            clock.advance(HOLD_S - 1)
            lease.refresh()
            lease.check()


def test_a_holder_that_is_dead_on_this_machine_is_not_waited_for(remote, clock, monkeypatch) -> None:
    stranger(remote, **{**holder.this_process(), "pid": 2**22 + 1})
    with lease_of(remote, clock) as lease:
        assert lease.number == 2
    stranger(remote, 3, **{**holder.this_process(), "started": "1"})
    with lease_of(remote, clock) as lease:
        assert lease.number == 4
    for alive in ({}, {"boot": "another"}, {"processes": "pid:[1]"}, {"pid": "7"}, {"pid": True}, {"boot": ""}):
        note = {**holder.this_process(), **alive}
        assert not holder.surely_dead(note), alive


def test_one_of_many_gets_it(remote, clock) -> None:
    barrier = threading.Barrier(8)

    def take(_: int) -> Lease | None:
        lease = lease_of(remote, clock)
        barrier.wait()
        try:
            lease.acquire()
        except LockHeld:
            return None
        return lease

    for _ in range(10):
        with ThreadPoolExecutor(8) as pool:
            got = [lease for lease in pool.map(take, range(8)) if lease is not None]
        assert len(got) == 1
        got[0].release()


def test_who_slept_between_looking_and_taking_is_not_fooled_by_a_number_that_is_free_again(remote, clock) -> None:
    """He saw lease 1; meanwhile 2 was taken and given back, 3 was taken, and 2 is deleted."""

    class Sleeps(Lease):
        def _held(self, standing):
            with lease_of(remote, clock):
                pass
            self.other = lease_of(remote, clock)
            self.other.acquire()
            return

    stranger(remote, released=True)
    late = Sleeps(remote, VM, clock=clock)
    assert late._try() is not None
    late.other.check()
    late.other.refresh()
    assert numbers(remote) == ["0000000003.json"]
    late.other.release()


def test_refreshing_that_fails_for_a_while_is_no_loss(remote, clock) -> None:
    lease = lease_of(remote, clock)
    lease.acquire()
    with faulty(
        remote, Fault(operation="put", error=lambda *_: Unavailable("", "", "busy", transient=False))
    ) as broken:
        lease._remote = broken
        with pytest.raises(Unavailable):
            lease.refresh()
        lease.check()
        lease.refresh()
        lease.check()
    lease._remote = remote
    lease.release()


def test_the_lock_is_chosen_by_what_the_remote_can_do(remote, clock) -> None:
    def chosen(on):
        options = RepositoryOptions()
        return lock_for(on, VM, clock=clock, options=options, timeout_s=0, purpose="", check=lambda: None)

    class Overwrites(MemoryS3):
        def put_object(self, *, IfNoneMatch: str = "", **parameters):
            return super().put_object(**parameters)

    assert type(chosen(MemoryRemote(clock=clock))).__name__ == "DirectoryLock"
    assert type(chosen(MemoryS3(clock).remote())).__name__ == "Lease", "it is probed first"
    with chosen(Overwrites(clock).remote()) as lock:
        assert isinstance(lock, NoLock)
        lock.check()
