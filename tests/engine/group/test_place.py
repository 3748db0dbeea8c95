"""A group within limits that are narrower than it is: it waits once, before anybody is frozen, and gets through."""

from __future__ import annotations

import threading
from dataclasses import replace

from xobackup.engine import events
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import Outcome
from xobackup.engine.job import Selector, VmRule
from xobackup.engine.limits.gates import Gate
from xobackup.engine.limits.process import ProcessLimits
from xobackup.engine.limits.settings import Limits
from xobackup.engine.run import run_job
from xobackup.simpool import SimPool

NARROW = Limits(
    vms_max=1, snapshots_per_pool=1, snapshots_per_sr=1, transfers_per_pool=1, transfers_per_sr=1, deletions_per_sr=1
)


def test_a_group_larger_than_every_limit_gets_through(lab, pool: SimPool) -> None:
    for _ in range(2):
        lab.clock.advance(3600)
        lab.pool.gc()
        report = run_job(lab.job(), replace(lab.world(), limits=ProcessLimits(limits=NARROW)))
        assert report.outcome is Outcome.OK, lab.why(report)
        assert report.group is not None and len(report.group.vms) == 3
    lab.assert_tidy()


def test_nobody_is_frozen_while_the_group_waits_for_its_places(lab, pool: SimPool) -> None:
    """Another snapshot on the SR is under way until the group is seen to wait for it."""
    process = ProcessLimits(limits=Limits(snapshots_per_sr=1))
    sr = pool.model.get("SR", pool.default_sr)
    gate = Gate(key=f"sr {sr['uuid']} snapshots being taken", name="SR", what="snapshots being taken", room=1)
    world = replace(lab.world(), limits=process)
    frozen: list[bool] = []
    entered, waits = threading.Event(), threading.Event()

    def note() -> bool:
        return any("snapshots being taken" in snapshot.note for snapshot in world.progress.snapshots())

    def other() -> None:
        with process.room.through((gate,), CancelToken(), told=lambda _what: None):
            entered.set()
            for _ in range(4000):
                if note():
                    break
                waits.wait(0.005)
            frozen.append(any(event.phase == "freeze" for event in lab.journal.of(events.PhaseBegan)))

    thread = threading.Thread(target=other)
    thread.start()
    assert entered.wait(20)
    report = run_job(lab.job(selector=Selector(include=(VmRule(tag="erp"),))), world)
    thread.join(20)
    assert report.outcome is Outcome.OK, lab.why(report)
    assert frozen == [False]
