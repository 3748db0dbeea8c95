"""Hooks around real runs: when, with what, and what their failures and a stopped or crashed run mean."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from xobackup.engine import events
from xobackup.engine.active import Active, marked_active
from xobackup.engine.errors import Outcome
from xobackup.engine.hooks.hook import Hook, IfItFails, When
from xobackup.engine.job import Selector, VmRule
from xobackup.engine.run import plan_job, run_job
from xobackup.simpool import DiskSpec, PoolSpec, SimPool, VmSpec
from xotest.hook_log import HookLog
from xotest.hook_server import hook_server
from xotest.lab import MIB, Lab, only


@pytest.fixture
def log(tmp_path: Path) -> HookLog:
    return HookLog(tmp_path)


def leftovers(lab: Lab) -> list[Path]:
    return list((lab.directory / "state" / "frozen").glob("*"))


def test_every_moment_has_its_turn(lab: Lab, log: HookLog) -> None:
    lab.hooks = log.all()
    report = lab.run()
    assert log.moments == ["before-run", "before-snapshot", "after-snapshot", "after-vm", "after-run"]
    assert log.lines[3][1:3] == ["guest", "ok"] and log.lines[4][1:3] == ["", "ok"]
    assert [one.on for one in report.hooks] == ["before-run", "after-run"]
    assert [one.on for one in only(report).hooks] == ["before-snapshot", "after-snapshot", "after-vm"]
    began = [event.on for event in lab.journal.of(events.HookBegan)]
    assert began == [event.on for event in lab.journal.of(events.HookEnded)] == log.moments
    assert not leftovers(lab)
    lab.check()


def test_the_snapshot_lies_between_its_hooks(lab: Lab, log: HookLog, pool: SimPool) -> None:
    lab.hooks = log.all()
    lab.run()
    kinds = [
        event.on if isinstance(event, events.HookEnded) else event.phase
        for event in lab.journal.events
        if isinstance(event, events.HookEnded | events.PhaseBegan)
    ]
    assert kinds.index("before-snapshot") < kinds.index("snapshot") < kinds.index("after-snapshot")
    assert kinds.index("after-snapshot") < kinds.index("transfer")


def test_a_hook_that_says_no_keeps_the_vm_from_being_touched_and_thaws(lab: Lab, log: HookLog, pool: SimPool) -> None:
    lab.hooks = log.all(before_snapshot="fail")
    vm = only(lab.run(expect="failed"))
    assert "before-snapshot" in vm.reason and "exit code 7: it said no" in vm.reason
    assert log.moments == ["before-run", "before-snapshot", "after-snapshot", "on-failure", "after-vm", "after-run"]
    assert log.lines[2][2] == "failed" and "it said no" in log.lines[3][4]
    assert lab.snapshots() == [] and lab.points() == [] and not leftovers(lab)
    lab.assert_tidy()
    lab.hooks = ()
    lab.run()


def test_a_failure_that_is_a_warning_stops_nothing(lab: Lab, log: HookLog) -> None:
    lab.hooks = tuple(
        replace(hook, if_it_fails=IfItFails.WARN)
        for hook in log.all(before_run="fail", before_snapshot="fail", after_snapshot="fail", after_vm="fail")
    )
    report = lab.run()
    assert [one.ok for one in only(report).hooks] == [False, False, False] and not report.hooks[0].ok
    lab.check()


def test_a_failure_after_the_snapshot_may_stop_the_vm(lab: Lab, log: HookLog) -> None:
    lab.hooks = (log.hook(When.AFTER_SNAPSHOT, "fail"),)
    vm = only(lab.run(expect="failed"))
    assert "after-snapshot" in vm.reason and lab.points() == [] and lab.snapshots() == []


def test_a_failure_after_the_vm_makes_it_count_as_failed_but_keeps_its_point(lab: Lab, log: HookLog) -> None:
    lab.hooks = (log.hook(When.AFTER_VM, "fail"),)
    vm = only(lab.run(expect="failed"))
    assert "after-vm" in vm.reason and vm.points and len(lab.points()) == 1
    assert [event.outcome for event in lab.journal.of(events.VmEnded)] == ["failed"]
    lab.check()


def test_a_run_that_may_not_begin_touches_nothing_but_ends_properly(lab: Lab, log: HookLog, pool: SimPool) -> None:
    lab.hooks = log.all(before_run="fail")
    report = lab.run(expect="failed")
    assert report.vms == () and "before-run" in report.problems[0]
    assert log.moments == ["before-run", "on-failure", "after-run"] and log.lines[2][2] == "failed"
    assert [event.outcome for event in lab.journal.of(events.RunEnded)] == ["failed"]


def test_what_concerns_no_vm_is_told_to_on_failure(lab: Lab, log: HookLog) -> None:
    lab.hooks = log.all()
    address = replace(lab.address, url="https://127.0.0.1:9")
    lab.run(expect="failed", pools=(replace(lab.job().pools[0], address=address),))
    assert log.moments == ["before-run", "on-failure", "after-run"]
    assert "pool lab" in log.lines[1][4]


def test_the_last_word_on_a_vm_comes_after_its_last_attempt(lab: Lab, log: HookLog, pool: SimPool) -> None:
    lab.hooks = log.all()
    lab.with_settings(retries=1)
    pool.faults.break_transfer("export", after_bytes=3000, how="drop", times=1)
    lab.run()
    snapshots = ["before-snapshot", "after-snapshot"]
    assert log.moments == ["before-run", *snapshots, *snapshots, "after-vm", "after-run"]


def test_a_snapshot_that_fails_is_thawed_with_its_error(lab: Lab, log: HookLog, pool: SimPool) -> None:
    lab.hooks = log.all()
    pool.faults.fail_call("VM.snapshot", "SR_BACKEND_FAILURE_44", ["", "There is insufficient space", ""])
    lab.run(expect="failed")
    (thawed,) = [line for line in log.lines if line[0] == "after-snapshot"]
    assert thawed[2] == "failed" and "insufficient space" in thawed[4]
    assert not leftovers(lab)


def test_a_vm_that_is_refused_before_it_is_begun_has_only_the_hooks_for_a_failure(
    lab: Lab, log: HookLog, pool: SimPool
) -> None:
    lab.run()
    for snapshot in list(pool.model.get("VM", lab.vm)["snapshots"]):
        pool.call("VM.destroy", snapshot)
    for ref, vdi in list(pool.model.records("VDI").items()):
        if vdi["is_a_snapshot"]:
            pool.call("VDI.destroy", ref)
    lab.hooks = log.all()
    lab.with_settings(unexpected_fulls_max=0)
    lab.run(expect="failed")
    assert log.moments == ["before-run", "on-failure", "after-run"] and "unexpectedly" in log.lines[1][4]


@pytest.fixture
def stopping(lab: Lab, log: HookLog) -> Iterator[Lab]:
    """Stops the run as soon as the first line is in the log, from the journal's own thread."""

    class Stopper:
        def write(self, event: events.Event) -> None:
            if isinstance(event, events.HookBegan) and event.on == "before-snapshot":
                lab.cancel.cancel("stopped by a test")

        def close(self) -> None: ...

    lab.more_sinks = (Stopper(),)
    yield lab


