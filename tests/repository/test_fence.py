"""A zombie (stopped for longer than its lock lasts, overtaken, continued) publishes, merges and deletes nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from remotes.errors import AlreadyExists, NotFound, Unavailable
from remotes.faults import CHANGES, Fault, Faults
from remotes.faulty import FaultyRemote
from remotes.local import LocalRemote
from remotes.memory import MemoryRemote
from xobackup.clock import FakeClock, SystemClock
from xobackup.repository.errors import LockHeld, LockLost, Refused
from xobackup.repository.layout import lease_directory, lease_name, metadata_name, placed_part_name
from xobackup.repository.lock import DirectoryLock
from xotest.backups import START_S, VM, Guest, memory_remote, repository
from xotest.s3.memory import MemoryS3

STRIDE = int(os.environ.get("STRIDE", "3"))
"""Which changes a zombie is stopped at: 1 is each."""
RANGES = {"write_at", "truncate", "copy_range", "sync"}
NAME = f"xo-vm-backups/{VM}/20260101T000000Z.json"


def tokens(remote):
    return [entry.name for entry in remote.list(lease_directory(VM))]


def lock_of(remote, clock):
    return DirectoryLock(remote, VM, clock=clock, refresh_s=3600.0)


def test_the_number_grows_with_every_lock_and_one_token_is_left() -> None:
    clock = FakeClock(START_S)
    remote = MemoryRemote(clock=clock)
    for expected in (1, 2, 3):
        with lock_of(remote, clock) as lock:
            assert lock.number == expected
        assert tokens(remote) == [f"{expected:010d}.json"]
    remote.delete_tree(".xobackup")  # private state may be lost
    with lock_of(remote, clock) as lock:
        lock.prove()
        remote.delete_tree(".xobackup")
        with pytest.raises(LockLost):
            lock.prove()


class Stopped(Faults):
    """Lets one operation be the last before (or the first after) a long sleep, in which ``meanwhile`` happens."""

    def __init__(self, meanwhile, *, at: int, late: bool) -> None:
        super().__init__()
        self.meanwhile, self.at, self.late = meanwhile, at, late
        self.after: list[str] = []
        """What changed the storage afterwards."""
        self.slept = False

    def perform(self, kind, remote, name, action, torn=None):
        if kind not in CHANGES or (self.late and kind in RANGES):
            return action()
        self.changes += 1
        if self.slept:
            self.after.append(f"{kind} {name}")
        if self.changes != self.at:
            return action()
        self.slept = True
        if self.late:
            self.meanwhile()
            return action()
        try:
            return action()
        finally:
            self.meanwhile()


class Life:
    """A VM with some restore points, its next run, and somebody who overtakes that."""

    def __init__(self, make_remote, **options) -> None:
        self.clock = FakeClock(START_S)
        self.guest = Guest(self.clock, ("AB-",), **options)
        self.remote = make_remote(self.clock)
        for letter in "EF":
            self.guest.back_up(self.remote)
            self.guest.write(0, f"-{letter}{letter.lower()}")

    def overtaken(self) -> None:
        """Another machine, a minute later: leftovers, retention to one point, merges."""
        self.clock.advance(120)
        with repository(self.remote, self.clock, **self.guest.options).lock(VM, timeout_s=5.0) as directory:
            directory.merge()
            directory.delete_points([point.id for point in directory.points().points][:-1])
            directory.merge()

    def run(self, faults: Faults) -> bool:
        """Whether it came to its end: who slept while he took the lock may well have it afterwards."""
        try:
            self.guest.back_up(FaultyRemote(self.remote, faults), keep=1)
        except (LockLost, LockHeld, NotFound, Refused):  # of its disks nothing is left by now
            return False
        return True


def memory_s3(clock):
    made = MemoryS3(clock).remote()
    made.probe()
    return made


FILES = pytest.param(memory_remote, {}, id="files")
DIRECTORIES = pytest.param(memory_remote, {"vhd_directory": True}, id="directories")
OBJECTS = pytest.param(memory_s3, {"vhd_directory": True}, id="objects")


@pytest.mark.parametrize(("make_remote", "options"), [FILES, DIRECTORIES, OBJECTS])
def test_after_a_stop_nothing_is_changed_any_more(make_remote, options) -> None:
    """Stopped after the first, second, third ... change, and overtaken."""
    sweep(make_remote, options, late=False)


@pytest.mark.parametrize(("make_remote", "options"), [FILES, DIRECTORIES])
def test_one_change_that_was_allowed_and_comes_too_late_harms_nothing(make_remote, options) -> None:
    """Stopped between the permission and the storage: it gets that one operation, and none after it. Without
    ranges of open files: who was stopped in the middle of writing into a file writes on (docs/workers.md)."""
    sweep(make_remote, options, late=True)


def sweep(make_remote, options, *, late: bool) -> None:
    at, slept = 1 - STRIDE, True
    while slept:
        at += STRIDE
        life = Life(make_remote, **options)
        faults = Stopped(life.overtaken, at=at, late=late)
        ended, slept = life.run(faults), faults.slept
        if slept and not ended:
            allowed = [told for told in faults.after if not re.search("/leases/|/locks/|^sync", told)]
            assert allowed[int(late) :] == [], (at, faults.after)
        assert life.guest.check(life.remote, merges=True), at
    assert at > 20


def test_a_restore_point_on_its_way_is_taken_away_from_a_zombie() -> None:
    """Stopped between the last look and the rename: the storage refuses it."""
    clock = FakeClock(START_S)
    remote = MemoryRemote(clock=clock)
    lock = lock_of(remote, clock)
    lock.acquire()

    class Slow(FaultyRemote):
        def rename(self, old, new, *, replace=False):
            assert old == placed_part_name(NAME)
            clock.advance(60)
            with lock_of(remote, clock) as successor:
                assert successor.number == lock.number + 1
            super().rename(old, new, replace=replace)

    lock._fence._remote = Slow(remote, Faults())
    with pytest.raises(LockLost, match="took it over"):
        lock.place(NAME, b"{}")
    assert [entry.name for entry in remote.list(f"xo-vm-backups/{VM}")] == []
    lock.release()
    assert tokens(remote) == [lease_name(VM, 2).rpartition("/")[2]]


def test_what_could_not_get_its_name_is_tried_again_under_the_same_lock() -> None:
    clock = FakeClock(START_S)
    remote = MemoryRemote(clock=clock)
    faults = Faults(Fault(operation="rename", name="*.part"))
    with lock_of(FaultyRemote(remote, faults), clock) as lock:
        with pytest.raises(Unavailable):
            lock.place(NAME, b"{}", replace=False)
        lock.place(NAME, b"{} ", replace=False)
        with pytest.raises(AlreadyExists):
            lock.place(NAME, b"{}", replace=False)
    assert remote.get(NAME) == b"{} " and [entry.name for entry in remote.list(f"xo-vm-backups/{VM}")] == [
        NAME.rpartition("/")[2]
    ]
    faults.assert_all_fired()


def test_a_machine_that_was_paused_with_its_clock_publishes_nothing_into_a_store() -> None:
    clock = FakeClock(START_S)
    remote = memory_s3(clock)
    with repository(remote, clock).lock(VM) as directory:
        remote.put(lease_name(VM, directory.lock.number + 1), b"{}")
        with pytest.raises(LockLost):
            directory.lock.place(metadata_name(VM, "20260101T000000Z"), b"{}")
    assert not [entry for entry in remote.list("") if entry.name == "xo-vm-backups"]


ZOMBIE = """
import sys
sys.path[:0] = sys.argv[2:]
from remotes.local import LocalRemote
from xobackup.clock import FakeClock
from xobackup.repository.errors import LockLost
from xobackup.repository.repository import Repository
from xobackup.clock import SystemClock
from xotest.backups import VM, Guest, START_S
from xotest import backups
clock = FakeClock(START_S)
remote = LocalRemote(sys.argv[1])
guest = Guest(clock, ("AB-",))
old = guest.back_up(remote)
guest.write(0, "-E-")
with Repository(remote, clock=SystemClock()).lock(VM) as directory:
    real = directory.publish
    def publish(draft):
        print("held", flush=True)
        sys.stdin.readline()
        return real(draft)
    directory.publish = publish
    for attempt in (lambda: guest.write_point(directory), lambda: directory.delete_points([old]), directory.merge):
        try:
            attempt()
            print("done", flush=True)
        except LockLost as error:
            print("refused", error, flush=True)
"""


def test_a_process_that_was_stopped_and_continued(tmp_path) -> None:
    remote = LocalRemote(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", ZOMBIE, str(tmp_path), *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "held\n"
        os.kill(process.pid, signal.SIGSTOP)
        lock = f"xo-vm-backups/{VM}.lock"
        old_s = remote.stat(lock).modified_s - 60
        os.utime(tmp_path / lock, (old_s, old_s))  # a minute passes
        with repository(remote, SystemClock()).lock(VM, timeout_s=5.0) as directory:
            before = [point.id for point in directory.points().points]
            os.kill(process.pid, signal.SIGCONT)
            process.stdin.write("\n")
            process.stdin.close()
            told = process.stdout.read().splitlines()
            assert len(told) == 3 and all(line.startswith("refused") for line in told), told
            assert [point.id for point in directory.points().points] == before != []
            directory.lock.prove()
        assert process.wait(30) == 0
