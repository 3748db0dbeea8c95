"""Runs of a job that spreads its VMs over its remotes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from remotes.encryption.markers import open_xo_encrypted
from remotes.errors import NoSpace, Unavailable
from remotes.faults import Fault, Faults
from remotes.faulty import FaultyRemote
from remotes.local import LocalRemote
from remotes.memory import MemoryRemote
from xobackup.engine import events
from xobackup.engine.job import Selector, VmRule
from xobackup.engine.run import plan_job
from xobackup.engine.space.judge import Floor, SpaceCheck
from xobackup.simpool import SimPool
from xotest.lab import MIB, Lab, only
from xotest.xo_rules import assert_nothing


def sized(lab: Lab, **sizes_mib: int | None) -> None:
    """Remotes in memory with so much room."""
    lab.remotes.clear()
    for name, size in sizes_mib.items():
        lab.remotes[name] = MemoryRemote(clock=lab.clock, capacity_bytes=None if size is None else size * MIB)
    lab.with_settings(distribute=True)


def spread(lab: Lab) -> dict[str, int]:
    return {name: len(lab.points(name)) for name in lab.remotes}


def twins(lab: Lab, pool: SimPool, *names: str) -> None:
    """VMs like the guest."""
    pool.call("VM.hard_shutdown", lab.vm)
    for name in names:
        pool.call("VM.clone", lab.vm, name)


def check(lab: Lab) -> None:
    lab.check(remotes=tuple(name for name, count in spread(lab).items() if count))
    for remote in lab.remotes.values():
        assert_nothing(remote)


class Down:
    """A remote that cannot be reached."""

    def __init__(self, inner: MemoryRemote) -> None:
        self.inner, self.url, self.capabilities = inner, inner.url, inner.capabilities

    def __getattr__(self, name: str) -> object:
        raise Unavailable(self.url, "", "no route to host", transient=False)

    def close(self) -> None:
        """It is closed anyway."""


def test_a_chain_stays_where_it_began_although_another_remote_is_emptier(lab: Lab) -> None:
    sized(lab, a=100, b=200)
    for number in range(4):
        lab.write(0, number * MIB, b"x" * 4096)
        vm = only(lab.run())
        assert set(vm.points) == {"b"} and (vm.fulls, vm.deltas) == ((2, 0) if number == 0 else (0, 2))
        if number == 0:
            lab.remotes["b"].put("ballast", bytes(150 * MIB))
            (planned,) = plan_job(lab.job(), lab.world()).vms
            assert planned.remotes == ("b",) and planned.placement is not None
            assert planned.placement.reason == "its chain is there"
    assert spread(lab) == {"a": 0, "b": 3} and not lab.repository("a").vms()
    assert len(lab.snapshots()) == 1
    check(lab)
    lab.assert_tidy()


def test_a_remote_that_is_gone_is_left_with_a_full_and_its_old_chain_expires_when_it_is_back(lab: Lab) -> None:
    sized(lab, a=300, b=200)
    lab.run()
    lab.run()
    there = lab.remotes["a"]
    lab.remotes["a"] = Down(there)  # type: ignore[assignment, arg-type]
    vm = only(lab.run(expect="some-failed"))  # the run tells that a remote is gone, the VM has its backup
    assert set(vm.points) == {"b"} and vm.fulls == 2 and vm.outcome == "ok"
    assert any("its chain is on remote a: " in told and "no route to host" in told for told in vm.warnings)
    planned = lab.journal.of(events.VmPlanned)[-1].plan
    routes = [route for disk in planned["disks"] for route in disk["routes"]]
    assert {route["full"] for route in routes} == {"remote-left"} and not any(route["expected"] for route in routes)
    assert all(route["reason"].startswith("its chain is on remote a: ") for route in routes)
    assert planned["placement"]["left"] == routes[0]["reason"]
    lab.remotes["a"] = there
    assert spread(lab) == {"a": 2, "b": 1}
    assert set(only(lab.run()).points) == {"b"}
    assert spread(lab) == {"a": 1, "b": 2}, "three are kept, wherever they are"
    check(lab)
    lab.run()
    lab.run()
    assert spread(lab) == {"a": 0, "b": 3}
    check(lab)
    lab.assert_tidy()


def test_a_remote_below_its_floor_is_left_and_without_another_one_it_is_refused(lab: Lab) -> None:
    sized(lab, a=200, b=100)
    lab.with_settings(remote_free_min=Floor(size_bytes=40 * MIB), space_check=SpaceCheck.REFUSE)
    assert set(only(lab.run()).points) == {"a"}
    lab.remotes["a"].put("ballast", bytes(170 * MIB))
    vm = only(lab.run())
    assert set(vm.points) == {"b"} and vm.fulls == 2 and any("less than 40.0 MiB" in told for told in vm.warnings)
    lab.remotes["b"].put("ballast", bytes(70 * MIB))
    refused = only(lab.run(expect="failed"))
    assert refused.reason.startswith("no remote can take it: a: remote a has") and "b: remote b has" in refused.reason
    (planned,) = plan_job(lab.job(), lab.world()).vms
    assert planned.refusal == refused.reason
    lab.with_settings(space_check=SpaceCheck.WARN)
    assert set(only(lab.run()).points) == {"b"}, "the chain stays, and the floor is warned of"
    check(lab)
    lab.assert_tidy()


def test_one_that_turns_out_to_be_full_is_left_in_the_same_run(lab: Lab) -> None:
    sized(lab, a=None, b=None)
    lab.with_settings(retries=1)
    lab.run()
    assert spread(lab) == {"a": 1, "b": 0}
    faults = Faults(Fault(operation="create", error=NoSpace, times=None))
    inner, lab.remotes["a"] = lab.remotes["a"], FaultyRemote(lab.remotes["a"], faults)
    vm = only(lab.run())
    assert set(vm.points) == {"b"} and vm.attempts == 2 and vm.fulls == 2
    assert any("its chain is on remote a: it was full in this run" in told for told in vm.warnings)
    faults.assert_all_fired()
    lab.remotes["a"] = inner
    check(lab)
    lab.assert_tidy()


def test_vms_of_one_run_do_not_all_go_to_the_emptiest(lab: Lab, pool: SimPool) -> None:
    sized(lab, a=100, b=98)
    twins(lab, pool, "two", "three", "four")
    everything = Selector(include=(VmRule(),))
    expected = {"a": 2, "b": 2}
    plan = plan_job(lab.job(selector=everything), lab.world())
    assert Counter(vm.remotes[0] for vm in plan.vms) == expected
    lab.with_settings(vms_max=4)
    report = lab.run(selector=everything)
    assert Counter(name for vm in report.vms for name in vm.points) == expected
    again = lab.run(selector=everything)
    assert [vm.points.keys() for vm in again.vms] == [vm.points.keys() for vm in report.vms]
    assert all(vm.deltas == 2 for vm in again.vms)
    check(lab)


def test_remotes_that_do_not_tell_their_space_share_the_vms_evenly(lab: Lab, pool: SimPool) -> None:
    sized(lab, a=None, b=None)
    twins(lab, pool, "two", "three", "four")
    report = lab.run(selector=Selector(include=(VmRule(),)), expect=None)
    assert Counter(name for vm in report.vms for name in vm.points) == {"a": 2, "b": 2}


def test_two_directories_of_one_file_system_share_the_vms_evenly(lab: Lab, pool: SimPool) -> None:
    lab.remotes = {name: LocalRemote(_made(lab.directory / name)) for name in ("a", "b")}
    lab.with_settings(distribute=True)
    twins(lab, pool, "two")
    plan = plan_job(lab.job(selector=Selector(include=(VmRule(),))), lab.world())
    assert sorted(vm.remotes for vm in plan.vms) == [("a",), ("b",)]
    usages = [remote.usage() for remote in lab.remotes.values()]
    assert usages[0] and usages[1] and usages[0].storage == usages[1].storage != ""


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def test_full_backups_go_to_the_emptiest_each_time_and_count_together(lab: Lab) -> None:
    sized(lab, a=200, b=196)
    lab.with_settings(mode="full", compression="none", retention=3)
    went = [next(iter(only(lab.run()).points)) for _ in range(5)]
    assert set(went) == {"a", "b"} and sum(spread(lab).values()) == 3
    (planned,) = plan_job(lab.job(), lab.world()).vms
    assert planned.archive is not None and planned.archive.remotes == planned.remotes and len(planned.remotes) == 1


def test_a_job_that_wrote_to_all_goes_on_with_deltas_on_one(lab: Lab) -> None:
    sized(lab, a=100, b=200)
    lab.with_settings(distribute=False)
    lab.run()
    lab.with_settings(distribute=True)
    vm = only(lab.run())
    assert set(vm.points) == {"b"} and vm.deltas == 2
    assert spread(lab) == {"a": 1, "b": 2}
    lab.run()
    lab.run()
    assert spread(lab) == {"a": 0, "b": 3}, "what was on both counted once"
    check(lab)


def test_a_remote_that_is_only_busy_is_not_left(lab: Lab) -> None:
    sized(lab, a=200, b=100)
    lab.run()
    with lab.repository("a").lock(lab.vm_uuid, purpose="somebody"):
        vm = only(lab.run(expect="locked", after_s=1))
    assert vm.locked and spread(lab) == {"a": 1, "b": 0}
    assert only(lab.run()).deltas == 2


def test_a_member_that_was_replaced_is_refused_and_once_accepted_starts_again(lab: Lab) -> None:
    sized(lab, a=200, b=100)
    lab.run()
    lab.remotes["a"] = MemoryRemote(clock=lab.clock, capacity_bytes=300 * MIB)  # an empty mount point
    vm = only(lab.run(expect="some-failed"))
    assert set(vm.points) == {"b"} and any("found none at all" in told for told in vm.warnings)
    (lab.directory / "state" / "remotes" / "a.json").unlink()  # xobackup remote accept
    vm = only(lab.run())
    assert set(vm.points) == {"b"} and vm.deltas == 2
    check(lab)


def test_an_encrypted_member_beside_a_plain_one(lab: Lab) -> None:
    sized(lab, a=100, b=90)
    sealed = MemoryRemote(clock=lab.clock, capacity_bytes=300 * MIB)
    lab.remotes["b"] = open_xo_encrypted(sealed, "k" * 32)
    assert set(only(lab.run()).points) == {"b"}
    sealed.put("ballast", bytes(290 * MIB - 10 * MIB))
    lab.with_settings(remote_free_min=Floor(size_bytes=30 * MIB))
    vm = only(lab.run())
    assert set(vm.points) == {"a"} and vm.fulls == 2
    for _ in range(2):
        lab.run()
    assert spread(lab) == {"a": 3, "b": 0}
    check(lab)
