"""VMs that are shut down for their backup: in which order, how long, and always started again."""

import threading
import time
from collections.abc import Callable

import pytest

from xobackup.clock import FakeClock
from xobackup.engine import events, keys
from xobackup.engine.job import FULL
from xobackup.engine.taking.way import OFFLINE_TAG
from xotest.lab import Lab, only
from xotest.power import lifecycle, owes_nothing, state_of

Make = Callable[..., Lab]


class Unhurried(FakeClock):
    """Its sleeps take a moment."""

    def sleep(self, seconds: float) -> None:
        time.sleep(0.02)
        super().sleep(seconds)


def test_it_is_shut_down_snapshot_and_started_before_anything_is_exported(lab: Lab) -> None:
    lab.with_settings(snapshot="offline")
    vm = only(lab.run())
    assert vm.taken == "offline" and lifecycle(lab) == ["clean_shutdown", "snapshot", "start"]
    order = [entry.method for entry in lab.pool.journal.entries()]
    assert order.index("Async.VM.start") < order.index("GET /export_raw_vdi")
    assert owes_nothing(lab) and not vm.warnings
    assert lab.journal.of(events.VmShutDown) and lab.journal.of(events.VmStarted)
    lab.write(0, 0, b"later")
    assert only(lab.run()).deltas == 1
    lab.check()
    lab.assert_tidy()


def test_the_restore_point_shows_a_vm_that_was_at_rest(lab: Lab) -> None:
    lab.with_settings(snapshot="offline")
    lab.run()
    point = lab.points()[0].metadata
    assert point["vmSnapshot"]["snapshot_info"]["power-state-at-snapshot"] == "Halted"
    assert keys.SHUTDOWN not in {**point["vm"]["other_config"], **point["vmSnapshot"]["other_config"]}


def test_a_halted_vm_stays_halted(make_lab: Make) -> None:
    lab = make_lab(power_state="Halted")
    lab.with_settings(snapshot="offline")
    assert only(lab.run()).taken == "offline"
    assert lifecycle(lab) == ["snapshot"] and state_of(lab) == "Halted"


def test_the_tag_of_xen_orchestra_asks_for_it(make_lab: Make) -> None:
    lab = make_lab(tags=(OFFLINE_TAG,))
    assert only(lab.run()).taken == "offline" and owes_nothing(lab)


def test_an_offline_backup_exports_the_vm_itself_and_starts_it_again(lab: Lab) -> None:
    lab.with_settings(mode=FULL, offline_backup=True, compression="none")
    vm = only(lab.run())
    assert vm.taken == "without" and lifecycle(lab) == ["clean_shutdown", "start"]
    order = [entry.method for entry in lab.pool.journal.entries()]
    assert order.index("GET /export") < order.index("Async.VM.start")
    assert owes_nothing(lab) and not lab.snapshots()
    point = lab.points()[0]
    assert point.metadata["vmSnapshot"]["uuid"] == lab.vm_uuid, "as Xen Orchestra says of such backups"
    assert not point.metadata["vmSnapshot"]["blocked_operations"]
    assert keys.SHUTDOWN not in point.metadata["vmSnapshot"]["other_config"]
    lab.check()
    lab.assert_tidy()


def test_a_guest_that_refuses_fails_its_vm_and_runs_on(make_lab: Make) -> None:
    lab = make_lab(shutdown="refuses")
    lab.with_settings(snapshot="offline")
    vm = only(lab.run(expect="failed"))
    assert "could not be shut down for its backup" in vm.reason and "VM_FAILED_SHUTDOWN" in vm.reason
    assert "hard_shutdown_allowed" in vm.hint
    assert lifecycle(lab) == ["clean_shutdown"] and owes_nothing(lab) and not lab.points()
    lab.assert_tidy()


def test_it_is_switched_off_only_where_the_job_allows_it(make_lab: Make) -> None:
    lab = make_lab(shutdown="refuses")
    lab.with_settings(snapshot="offline", hard_shutdown_allowed=True)
    vm = only(lab.run())
    assert lifecycle(lab) == ["clean_shutdown", "hard_shutdown", "snapshot", "start"]
    assert any("switched off" in warning for warning in vm.warnings) and owes_nothing(lab)