def test_a_run_stopped_while_a_hook_runs_ends_it_and_thaws(stopping: Lab, log: HookLog) -> None:
    stopping.hooks = log.all(before_snapshot="sleep")
    vm = only(stopping.run(expect="cancelled"))
    assert vm.outcome is Outcome.FAILED and "stopped by a test" in vm.reason
    assert [line for line in log.moments if line != "before-snapshot"] == [
        "before-run",
        "after-snapshot",
        "after-vm",
        "after-run",
    ]
    assert [line[2] for line in log.lines if line[0] in ("after-snapshot", "after-vm", "after-run")] == [
        "cancelled"
    ] * 3
    assert stopping.snapshots() == [] and not leftovers(stopping)
    stopping.assert_tidy()


def test_a_hook_that_hangs_is_killed_in_time(lab: Lab, log: HookLog) -> None:
    lab.hooks = (log.hook(When.BEFORE_SNAPSHOT, "sleep", timeout_s=0.3), log.hook(When.AFTER_SNAPSHOT))
    assert "did not end within 0.3 s" in only(lab.run(expect="failed")).reason
    assert log.moments == ["before-snapshot", "after-snapshot"]


def test_a_guest_left_frozen_by_a_crash_is_thawed_by_the_next_run_of_the_job(lab: Lab, log: HookLog) -> None:
    lab.hooks = (log.hook(When.AFTER_SNAPSHOT, "fail"),)
    job = lab.job()
    for job_id in (job.id, "another job"):
        mark = Active(
            run_id=f"dead {job_id}",
            job_id=job_id,
            job="nightly",
            pool_uuid=next(iter(lab.pool.model.records("pool").values()))["uuid"],
            vm_uuid=lab.vm_uuid,
            since_s=0,
            kind="frozen",
        )
        crashed(lab.directory / "state" / "frozen", mark)
    lab.run(expect="failed")
    assert log.lines[0][:3] == ["after-snapshot", "guest", "interrupted"]
    assert [event.what for event in lab.journal.of(events.LeftoverCleaned)] == ["a frozen guest"]
    assert len(leftovers(lab)) == 1, "the other job's is left to it"


def crashed(directory: Path, mark: Active) -> None:
    """Leave the mark as a run that was killed does."""
    if os.fork() == 0:
        with marked_active(directory, mark):
            os._exit(0)
    os.wait()


def test_a_url_gets_the_facts_as_json(lab: Lab) -> None:
    with hook_server() as server:
        lab.hooks = (Hook(on=When.AFTER_VM, url=f"{server.origin}/hook?token=t0p", headers=(("X-Api-Key", "k3y"),)),)
        report = lab.run()
        (asked,) = server.asked
    facts = json.loads(asked.body)
    assert facts["vm_name"] == "guest" and facts["outcome"] == "ok" and facts["points"].startswith("nas:2")
    assert asked.headers["X-Api-Key"] == "k3y" and asked.headers["Content-Type"] == "application/json"
    told = str(report) + str(lab.journal.events) + str(lab.hooks) + str(plan_job(lab.job(), lab.world()).hooks)
    assert "t0p" not in told and "k3y" not in told


def test_a_hostile_vm_name_is_only_a_value(tmp_path: Path, log: HookLog) -> None:
    name = f"guest $(touch {tmp_path}/owned); `touch {tmp_path}/owned`"
    disks = (DiskSpec(name="system", size_bytes=2 * MIB),)
    with SimPool.start(tmp_path / "pool", spec=PoolSpec(vms=(VmSpec(name=name, disks=disks),))) as pool:
        lab = Lab(tmp_path, pool, selector=Selector(include=(VmRule(name="guest *"),)), hooks=log.all())
        assert run_job(lab.job(), lab.world()).outcome is Outcome.OK
    assert log.lines[1][1] == name and not (tmp_path / "owned").exists()
