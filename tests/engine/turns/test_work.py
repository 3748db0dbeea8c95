"""A run with VMs that wait, fail and are tried again: others go first, and everybody has one verdict."""

from collections.abc import Callable

import pytest

from xobackup.clock import FakeClock
from xobackup.engine import events
from xobackup.engine.errors import Outcome
from xobackup.engine.job import Selector, VmRule
from xobackup.engine.run import run_job
from xobackup.simpool import SimPool
from xotest.lab import Lab, only

BOTH = Selector(include=(VmRule(name="guest"), VmRule(name="twin")))


def unhealthy(lab: Lab, pool: SimPool) -> None:
    """Snapshots by hand, deleted again: their nodes wait for the storage."""
    for number in range(4):
        pool.call("VM.snapshot", lab.vm, f"by hand {number}")
        lab.write(0, 0, bytes([number]))
    for ref in list(pool.model.get("VM", lab.vm)["snapshots"]):
        if pool.model.get("VM", ref)["name_label"].startswith("by hand"):
            vdis = pool.vdis_of(ref)
            pool.call("VM.destroy", ref)
            for vdi in vdis:
                pool.call("VDI.destroy", vdi)


def on_sleep(lab: Lab, action: Callable[[float], object]) -> None:
    """Something happens while the run sleeps."""

    class Clock(FakeClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            action(self.now_s())

    lab.clock = Clock(lab.clock.now_s() + 3600)


def test_a_vm_with_an_unhealthy_chain_lets_the_others_pass(lab: Lab, pool: SimPool) -> None:
    pool.call("VM.hard_shutdown", lab.vm)
    pool.call("VM.copy", lab.vm, "twin", pool.default_sr)
    pool.call("VM.start", lab.vm, False, False)
    unhealthy(lab, pool)
    start_s = lab.clock.now_s() + 3600
    on_sleep(lab, lambda now_s: now_s > start_s + 100 and pool.gc())
    lab.with_settings(vms_max=1)
    report = run_job(lab.job(selector=BOTH), lab.world())
    assert report.outcome is Outcome.OK
    assert [event.vm_name for event in lab.journal.of(events.VmEnded)] == ["twin", "guest"]
    waited = report.vms[0]
    assert waited.name == "guest" and 100 < waited.chains_waited_s < 150 and waited.attempts == 1
    assert [event.wait_max_s for event in lab.journal.of(events.ChainsAwaited)] == [900]
    assert "the storage to coalesce system on SR" in lab.journal.of(events.Waited)[0].what
    lab.assert_tidy()


def test_a_chain_that_stays_unhealthy_refuses_the_vm_with_what_was_seen(lab: Lab, pool: SimPool) -> None:
    unhealthy(lab, pool)
    sr = pool.default_sr
    pool.call("SR.add_to_other_config", sr, "coalesce", "false")
    began_s = lab.clock.now_s()
    report = run_job(lab.job(), lab.world())
    assert 900 <= lab.clock.now_s() - began_s < 930, "bounded by chain_wait_s"
    vm = only(report)
    assert vm.outcome is Outcome.FAILED and not lab.snapshots()
    assert "watched for 15 min: nothing changed" in vm.reason
    assert vm.reason.endswith("probably because of other-config:coalesce=false of the SR")
    assert vm.chains[0].links > 1 and "take those switches out" in vm.hint
    (ended,) = lab.journal.of(events.VmEnded)
    assert ended.attempts == 1 and [one["error"] for one in ended.tried] == [vm.reason]
    lab.assert_tidy()


def test_stopping_ends_the_wait_for_a_chain(lab: Lab, pool: SimPool) -> None:
    unhealthy(lab, pool)
    start_s = lab.clock.now_s() + 3600
    on_sleep(lab, lambda now_s: now_s > start_s + 60 and lab.cancel.cancel("stopped by SIGTERM"))
    report = run_job(lab.job(), lab.world())
    assert report.outcome is Outcome.CANCELLED and only(report).reason == "stopped by SIGTERM"
    assert lab.clock.now_s() < start_s + 70
    assert len(lab.journal.of(events.VmEnded)) == 1


def test_attempts_are_listed_and_spaced_out(lab: Lab, pool: SimPool) -> None:
    lab.with_settings(retries=2, retry_pause_s=40)
    pool.faults.fail_call("VM.snapshot", "INTERNAL_ERROR", ["it stumbled"], times=2)
    began_s = lab.clock.now_s() + 3600
    vm = only(lab.run())
    assert vm.outcome is Outcome.OK and vm.attempts == 3
    assert [one.number for one in vm.tried] == [1, 2] and all("it stumbled" in one.error for one in vm.tried)
    assert lab.clock.now_s() - began_s >= 40 + 80
    assert [event.retry_in_s for event in lab.journal.of(events.Failed)] == [40, 80]
    (ended,) = lab.journal.of(events.VmEnded)
    assert ended.outcome == "ok" and len(ended.tried) == 2


@pytest.mark.parametrize(
    ("code", "params"), [("SR_BACKEND_FAILURE_109", ["", "too long", ""]), ("LICENCE_RESTRICTION", ["x"])]
)
def test_what_an_operator_has_to_act_on_is_not_tried_again(
    lab: Lab, pool: SimPool, code: str, params: list[str]
) -> None:
    lab.with_settings(retries=3)
    pool.faults.fail_call("VM.snapshot", code, params)
    vm = only(lab.run(expect="failed"))
    assert vm.attempts == 1 and len(vm.tried) == 1
    assert [event.will_retry for event in lab.journal.of(events.Failed)] == [False]
    lab.assert_tidy()


def test_a_pool_that_does_not_answer_meanwhile_costs_a_look_not_the_vm(lab: Lab, pool: SimPool) -> None:
    unhealthy(lab, pool)
    start_s, refused = lab.clock.now_s() + 3600, []

    def later(now_s: float) -> None:
        if now_s > start_s + 20 and not refused:
            refused.append(pool.faults.fail_call("VDI.get_all_records", "INTERNAL_ERROR", ["not now"], times=2))
        if now_s > start_s + 100:
            pool.gc()

    on_sleep(lab, later)
    report = run_job(lab.job(), lab.world())
    assert report.outcome is Outcome.OK and only(report).attempts == 1
    assert refused[0].fired == 2
