"""The real process, killed between a group's snapshots and its exports, in its exports, and while it is frozen."""

import signal

import pytest

from xobackup.engine import events
from xobackup.engine.hooks.hook import When
from xotest.hook_log import HookLog
from xotest.killed import let_the_lock_go_stale, run_child

VMS = ("app", "db", "guest", "other")


@pytest.fixture
def stored(lab):
    lab.consistent = type(lab.consistent)()
    lab.on_disk()
    lab.run()
    lab.write(0, 0, b"before the trouble")
    return lab


def recovers(lab, *, hooks=()) -> None:
    let_the_lock_go_stale(lab)
    newest_s = max(point.timestamp_ms for vm in VMS for point in lab.points_of(vm)) / 1000
    lab.clock.advance(max(0.0, newest_s - lab.clock.now_s()))  # the child has a real clock
    lab.write(0, 0, b"after the trouble")
    lab.hooks = hooks
    report = lab.run()
    assert all(vm.deltas == 1 and not vm.fulls for vm in report.vms), "a killed run is no reason for a full"
    assert report.group is not None and len(report.group.vms) == 4
    lab.check()
    lab.assert_tidy()
    assert [len(lab.snapshots_of(name)) for name in VMS] == [1] * 4


@pytest.mark.parametrize(("operation", "name"), [("create", "*.part"), ("put", "*Z.json.part")])
def test_killed_before_any_point_of_the_group(stored, operation: str, name: str) -> None:
    done = run_child(stored, number=signal.SIGKILL, at=1, operation=operation, name=name, vms="*", consistent=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [len(stored.snapshots_of(vm)) for vm in VMS] == [2] * 4, "all had their snapshot"
    recovers(stored)
    cleaned = {event.vm for event in stored.journal.of(events.LeftoverCleaned) if "snapshot" in event.what}
    assert cleaned == {stored.named(vm) for vm in VMS}
    assert [len(stored.points_of(vm)) for vm in VMS] == [2] * 4


def test_killed_when_one_had_its_point_the_others_begin_again(stored) -> None:
    done = run_child(
        stored, number=signal.SIGKILL, at=3, operation="rename", name="*Z.json.part", vms="*", consistent=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert sum(len(stored.points_of(vm)) for vm in VMS) == 4 + 2
    recovers(stored)


def test_killed_while_frozen_the_next_run_thaws(stored, log: HookLog) -> None:
    kill = ("before-snapshot", ["/bin/sh", "-c", "kill -KILL $PPID"])
    done = run_child(stored, number=signal.SIGKILL, at=1 << 30, vms="*", consistent=True, hooks=[kill])
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list((stored.directory / "state" / "frozen").iterdir())
    recovers(stored, hooks=(log.hook(When.AFTER_SNAPSHOT),))
    outcomes = [line[2] for line in log.lines]
    assert "interrupted" in outcomes and outcomes[-4:] == ["ok"] * 4
    assert not list((stored.directory / "state" / "frozen").iterdir())
