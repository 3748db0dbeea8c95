"""Cancelled and killed in the middle of reading by NBD: tidy, nothing lost, the next run goes on with deltas."""

import os
import signal
import threading

import pytest

from xobackup.engine import events
from xobackup.engine.cancel import CancelToken
from xobackup.engine.journal import MemoryJournal
from xobackup.simpool import SimPool
from xotest.killed import let_the_lock_go_stale, run_child
from xotest.lab import MIB, Lab, only

SLOW_BYTES_S = 300_000


class Stopping(MemoryJournal):
    """Throws the switch a moment after the transfer began."""

    def __init__(self, cancel: CancelToken) -> None:
        super().__init__()
        self._timer = threading.Timer(0.4, cancel.cancel, ["stopped by a test"])

    def write(self, event: events.Event) -> None:
        super().write(event)
        if isinstance(event, events.PhaseBegan) and event.phase == "transfer":
            self._timer.start()


@pytest.mark.parametrize("first", [True, False])
def test_cancelled_while_blocks_are_on_their_way(lab: Lab, pool: SimPool, first: bool) -> None:
    if not first:
        lab.run()
        for disk in (0, 1):
            lab.write(disk, 0, os.urandom(2 * MIB))
    pool.faults.slow("nbd", bytes_per_s=SLOW_BYTES_S)
    lab.journal = Stopping(lab.cancel)
    lab.run(expect="cancelled")
    assert not lab.journal.of(events.SteppedDown), "stopping is no reason to try another way"
    pool.faults.clear()
    lab.cancel, lab.journal = CancelToken(), MemoryJournal()
    assert len(lab.points()) == len(lab.snapshots()) == (0 if first else 1)
    lab.assert_tidy()
    vm = only(lab.run())
    assert {one.via for one in lab.journal.of(events.DiskTransferred)} == {"nbd-full" if first else "cbt-nbd"}
    assert vm.deltas == (0 if first else 2)
    lab.check()


@pytest.mark.parametrize(
    ("operation", "name", "at", "deltas"),
    [("write_at", "*.part", 1, False), ("sync", "*.part", 2, True), ("rename", "*.part", 1, True)],
)
def test_killed_in_the_middle_of_a_run_by_nbd(
    lab: Lab, pool: SimPool, operation: str, name: str, at: int, deltas: bool
) -> None:
    lab.on_disk()
    if deltas:
        lab.run()
        workload = pool.workload(lab.vm, seed=5)
        workload.step()
    done = run_child(lab, number=signal.SIGKILL, at=at, operation=operation, name=name)
    assert done.returncode == -signal.SIGKILL, done.stderr
    lab.check(finished=False)
    let_the_lock_go_stale(lab)
    lab.write(0, 0, b"after the trouble")
    vm = only(lab.run())
    assert vm.deltas == (2 if deltas else 0)
    assert set(vm.vias) == {"cbt-nbd" if deltas else "nbd-full"}
    lab.check()
    lab.assert_tidy()
    assert len(lab.snapshots()) == 1
