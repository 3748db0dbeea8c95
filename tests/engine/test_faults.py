"""Everything that can go wrong around a backup: each a clear error, nothing lost, the next run a success."""

from dataclasses import replace
from pathlib import Path

import pytest

from remotes import errors
from remotes.faults import Fault, Faults
from remotes.faulty import FaultyRemote
from remotes.memory import MemoryRemote
from xobackup.engine import events, keys
from xobackup.engine.active import Active, marked_active
from xobackup.engine.errors import Outcome
from xobackup.engine.job import PoolTarget
from xobackup.engine.run import run_job
from xobackup.simpool import SimPool
from xotest.lab import MIB, TIMEOUTS, Lab, only


def recovers(lab: Lab, *, deltas: int | None = None) -> None:
    """The next run succeeds, and everything that was ever published is as it was."""
    lab.write(0, 0, b"after the trouble")
    vm = only(lab.run())
    if deltas is not None:
        assert vm.deltas == deltas
    lab.check()
    lab.assert_tidy()


@pytest.mark.parametrize(
    ("how", "after_bytes"),
    [("error", 0), ("error", 1_500_000), ("drop", 3000), ("end", 3000), ("end", 1_500_000), ("lie", 1_500_000)],
)
def test_an_export_that_breaks_fails_the_vm_and_leaves_nothing(
    lab: Lab, pool: SimPool, how: str, after_bytes: int
) -> None:
    pool.faults.break_transfer("export", after_bytes=after_bytes, how=how)
    vm = only(lab.run(expect="failed"))
    assert vm.reason and not vm.points
    assert lab.points() == [] and lab.snapshots() == []
    recovers(lab)


def test_a_delta_that_breaks_keeps_its_base(lab: Lab, pool: SimPool) -> None:
    lab.run()
    lab.write(0, 0, b"x" * MIB)
    lab.write(1, 0, b"y" * MIB)
    pool.faults.break_transfer("export", after_bytes=100_000, how="drop")
    lab.run(expect="failed")
    assert len(lab.points()) == 1
    recovers(lab, deltas=2)
    assert not lab.journal.of(events.FellBackToFull)


def test_a_failed_vm_is_tried_again_and_has_one_verdict(lab: Lab, pool: SimPool) -> None:
    lab.with_settings(retries=2)
    pool.faults.break_transfer("export", after_bytes=3000, how="drop", times=1)
    vm = only(lab.run())
    assert vm.outcome is Outcome.OK and vm.attempts == 2
    assert [event.will_retry for event in lab.journal.of(events.Failed)] == [True]
    assert [event.outcome for event in lab.journal.of(events.VmEnded)] == ["ok"]
    lab.check()


@pytest.mark.parametrize(
    ("method", "code", "params", "words"),
    [
        ("VM.snapshot", "SR_BACKEND_FAILURE_44", ["", "There is insufficient space", ""], "insufficient space"),
        ("VM.snapshot", "VDI_IN_USE", ["OpaqueRef:x", "snapshot"], "VDI_IN_USE"),
        ("VM.set_name_label", "INTERNAL_ERROR", ["boom"], "boom"),
        ("VDI.set_other_config", "RBAC_PERMISSION_DENIED", ["p", "no"], "RBAC_PERMISSION_DENIED"),
    ],
)
def test_a_call_the_pool_refuses_fails_the_vm_and_leaves_nothing(
    lab: Lab, pool: SimPool, method: str, code: str, params: list[str], words: str
) -> None:
    pool.faults.fail_call(method, code, params, times=TIMEOUTS.busy_tries if code == "VDI_IN_USE" else 1)
    vm = only(lab.run(expect="failed"))
    assert words in vm.reason and vm.hint
    assert lab.snapshots() == []
    lab.assert_tidy()
    recovers(lab)


@pytest.mark.parametrize("method", ["VM.snapshot", "VM.destroy", "VDI.destroy", "VDI.set_other_config"])
def test_an_answer_that_got_lost_is_survived(lab: Lab, pool: SimPool, method: str) -> None:
    lab.run()
    pool.faults.lose_answer(f"*{method}")
    lab.clock.advance(3600)
    lab.write(0, 0, b"z")
    run_job(lab.job(), lab.world())
    recovers(lab)


def test_sessions_that_expire_in_the_middle_are_renewed(lab: Lab, pool: SimPool) -> None:
    pool.faults.expire_session_at("VM.set_name_label")
    lab.run()
    lab.check()


def test_a_disk_still_attached_after_its_transfer_is_waited_for(lab: Lab, pool: SimPool) -> None:
    lab.run()
    pool.faults.linger("export", 0.3, times=2)
    lab.run()
    lab.run()
    assert len(lab.snapshots()) == 1
    lab.assert_tidy()