def test_a_slow_guest_is_waited_for(make_lab: Make) -> None:
    lab = make_lab(shutdown="0.2")
    lab.with_settings(snapshot="offline")
    assert only(lab.run()).taken == "offline" and owes_nothing(lab)


def test_a_guest_that_is_too_slow_is_refused_and_started_when_it_went_down_after_all(make_lab: Make) -> None:
    lab = make_lab(shutdown="0.4")
    lab.clock = Unhurried()  # the guest lives in real time
    lab.with_settings(snapshot="offline", shutdown_wait_s=0.1)
    vm = only(lab.run(expect="failed"))
    assert "did not shut down for its backup within 0.1 s" in vm.reason
    assert owes_nothing(lab), "it was watched until it was down, and started"
    assert lifecycle(lab) == ["clean_shutdown", "start"]
    lab.assert_tidy()


def test_one_that_goes_down_when_the_run_is_over_is_started_by_the_next_run(make_lab: Make, monkeypatch) -> None:
    monkeypatch.setattr("xobackup.engine.taking.power.FOLLOW_S", 0.0)
    lab = make_lab(shutdown="0.5")
    lab.with_settings(snapshot="offline", shutdown_wait_s=0.1)
    vm = only(lab.run(expect="failed"))
    assert state_of(lab) == "Running" and any("runs on" in warning for warning in vm.warnings)
    deadline = time.monotonic() + 10
    while state_of(lab) != "Halted" and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    lab.run(expect="ok", name="another", settings=lab.settings.__class__(retention=2))
    assert owes_nothing(lab)


def test_a_vm_that_cannot_be_started_fails_though_its_backup_is_there(lab: Lab) -> None:
    lab.with_settings(snapshot="offline")
    lab.pool.faults.fail_call("VM.start", "HOST_NOT_ENOUGH_FREE_MEMORY", ["1", "0"], times=6)
    vm = only(lab.run(expect="failed"))
    assert vm.points, "the backup went on"
    assert "could not be started again" in vm.reason and state_of(lab) == "Halted"
    lab.with_settings(snapshot="disk")
    lab.run()
    assert owes_nothing(lab), "the next run has started it"
    lab.check()


def test_a_start_that_fails_once_is_tried_again(lab: Lab) -> None:
    lab.with_settings(snapshot="offline")
    lab.pool.faults.fail_call("VM.start", "HOST_NOT_ENOUGH_FREE_MEMORY", ["1", "0"], times=2)
    assert only(lab.run()).taken == "offline" and owes_nothing(lab)


@pytest.mark.parametrize("offline_backup", [False, True])
def test_a_transfer_that_breaks_leaves_the_vm_running(lab: Lab, offline_backup: bool) -> None:
    if offline_backup:
        lab.with_settings(mode=FULL, offline_backup=True)
    else:
        lab.with_settings(snapshot="offline")
    lab.pool.faults.break_transfer("export_vm" if offline_backup else "export", after_bytes=3000, how="drop")
    lab.run(expect="failed")
    assert owes_nothing(lab)
    lab.assert_tidy()


@pytest.mark.parametrize("lost", ["Async.VM.clean_shutdown", "Async.VM.start", "VM.add_to_other_config"])
def test_an_answer_that_is_lost_never_leaves_it_off(lab: Lab, lost: str) -> None:
    lab.with_settings(snapshot="offline", retries=1)
    lab.pool.faults.lose_answer(lost, skip=1 if lost.startswith("VM.") else 0)
    lab.run()
    assert owes_nothing(lab)
    lab.assert_tidy()


@pytest.mark.parametrize("moment", ["Async.VM.clean_shutdown", "Async.VM.snapshot", "GET /export_raw_vdi"])
def test_stopping_the_run_starts_the_vm(make_lab: Make, moment: str) -> None:
    lab = make_lab(shutdown="0.2")
    lab.with_settings(snapshot="offline")
    if moment.startswith("GET"):
        lab.pool.faults.act_at("Async.VM.start", lambda: lab.cancel.cancel("stopped by SIGTERM"))
    else:
        lab.pool.faults.act_at(moment, lambda: lab.cancel.cancel("stopped by SIGTERM"))
    lab.run(expect="cancelled")
    assert owes_nothing(lab) and not lab.points()
    lab.assert_tidy()
