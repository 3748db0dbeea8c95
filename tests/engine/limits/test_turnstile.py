"""A run within its limits: never more at a time, everybody gets through, and what was waited for is told."""

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from remotes.memory import MemoryRemote
from xobackup.engine import events
from xobackup.engine.errors import Outcome
from xobackup.engine.job import Selector, VmRule
from xobackup.engine.limits.bandwidth import MIB, Timetable
from xobackup.engine.limits.process import ProcessLimits
from xobackup.engine.limits.settings import Limits
from xobackup.engine.report import RunReport
from xobackup.engine.run import run_job
from xobackup.simpool import SimPool
from xotest.lab import Lab

SLOW = Timetable(rate_bytes_s=MIB)
BOTH = Selector(include=(VmRule(name="guest"), VmRule(name="twin")))


class Counting(MemoryRemote):
    """Knows how many disks were being written at a time, the most of it. Each lets others have their turn."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.most = 0
        self._open = 0
        self._counter = threading.Lock()

    def create(self, name: str):
        file = super().create(name)
        if not name.endswith(".vhd.part"):
            return file
        with self._counter:
            self._open += 1
            self.most = max(self.most, self._open)
        close = file.close

        def closed() -> None:
            with self._counter:
                self._open -= 1
            close()

        file.close = closed  # type: ignore[method-assign]
        return file


@pytest.fixture
def twins(lab: Lab, pool: SimPool) -> Lab:
    """Two VMs of two disks each."""
    pool.call("VM.hard_shutdown", lab.vm)
    pool.call("VM.clone", lab.vm, "twin")
    lab.remotes["nas"] = Counting(clock=lab.clock)
    lab.selector = BOTH
    lab.with_settings(disks_max=2, vms_max=2)
    return lab


def run(lab: Lab, limits: Limits, **fields: Any) -> RunReport:
    lab.clock.advance(3600)
    lab.pool.gc()
    report = run_job(lab.job(), replace(lab.world(), limits=ProcessLimits(limits=limits, **fields)))
    assert report.outcome is Outcome.OK, lab.why(report)
    lab.assert_tidy()
    return report


@pytest.mark.parametrize(
    "limits",
    [
        Limits(transfers_per_sr=1),
        Limits(transfers_per_pool=1),
        Limits(transfers_per_host=1, transfers_per_sr=2),
        Limits(
            transfers_per_pool=1, transfers_per_sr=1, snapshots_per_sr=1, snapshots_per_pool=1, deletions_per_sr=1
        ),
    ],
)
def test_one_disk_at_a_time_over_all_vms(twins: Lab, limits: Limits) -> None:
    report = run(twins, limits)
    assert [vm.fulls for vm in report.vms] == [2, 2]
    counting = twins.remotes["nas"]
    assert isinstance(counting, Counting) and counting.most == 1


def test_a_jobs_own_limit_holds_beside_that_of_the_process(twins: Lab) -> None:
    twins.with_settings(limits=Limits(transfers_per_sr=1, snapshots_per_sr=1))
    run(twins, Limits(transfers_per_sr=4))
    counting = twins.remotes["nas"]
    assert isinstance(counting, Counting) and counting.most == 1


def test_one_vm_at_a_time_in_the_whole_process(twins: Lab) -> None:
    run(twins, Limits(vms_max=1))
    kinds = [event.vm for event in twins.journal.events if isinstance(event, (events.PhaseBegan, events.VmEnded))]
    changes = sum(one != other for one, other in pairwise(kinds))
    assert changes == 1, "the second began when the first had ended"


def test_deletions_of_snapshots_are_spread_and_the_wait_is_told(twins: Lab) -> None:
    for _ in range(2):
        run(twins, Limits(deletions_per_sr=1, deletion_pause_s=40))
    waits = [event for event in twins.journal.of(events.Waited) if "deletions of snapshots" in event.what]
    assert len(waits) == 1 and waits[0].duration_s >= 39
    assert waits[0].what == "SR Local storage: 40 s between deletions of snapshots"


def test_what_a_transfer_waits_for_is_seen_while_it_waits(twins: Lab) -> None:
    """The first one through holds the SR until the others are seen to wait for it."""
    world, seen = twins.world(), threading.Event()

    def noted() -> bool:
        notes = [snapshot.note for snapshot in world.progress.snapshots()]
        return notes.count("SR Local storage: 1 of 1 transfers") >= 1

    class Holding(MemoryRemote):
        def create(self, name: str):
            if name.endswith(".vhd.part") and not seen.is_set():
                until(noted)
                seen.set()
            return super().create(name)

    twins.remotes["nas"] = Holding(clock=twins.clock)
    twins.clock.advance(3600)
    world = replace(twins.world(), progress=world.progress, limits=ProcessLimits(limits=Limits(transfers_per_sr=1)))
    assert run_job(twins.job(), world).outcome is Outcome.OK
    assert seen.is_set()


def until(claim: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(4000):
        if claim():
            return
        pause.wait(0.005)
    raise AssertionError("it did not happen")


def test_stopping_ends_every_wait(twins: Lab) -> None:
    """One transfer is under way and throws the switch; three wait for it."""

    class Stopping(MemoryRemote):
        def create(self, name: str):
            if name.endswith(".vhd.part"):
                twins.cancel.cancel("stopped by SIGTERM")
            return super().create(name)

    twins.remotes["nas"] = Stopping(clock=twins.clock)
    world = replace(twins.world(), limits=ProcessLimits(limits=Limits(transfers_per_sr=1)))
    report = run_job(twins.job(), world)
    assert report.outcome is Outcome.CANCELLED
    twins.assert_tidy()


@pytest.mark.parametrize("fields", [{"bandwidth": SLOW}, {"remotes": {"nas": SLOW}}], ids=["process", "remote"])
def test_rates_of_the_process_and_of_a_remote_hold(twins: Lab, fields: dict[str, Any]) -> None:
    """The guests hold 10 MiB in all: at 1 MiB/s that takes so long by the clock, whoever sets the limit."""
    began_s = twins.clock.now_s() + 3600
    report = run(twins, Limits(), **fields)
    assert report.read_bytes >= 10 * MIB and twins.clock.now_s() - began_s >= 10


def test_a_run_says_what_is_in_force(twins: Lab) -> None:
    twins.with_settings(rate_bytes_s=3.0 * MIB)
    run(twins, Limits(transfers_per_sr=2), bandwidth=Timetable(rate_bytes_s=500 * MIB))
    (started,) = twins.journal.of(events.RunStarted)
    assert started.limits == [
        "bandwidth of job nightly: 3 MiB/s",
        "bandwidth of all jobs: 500 MiB/s",
        "at a time, job nightly: 2 VMs, 2 disks of a VM",
        "at a time, all jobs: 2 transfers of an SR",
    ]
