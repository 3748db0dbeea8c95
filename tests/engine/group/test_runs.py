"""Groups in real runs: snapshots before exports, all or none (or who is left), one group on the remote."""

import random
from dataclasses import replace

import pytest

from remotes.faults import Cut, Faults, Moment, PowerCut
from remotes.faulty import FaultyRemote
from remotes.memory import MemoryRemote
from xobackup.engine import events
from xobackup.engine.errors import Outcome
from xobackup.engine.job import Consistent, IfOneFails, Selector, VmRule
from xobackup.engine.run import run_job
from xobackup.repository.metadata import RestorePoint
from xobackup.simpool import SimPool
from xotest.hook_log import HookLog
from xotest.xo_rules import assert_conformant, assert_nothing

ERP = ("app", "db", "guest")
ONLY_ERP = Selector(include=(VmRule(tag="erp"),))


def reports(report):
    return {vm.name: vm for vm in report.vms}


def newest(lab, name: str) -> RestorePoint:
    return lab.points_of(name)[-1]


def tidy(lab, *, points: int, snapshots: int = 1) -> None:
    """Everybody has so many points, one snapshot as a base, and nothing else is left."""
    lab.assert_tidy()
    for name in (*ERP, "other"):
        assert len(lab.points_of(name)) == points and len(lab.snapshots_of(name)) == snapshots, name
    assert_nothing(lab.remotes["nas"])
    assert_conformant(lab.remotes["nas"])
    assert not list((lab.directory / "state" / "frozen").glob("*"))


def test_all_snapshots_come_before_the_first_export_and_all_points_are_one_group(lab, pool: SimPool) -> None:
    report = lab.run()
    group = report.group
    assert group is not None and sorted(group.vms) == sorted(lab.named(name) for name in ERP) and not group.left_out
    phases = [(e.phase, e.vm) for e in lab.journal.of(events.PhaseBegan) if e.vm in group.vms]
    order = [phase for phase, _ in phases]
    for earlier, later in (("prepare", "freeze"), ("freeze", "snapshot"), ("snapshot", "thaw"), ("thaw", "transfer")):
        assert max(i for i, p in enumerate(order) if p == earlier) < order.index(later), (earlier, later)
    points = [newest(lab, name) for name in ERP]
    assert {point.group for point in points} == {group.id} and len({point.id for point in points}) == 1
    assert all(sorted(point.group_vms) == sorted(group.vms) for point in points)
    assert newest(lab, "other").group == "" and reports(report)["other"].group == ""
    assert [event.group for event in lab.journal.of(events.GroupTaken)] == [group.id]
    tidy(lab, points=1)


def test_the_next_runs_are_deltas_of_another_group(lab) -> None:
    first, second = lab.run().group, lab.run().group
    assert first and second and first.id != second.id
    assert all(vm.deltas == 1 for vm in lab.run().vms)
    assert len({point.group for point in lab.points_of("db")}) == 3
    tidy(lab, points=3)


def test_full_backups_are_groups_too(lab) -> None:
    lab.with_settings(mode="full")
    group = lab.run().group
    assert group and {newest(lab, name).group for name in ERP} == {group.id}
    tidy(lab, points=1, snapshots=0)


def test_a_group_of_all_vms_and_one_of_none(lab) -> None:
    lab.consistent = Consistent()
    group = lab.run().group
    assert group and len(group.vms) == 4
    lab.consistent = Consistent(tag="nobody")
    assert lab.run().group is None


def test_a_member_that_cannot_be_snapshotted_stops_all_before_any_export(lab, pool: SimPool) -> None:
    pool.call("VM.add_to_blocked_operations", pool.vm_named("db"), "snapshot", "not now")
    report = lab.run(expect="some-failed")
    assert report.group is None
    assert {name: vm.outcome for name, vm in reports(report).items()} == {
        "app": Outcome.FAILED,
        "db": Outcome.FAILED,
        "guest": Outcome.FAILED,
        "other": Outcome.OK,
    }
    assert "consistent group cannot be backed up without db: " in reports(report)["app"].reason
    assert not lab.points_of("app") and not lab.snapshots_of("app") and not lab.snapshots_of("guest")
    pool.call("VM.remove_from_blocked_operations", pool.vm_named("db"), "snapshot")
    lab.assert_tidy()
    lab.run()
    assert newest(lab, "db").group


def test_going_on_without_a_member_is_told(lab, pool: SimPool) -> None:
    lab.consistent = replace(lab.consistent, if_one_fails=IfOneFails.GO_ON)
    pool.call("VM.add_to_blocked_operations", pool.vm_named("db"), "snapshot", "not now")
    report = lab.run(expect="some-failed")
    assert report.group is not None and list(report.group.left_out) == ["db"] and len(report.group.vms) == 2
    assert newest(lab, "app").group == report.group.id and lab.named("db") not in newest(lab, "app").group_vms
    assert not lab.points_of("db")
    pool.call("VM.remove_from_blocked_operations", pool.vm_named("db"), "snapshot")
    lab.assert_tidy()


def test_hooks_freeze_all_before_the_first_snapshot_and_thaw_all_after_the_last(lab, log: HookLog) -> None:
    lab.hooks = log.all()
    report = lab.run()
    erp = [line for line in log.lines if line[1] in ERP and line[0].endswith("snapshot")]
    assert [line[0] for line in erp] == ["before-snapshot"] * 3 + ["after-snapshot"] * 3
    assert {line[3] for line in erp} == {report.group.id}
    assert {line[3] for line in log.lines if line[0] == "after-vm"} == {report.group.id, ""}