def test_a_vm_deleted_in_the_middle_fails_alone(lab: Lab, pool: SimPool) -> None:
    vm = lab.vm
    lab.run()

    class Deleting(MemoryRemote):
        """Deletes the VM when the second transfer begins."""

        def create(self, name: str):
            if name.endswith(".part") and vm in pool.model.records("VM"):
                pool.call("VM.hard_shutdown", vm)
                pool.call("VM.remove_from_blocked_operations", vm, "destroy")
                pool.call("VM.destroy", vm)
            return super().create(name)

    lab.remotes["second"] = Deleting(clock=lab.clock)
    lab.clock.advance(3600)
    report = run_job(lab.job(), lab.world())
    assert only(report).outcome in (Outcome.OK, Outcome.FAILED)
    assert run_job(lab.job(), lab.world()).vms == ()


def test_a_pool_that_is_down_is_a_problem_not_a_crash(lab: Lab) -> None:
    address = replace(lab.address, url="https://127.0.0.1:9")
    report = lab.run(expect="failed", pools=(PoolTarget(name="lab", address=address),))
    assert "pool lab" in report.problems[0] and report.vms == ()


def test_a_wrong_password_is_said_so_and_never_printed(lab: Lab) -> None:
    address = replace(lab.address, password="not-the-password")
    report = lab.run(expect="failed", pools=(PoolTarget(name="lab", address=address),))
    assert "SESSION_AUTHENTICATION_FAILED" in report.problems[0]
    assert "not-the-password" not in str(report) + str(lab.journal.events)
    assert any("password" in event.hint for event in lab.journal.of(events.Failed))


def test_one_pool_down_does_not_stop_the_other(lab: Lab) -> None:
    down = PoolTarget(name="down", address=replace(lab.address, url="https://127.0.0.1:9"))
    up = PoolTarget(name="lab", address=lab.address)
    report = lab.run(expect="some-failed", pools=(down, up))
    assert report.count(Outcome.OK) == 1 and len(report.problems) == 1
    lab.check()


@pytest.mark.parametrize(
    ("error", "operation"),
    [
        (errors.NoSpace, "write_at"),
        (errors.NoSpace, "sync"),
        (errors.NoSpace, "put"),
        (errors.ReadOnly, "write_at"),
        (errors.ReadOnly, "rename"),
    ],
)
def test_a_remote_that_refuses_to_write_fails_clearly(
    lab: Lab, operation: str, error: type[errors.RemoteError]
) -> None:
    inner = lab.remotes["nas"]
    lab.run()
    lab.write(0, 0, b"x" * 100)
    faults = Faults(Fault(error=error, operation=operation, name="xo-vm-backups/*", times=1 << 20))
    lab.remotes["nas"] = FaultyRemote(inner, faults)
    vm = only(lab.run(expect="failed"))
    assert "no space left" in vm.reason or "read-only" in vm.reason, vm.reason
    assert "nas" in vm.reason
    lab.remotes["nas"] = inner
    assert len(lab.points()) == 1
    lab.check(finished=False)
    recovers(lab, deltas=2)


@pytest.mark.parametrize("directories", [False, True])
def test_a_point_published_just_before_the_remote_failed_is_kept_and_continued(lab: Lab, directories: bool) -> None:
    """The JSON is there, but its writer heard of a failure: neither the disks nor their snapshot may be dropped."""
    lab.vhd_directory = directories
    lab.run()
    inner = lab.remotes["nas"]
    lab.write(0, 0, b"x" * 100)
    images = {uuid: lab.pool.disk_sha256(ref) for uuid, ref in lab.disks().items()}
    faults = Faults(Fault(operation="rename", name="*Z.json.part", after=True))
    lab.remotes["nas"] = FaultyRemote(inner, faults)
    lab.run(expect="failed")
    lab.remotes["nas"] = inner
    assert len(lab.points()) == 2
    lab.expected["nas", lab.points()[-1].id] = images
    lab.check(finished=False)
    recovers(lab, deltas=2)
    assert not lab.journal.of(events.FellBackToFull)


def test_a_remote_that_fills_up_drops_out_and_the_other_goes_on(lab: Lab) -> None:
    lab.remotes["small"] = MemoryRemote(clock=lab.clock, capacity_bytes=3 * MIB)
    vm = only(lab.run(expect="failed"))
    assert set(vm.points) == {"nas"} and any("small" in one and "no space left" in one for one in vm.errors)
    lab.check(remotes=("nas",))
    assert lab.points("small") == []
    lab.remotes["small"] = MemoryRemote(clock=lab.clock, label="larger")
    assert only(lab.run()).deltas == 2
    lab.check()


