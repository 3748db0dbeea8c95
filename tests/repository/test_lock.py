import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from remotes.errors import NotSupported, Unavailable
from remotes.local import LocalRemote
from remotes.memory import MemoryRemote
from xobackup.clock import FakeClock, SystemClock
from xobackup.repository.errors import LockHeld, LockLost
from xobackup.repository.lock import STALE_S, DirectoryLock
from xotest.backups import START_S, VM

NAME = f"xo-vm-backups/{VM}.lock"


@pytest.fixture
def clock():
    return FakeClock(START_S)


@pytest.fixture
def remote(clock):
    return MemoryRemote(clock=clock)


def lock_of(remote, clock, **options):
    return DirectoryLock(remote, VM, clock=clock, **{"refresh_s": 3600.0, **options})


def names(remote):
    return [entry.name for entry in remote.list("xo-vm-backups")]


def test_a_lock_is_an_empty_directory_beside_the_vms_and_goes_when_released(remote, clock):
    with lock_of(remote, clock, purpose="a test") as lock:
        lock.check()
        assert remote.list(NAME) == []
        assert names(remote) == [VM, f"{VM}.lock"]
    assert names(remote) == [VM]
    assert remote.list(".xobackup/locks") == []


def test_a_second_holder_is_told_who_and_since_when(remote, clock):
    with lock_of(remote, clock, purpose="run 17"):
        clock.advance(4)
        with pytest.raises(LockHeld, match=r"refreshed 4 s ago.*pid \d+ on .*run 17"):
            lock_of(remote, clock).acquire()


def test_a_lock_of_xen_orchestra_is_respected_until_it_is_stale(remote, clock):
    remote.make_directory(NAME)
    clock.advance(STALE_S)
    with pytest.raises(LockHeld, match="Xen Orchestra"):
        lock_of(remote, clock).acquire()
    clock.advance(0.1)
    with lock_of(remote, clock) as lock:
        lock.check()
    assert names(remote) == [VM]


def test_waiting_ends_when_the_other_goes(remote, clock):
    remote.make_directory(NAME)

    class Other(FakeClock):
        def sleep(self, seconds):
            clock.advance(seconds)
            if clock.now_s() - START_S >= 3 and f"{VM}.lock" in names(remote):
                remote.remove_directory(NAME)

        def monotonic_s(self):
            return clock.monotonic_s()

    with lock_of(remote, Other(), timeout_s=60):
        assert 3 <= clock.now_s() - START_S < 5


def test_age_is_measured_by_the_clock_of_the_storage(remote, clock):
    """Our own clock is a day ahead: a fresh lock must not look stale."""
    remote.make_directory(NAME)
    ahead = FakeClock(START_S + 86_400)
    with pytest.raises(LockHeld, match="refreshed 0 s ago"):
        lock_of(remote, ahead).acquire()


def test_a_lock_that_somebody_took_over_is_lost(remote, clock):
    with lock_of(remote, clock) as lock:
        clock.advance(60)
        remote.touch(NAME)  # whoever found it stale, removed it and made it anew
        with pytest.raises(LockLost, match="somebody else"):
            lock.refresh()
    assert f"{VM}.lock" in names(remote), "what is not ours is not removed"


def test_refreshing_keeps_it_fresh(remote, clock):
    with lock_of(remote, clock) as lock:
        for _ in range(5):
            clock.advance(5)
            lock.refresh()
            with pytest.raises(LockHeld):
                lock_of(remote, clock).acquire()
        lock.check()


def test_the_thread_notices_that_the_directory_is_gone(tmp_path):
    remote = LocalRemote(tmp_path)
    with lock_of(remote, SystemClock(), refresh_s=0.01) as lock:
        remote.remove_directory(NAME)
        for _ in range(1000):
            if lock.lost is not None:
                break
            time.sleep(0.01)
        with pytest.raises(LockLost, match="gone"):
            lock.check()


def test_a_storage_that_does_not_answer_loses_the_lock_in_time(remote, clock):
    lock = lock_of(remote, clock, refresh_s=0.001)
    lock.acquire()
    try:

        def fail(name):
            clock.advance(1)
            raise Unavailable("memory:", name, "no answer", transient=True)

        remote.stat = fail
        for _ in range(1000):
            if lock.lost is not None:
                break
            time.sleep(0.01)
        with pytest.raises(LockLost, match="could not be refreshed"):
            lock.check()
    finally:
        lock.release()


@pytest.mark.parametrize("attempt", range(3))
def test_of_many_takers_of_a_stale_lock_one_wins(tmp_path, attempt):
    remote = LocalRemote(tmp_path)
    remote.make_directory(NAME)
    old = remote.touch(NAME) - 60
    os.utime(tmp_path / NAME, (old, old))
    winners, start = [], threading.Barrier(8)

    def take():
        lock = lock_of(remote, SystemClock())
        start.wait()
        try:
            lock.acquire()
        except LockHeld:
            return
        winners.append(lock)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) <= 1, "others may have looked in vain while one was taking over"
    if not winners:
        winners.append(lock_of(remote, SystemClock()))
        winners[0].acquire()
    winners[0].refresh()
    winners[0].release()
    assert names(remote) == [VM]


def test_a_taker_who_died_halfway_is_forgotten(remote, clock):
    remote.make_directory(NAME)
    remote.make_directory(f".xobackup/locks/{VM}.takeover")
    clock.advance(30)
    with lock_of(remote, clock) as lock:
        lock.check()
    assert remote.list(".xobackup/locks") == []


def test_a_remote_without_exclusive_directories_is_refused(clock):
    remote = MemoryRemote(clock=clock)

    class Sloppy(MemoryRemote):
        capabilities = replace(remote.capabilities, exclusive_directories=False)

    with pytest.raises(NotSupported):
        lock_of(Sloppy(clock=clock), clock).acquire()


HOLDER = """
import sys, time
from remotes.local import LocalRemote
from xobackup.clock import SystemClock
from xobackup.repository.lock import DirectoryLock
with DirectoryLock(LocalRemote(sys.argv[1]), sys.argv[2], clock=SystemClock(), purpose="the other process"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes(tmp_path):
    remote = LocalRemote(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), VM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    with process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(LockHeld, match=f"pid {process.pid} on .*the other process"):
            lock_of(remote, SystemClock()).acquire()
        process.stdin.close()
        process.wait(30)
        with lock_of(remote, SystemClock()):
            note = json.loads(remote.get(f".xobackup/locks/{VM}.json"))
            assert note["pid"] != process.pid


def test_who_waits_may_give_up(remote, clock):
    class Enough(Exception):
        pass

    def check() -> None:
        if clock.now_s() > START_S + 2:
            raise Enough

    with lock_of(remote, clock), pytest.raises(Enough):
        lock_of(remote, clock, timeout_s=60, check=check).acquire()
    assert clock.now_s() < START_S + 5 and names(remote) == [VM]