def test_a_hook_that_says_no_for_one_thaws_all(lab, log: HookLog) -> None:
    lab.hooks = log.all(before_snapshot="fail db")
    report = lab.run(expect="some-failed")
    thawed = [(line[1], line[2]) for line in log.lines if line[0] == "after-snapshot" and line[1] in ERP]
    assert sorted(thawed) == [("app", "failed"), ("db", "failed"), ("guest", "failed")]
    assert report.group is None and not any(lab.snapshots_of(name) for name in ERP)


def test_what_failed_for_a_passing_reason_is_tried_again_as_a_whole(lab, pool: SimPool) -> None:
    lab.with_settings(retries=1)
    lab.selector = ONLY_ERP
    pool.faults.fail_call("VM.snapshot", "INTERNAL_ERROR", ["boom"], skip=1)
    report = lab.run()
    assert report.group is not None and len(report.group.vms) == 3
    assert {vm.attempts for vm in report.vms} == {2}
    lab.assert_tidy()
    assert all(len(lab.points_of(name)) == len(lab.snapshots_of(name)) == 1 for name in ERP)


def test_an_export_that_breaks_is_tried_again_from_the_groups_snapshot(lab, pool: SimPool) -> None:
    lab.with_settings(retries=1)
    lab.selector = ONLY_ERP
    pool.faults.break_transfer("export", after_bytes=3000, how="drop", times=1)
    report = lab.run()
    assert pool.journal.count("Async.VM.snapshot") == 3, "no second snapshot of anybody"
    assert sorted(vm.attempts for vm in report.vms) == [1, 1, 2]
    assert {newest(lab, name).group for name in ERP} == {report.group.id}
    assert len({newest(lab, name).id for name in ERP}) == 1
    lab.assert_tidy()
    assert all(vm.deltas == 1 for vm in lab.run().vms), "that snapshot is a good base"


@pytest.mark.parametrize("retries", [0, 1])
def test_an_export_that_keeps_breaking_leaves_the_others_their_points(lab, pool: SimPool, retries: int) -> None:
    lab.with_settings(retries=retries, vms_max=1)
    pool.faults.break_transfer("export", after_bytes=3000, how="drop", times=1)
    if retries:
        pool.faults.break_transfer("export", after_bytes=3000, how="drop", times=1)
    report = lab.run(expect="some-failed" if not retries else "ok")
    assert report.group is not None
    lab.assert_tidy()
    for name in ERP:
        assert len(lab.snapshots_of(name)) == len(lab.points_of(name))


def test_stopped_between_the_snapshots_and_the_exports_nothing_is_left(lab) -> None:
    class Stopper:
        def write(self, event: events.Event) -> None:
            if isinstance(event, events.GroupTaken):
                lab.cancel.cancel("stopped by a test")

        def close(self) -> None: ...

    lab.more_sinks = (Stopper(),)
    report = lab.run(expect="cancelled")
    assert all(vm.outcome is Outcome.FAILED for vm in report.vms if vm.name != "other")
    lab.assert_tidy()
    assert not any(lab.snapshots_of(name) for name in ERP)


def test_stopped_while_a_retry_is_waited_for_drops_the_kept_snapshot(lab, pool: SimPool) -> None:
    lab.with_settings(retries=3, vms_max=1)
    pool.faults.break_transfer("export", after_bytes=3000, how="drop", times=1)

    class Stopper:
        def write(self, event: events.Event) -> None:
            if isinstance(event, events.Failed) and event.will_retry:
                lab.cancel.cancel("stopped by a test")

        def close(self) -> None: ...

    lab.more_sinks = (Stopper(),)
    lab.run(expect="cancelled")
    lab.assert_tidy()
    for name in ERP:
        assert len(lab.snapshots_of(name)) == len(lab.points_of(name)), name


@pytest.mark.slow
def test_power_cuts_of_the_repository_never_cost_a_published_point(lab) -> None:
    lab.with_settings(retention=2)
    for _ in range(2):
        lab.run()
    for number in range(1, 200, 19):
        remote = lab.remotes["nas"]
        assert isinstance(remote, MemoryRemote)
        known = {(name, point.id) for name in ERP for point in lab.points_of(name)}
        rng = random.Random(number)
        faults = Faults(cut=Cut(at=number, moment=Moment.DURING if number % 2 else Moment.BEFORE), rng=rng)
        lab.remotes["nas"] = FaultyRemote(remote, faults)
        lab.clock.advance(3600)
        lab.pool.gc()
        try:
            run_job(lab.job(), lab.world())
        except PowerCut:
            assert faults.cut_operation
        if faults.cut_operation is None:
            lab.remotes["nas"] = remote
            break
        lab.remotes["nas"] = remote.survivor(rng)
        left = {(name, point.id) for name in ERP for point in lab.points_of(name)}
        oldest = {name: min(id_ for other, id_ in known if other == name) for name in ERP}
        assert known - left <= {(name, oldest[name]) for name in ERP}, "only retention takes points"
        lab.clock.advance(60)
        report = lab.run()
        assert all(vm.deltas == 1 and not vm.fulls for vm in report.vms)
        tidy(lab, points=2)
    assert number > 40