def test_a_remote_that_fails_on_its_own_route_does_not_stop_the_other(lab: Lab) -> None:
    """One remote catches up from an older base, by an export of its own, and fails at that."""
    lab.remotes["late"] = late = MemoryRemote(clock=lab.clock)
    lab.run()
    faults = Faults(Fault(operation="make_directory", times=1 << 20))
    lab.remotes["late"] = FaultyRemote(late, faults)
    lab.write(0, 0, b"missed")
    lab.run(expect="failed")
    faults = Faults(Fault(error=errors.NoSpace, operation="write_at", times=1 << 20))
    lab.remotes["late"] = FaultyRemote(late, faults)
    lab.write(0, 0, b"one route each")
    vm = only(lab.run(expect="failed"))
    assert set(vm.points) == {"nas"} and any("no space" in one for one in vm.errors)
    lab.remotes["late"] = late
    lab.write(0, 0, b"both again")
    assert only(lab.run()).fulls == 0
    lab.check()
    lab.assert_tidy()


def test_two_runs_at_once_are_told_apart_by_the_lock(lab: Lab) -> None:
    lab.run()
    with lab.repository().lock(lab.vm_uuid, purpose="somebody else"):
        report = lab.run(expect="locked", after_s=1)
        assert "lock is held" in only(report).reason and "somebody else" in only(report).reason
        assert only(report).hint
    assert len(lab.snapshots()) == 1
    recovers(lab, deltas=2)


def test_one_locked_remote_of_two_drops_out_and_nothing_on_the_pool_is_cleaned(lab: Lab, pool: SimPool) -> None:
    lab.remotes["other"] = MemoryRemote(clock=lab.clock)
    lab.run()
    theirs = pool.call("VM.snapshot", lab.vm, keys.temporary_name(lab.job().id, "another-run"))
    lab.claim("another-run")
    with lab.repository("other").lock(lab.vm_uuid, purpose="a living run of the same job"):
        vm = only(lab.run(expect="failed", after_s=1))
        assert set(vm.points) == {"nas"}
        assert theirs in pool.model.get("VM", lab.vm)["snapshots"], "it may be the other run's"
    recovers(lab)
    assert "xobackup:active:another-run.0" in pool.model.get("VM", lab.vm)["other_config"]
    assert theirs not in pool.model.get("VM", lab.vm)["snapshots"]


def test_leftovers_of_an_interrupted_run_are_found_and_cleaned(lab: Lab, pool: SimPool) -> None:
    lab.run()
    job = lab.job()
    temporary = pool.call("VM.snapshot", lab.vm, keys.temporary_name(job.id, "dead-run"))
    unfinished = pool.call("VM.snapshot", lab.vm, "named, never exported")
    marks = {keys.JOB: job.id, keys.VM: lab.vm_uuid, keys.RUN: "dead-run", keys.DATETIME: "20260101T05:00:00Z"}
    for ref, cls in ((unfinished, "VM"), (pool.vdis_of(unfinished)[0], "VDI"), (pool.vdis_of(unfinished)[1], "VDI")):
        pool.call(f"{cls}.set_other_config", ref, marks)
    pool.call("VM.add_to_blocked_operations", lab.vm, "pool_migrate", keys.blocked_text(job.id))
    foreign = pool.call("VM.snapshot", lab.vm, "by a human")
    before = len(pool.model.records("VDI"))
    recovers(lab, deltas=2)
    left = {snapshot["name_label"] for snapshot in lab.snapshots()}
    assert left == {"by a human", "[xobackup nightly] guest"}
    assert {temporary, unfinished}.isdisjoint(pool.model.records("VM")) and foreign in pool.model.records("VM")
    assert len(pool.model.records("VDI")) < before + 3
    told = {event.what.split(" ")[0] for event in lab.journal.of(events.LeftoverCleaned)}
    assert told == {"block", "snapshot"}


def test_a_snapshot_published_but_not_marked_is_adopted_as_the_base(lab: Lab, pool: SimPool) -> None:
    """The power went off between publishing and marking: no reason for a full."""
    lab.run()
    snapshot = pool.model.get("VM", lab.vm)["snapshots"][0]
    for ref, cls in [(snapshot, "VM"), *((vdi, "VDI") for vdi in pool.vdis_of(snapshot))]:
        pool.call(f"{cls}.remove_from_other_config", ref, keys.EXPORTED)
    recovers(lab, deltas=2)
    assert any("published" in event.reason for event in lab.journal.of(events.LeftoverCleaned))


