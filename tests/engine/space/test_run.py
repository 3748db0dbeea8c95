"""A run where room is short: refused with figures before anything is touched, or warned of, as the job says."""

from remotes.memory import MemoryRemote
from xobackup.engine.run import plan_job
from xobackup.engine.space.judge import Floor, SpaceCheck
from xobackup.simpool import SimPool
from xotest.lab import MIB, Lab, only


def test_a_full_sr_refuses_the_vm_before_its_snapshot(lab: Lab, pool: SimPool) -> None:
    lab.with_settings(space_check=SpaceCheck.REFUSE, sr_free_min=Floor(size_bytes=64 * MIB), retries=3)
    pool.fill_sr(pool.default_sr, 50 * MIB)
    before = len(pool.model.records("VDI"))
    vm = only(lab.run(expect="failed"))
    assert vm.reason.startswith("SR Local storage has 50.0 MiB free") and "less than 64.0 MiB" in vm.reason
    assert "sr_free_min" in vm.hint and vm.attempts == 1
    assert len(pool.model.records("VDI")) == before and not lab.snapshots()
    plan = plan_job(lab.job(), lab.world())
    assert plan.vms[0].refusal == vm.reason
    pool.fill_sr(pool.default_sr, 500 * MIB)
    lab.run()
    lab.check()


def test_a_full_sr_is_only_warned_of_by_default(lab: Lab, pool: SimPool) -> None:
    pool.fill_sr(pool.default_sr, 50 * MIB)
    vm = only(lab.run())
    assert any(warning.startswith("SR Local storage has 50.0 MiB free") for warning in vm.warnings)
    lab.check()


def test_a_remote_without_room_drops_out_and_the_others_go_on(lab: Lab) -> None:
    lab.with_settings(space_check=SpaceCheck.REFUSE, remote_free_min=Floor(size_bytes=30 * MIB))
    lab.remotes["small"] = MemoryRemote(clock=lab.clock, capacity_bytes=20 * MIB)
    vm = only(lab.run(expect="failed"))
    assert set(vm.points) == {"nas"} and "remote small has" in vm.errors[0] and "less than 30.0 MiB" in vm.errors[0]
    (warning,) = plan_job(lab.job(), lab.world()).warnings
    assert warning.startswith("remote small has")
    lab.with_settings(remote_free_min=Floor())
    lab.run()
    lab.check()


def test_no_remote_with_room_fails_the_vm_and_takes_no_snapshot(lab: Lab) -> None:
    lab.with_settings(space_check=SpaceCheck.REFUSE, remote_free_min=Floor(share=0.99))
    lab.remotes["nas"] = MemoryRemote(clock=lab.clock, capacity_bytes=200 * MIB)
    lab.remotes["nas"].put("something", bytes(8 * MIB))
    vm = only(lab.run(expect="failed"))
    assert "remote nas has" in vm.reason and not lab.snapshots()
    lab.assert_tidy()