def test_a_dead_runs_marks_lead_to_a_vm_that_no_job_selects_any_more(lab: Lab, pool: SimPool) -> None:
    job = lab.job()
    active = Active(
        run_id="dead-run",
        job_id=job.id,
        job=job.name,
        pool_uuid=next(iter(pool.model.records("pool").values()))["uuid"],
        vm_uuid=lab.vm_uuid,
        since_s=0.0,
    )
    directory = lab.directory / "state" / "active"
    with marked_active(directory, active):
        (kept,) = directory.iterdir()
        content = kept.read_bytes()
    kept.write_bytes(content)  # as a killed process leaves it
    pool.call("VM.snapshot", lab.vm, keys.temporary_name(job.id, "dead-run"))
    pool.call("VM.snapshot", lab.vm, keys.temporary_name(job.id, "living-run"))
    lab.claim("living-run", job_id="another job of another machine")
    pool.call("VM.add_to_blocked_operations", lab.vm, "migrate_send", keys.blocked_text(job.id))
    task = pool.call("task.create", keys.task_label("dead-run", "export of system"), "")
    lab.run(selector=replace(lab.selector, include=(replace(lab.selector.include[0], name="nobody"),)))
    assert [snapshot["name_label"] for snapshot in lab.snapshots()] == [keys.temporary_name(job.id, "living-run")]
    assert pool.model.get("VM", lab.vm)["blocked_operations"] == {}
    assert task not in pool.model.records("task") and not list(directory.iterdir())


def test_a_journal_without_an_end_is_closed_by_the_next_start(lab: Lab) -> None:
    lab.run()
    (journal,) = (lab.directory / "state" / "journal").glob("*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:4]))
    lab.run()
    assert b'"run-interrupted"' in journal.read_bytes()


def test_a_clock_that_went_back_is_refused(lab: Lab) -> None:
    lab.run()
    lab.clock.advance(-86400 * 2)
    vm = only(lab.run(expect="failed"))
    assert "in the future" in vm.reason and "clocks" in vm.hint
    lab.clock.advance(86400 * 3)
    recovers(lab, deltas=2)


def test_cancelling_before_the_start_touches_nothing(lab: Lab) -> None:
    lab.cancel.cancel("not today")
    report = lab.run(expect="cancelled")
    assert only(report).outcome is Outcome.FAILED and lab.snapshots() == []


@pytest.mark.parametrize("when", ["create", "write_at", "sync", "put"])
def test_cancelling_in_the_middle_leaves_nothing(lab: Lab, when: str) -> None:
    inner = lab.remotes["nas"]

    class Cancelling(FaultyRemote):
        pass

    def stop(remote: str, name: str) -> BaseException:
        lab.cancel.cancel("stopped by SIGTERM")
        return errors.Unavailable(remote, name, "the write that was under way", transient=True)

    lab.run()
    lab.write(0, 0, b"x" * 5000)
    lab.remotes["nas"] = Cancelling(inner, Faults(Fault(error=stop, operation=when, name="*vdis*", times=1)))
    if when == "put":
        lab.remotes["nas"] = Cancelling(
            inner, Faults(Fault(error=stop, operation="put", name="*Z.json.part", times=1))
        )
    lab.run(expect="cancelled")
    lab.assert_tidy()
    lab.remotes["nas"] = inner
    lab.cancel = type(lab.cancel)()
    recovers(lab, deltas=2)


def test_a_repository_that_is_not_there_is_named(lab: Lab, tmp_path: Path) -> None:
    from xobackup.engine.job import RemoteTarget
    from xobackup.engine.world import real_world

    world = real_world(tmp_path / "state", clock=lab.clock)
    missing = RemoteTarget(name="nas", url=f"file://{tmp_path}/missing")
    report = run_job(lab.job(remotes=(missing,)), world)
    assert report.outcome is Outcome.FAILED and "remote nas" in report.problems[0]


def test_a_vm_in_two_pools_is_backed_up_once_and_said_so(lab: Lab) -> None:
    twice = tuple(PoolTarget(name=name, address=lab.address) for name in ("one", "two"))
    report = lab.run(expect="some-failed", pools=twice)
    assert only(report).outcome is Outcome.OK and "in several pools" in report.problems[0]
    lab.check()


def test_a_task_whose_making_was_not_heard_of_is_ended_with_the_run(lab: Lab, pool: SimPool) -> None:
    pool.faults.lose_answer("task.create")
    lab.run(expect="failed")
    assert not [task for task in pool.model.records("task").values() if task["status"] == "pending"]
    recovers(lab)
