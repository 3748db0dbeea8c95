"""A restore point into its own VM: the disks change places, nothing is lost, and a death in between is put right."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from remotes.faults import PowerCut
from xobackup.engine import keys
from xobackup.engine.errors import UsageError, VmRefused
from xobackup.engine.leftovers.clean import recover
from xobackup.engine.restore.in_place import InPlace, Wish, choose, plan_in_place, restore_in_place
from xobackup.engine.restore.swap import put_back, swap_of
from xobackup.repository.metadata import PointDisk
from xobackup.simpool import SimPool
from xobackup.xapi.errors import XapiError
from xotest.dying import Death, dying_session, kept
from xotest.lab import Lab, only

EVERY = 1 if os.environ.get("XOTEST_SWEEP") == "full" else 4


def go(lab: Lab, session: Any, *, point: int = 0, **wish: Any) -> InPlace:
    world = lab.world()
    plan = plan_in_place(world, session, lab.points()[point], Wish(**wish), remote="nas")
    return restore_in_place(world, session, lab.repository(), plan)


def restored(lab: Lab, *, point: int = 0, **wish: Any) -> InPlace:
    with lab.world().connect(lab.address) as session:
        return go(lab, session, point=point, **wish)


def by_device(lab: Lab, vm: str) -> dict[str, str]:
    """sha256 of a VM's disks by device."""
    model = lab.pool.model
    vbds = [model.get("VBD", ref) for ref in model.get("VM", vm)["VBDs"]]
    return {vbd["userdevice"]: lab.pool.disk_sha256(vbd["VDI"]) for vbd in vbds if vbd["type"] == "Disk"}


def vms(lab: Lab) -> int:
    return sum(
        1 for _ in lab.pool.model.where("VM", is_a_snapshot=False, is_a_template=False, is_control_domain=False)
    )


def halt(lab: Lab) -> None:
    lab.pool.call("VM.hard_shutdown", lab.vm)


@pytest.fixture
def two_points(lab: Lab) -> Lab:
    """Two restore points, and something newer on the disks; halted."""
    lab.run()
    lab.write(0, 4096, b"second")
    lab.write(1, 8192, b"second")
    lab.run()
    lab.write(0, 4096, b"by now!")
    halt(lab)
    return lab


def wanted(lab: Lab, point: int = 0) -> dict[str, str]:
    one = lab.points()[point]
    known = lab.expected["nas", one.id]
    return {str(disk.userdevice): known[disk.live_vdi_uuid] for disk in one.disks}


def test_a_vm_gets_its_disks_of_then_and_keeps_everything_else(two_points: Lab) -> None:
    lab = two_points
    before, now = lab.pool.model.get("VM", lab.vm), by_device(lab, lab.vm)
    vbds = {vbd["userdevice"]: vbd for vbd in (lab.pool.model.get("VBD", ref) for ref in before["VBDs"])}
    done = restored(lab)
    assert by_device(lab, lab.vm) == wanted(lab) != now
    keeper = lab.pool.model.by_uuid("VM", done.keeper_uuid)
    assert by_device(lab, keeper) == now, "what was replaced is whole, and on a VM of its own"
    after = lab.pool.model.get("VM", lab.vm)
    for field in ("uuid", "name_label", "VIFs", "tags", "memory_static_max", "power_state", "blocked_operations"):
        assert after[field] == before[field], field
    for vbd in (lab.pool.model.get("VBD", ref) for ref in after["VBDs"]):
        for field in ("bootable", "mode", "type", "unpluggable"):
            assert vbd[field] == vbds[vbd["userdevice"]][field], field
    assert keys.SWAP not in after["other_config"] and keys.SWAPPED not in after["other_config"] and not done.started
    assert lab.pool.model.get("VM", keeper)["name_label"].startswith("guest (disks replaced by ")
    lab.pool.call("VM.start", lab.vm, False, False)
    lab.assert_tidy()


def test_the_vm_that_keeps_the_replaced_disks_can_be_started(two_points: Lab) -> None:
    done = restored(two_points)
    keeper = two_points.pool.model.by_uuid("VM", done.keeper_uuid)
    two_points.pool.call("VM.start", keeper, False, False)
    assert two_points.pool.model.get("VM", keeper)["power_state"] == "Running"


def test_one_disk_alone(two_points: Lab) -> None:
    lab = two_points
    now = by_device(lab, lab.vm)
    done = restored(lab, disks=("system",))
    assert len(done.disks) == 1
    assert by_device(lab, lab.vm) == {**now, "0": wanted(lab)["0"]}


def test_a_running_vm_is_shut_down_late_and_started_again(lab: Lab) -> None:
    lab.run()
    lab.write(0, 0, b"x")
    with pytest.raises(UsageError, match="runs"):
        restored(lab)
    assert vms(lab) == 1
    done = restored(lab, shutdown=True)
    vm = lab.pool.model.get("VM", lab.vm)
    assert done.started and vm["power_state"] == "Running" and keys.SHUTDOWN not in vm["other_config"]
    assert by_device(lab, lab.vm) == wanted(lab)
    assert restored(lab, shutdown=True, start=False).started is False
    assert lab.pool.model.get("VM", lab.vm)["power_state"] == "Halted"


def test_a_guest_that_does_not_shut_down_keeps_its_disks(lab: Lab, pool: SimPool) -> None:
    lab.run()
    before = by_device(lab, lab.vm)
    pool.faults.fail_call("VM.clean_shutdown", "VM_SHUTDOWN_TIMEOUT", ["", "600"])
    with pytest.raises(VmRefused, match="did not shut down"):
        restored(lab, shutdown=True)
    vm = lab.pool.model.get("VM", lab.vm)
    assert vm["power_state"] == "Running" and keys.SHUTDOWN not in vm["other_config"]
    assert by_device(lab, lab.vm) == before
    assert vms(lab) == 1
    lab.assert_tidy()


@pytest.mark.parametrize("call", ["VBD.create", "VBD.destroy", "VM.get_VBDs", "VM.add_to_blocked_operations"])
@pytest.mark.parametrize("skip", [0, 1, 2, 3])
def test_a_failure_puts_everything_back(
    two_points: Lab, monkeypatch: pytest.MonkeyPatch, call: str, skip: int
) -> None:
    lab = two_points
    before = by_device(lab, lab.vm)
    from xobackup.engine.restore import in_place

    real = in_place.carry_out

    def failing(session: Any, vm_ref: str, swap: Any) -> None:
        lab.pool.faults.fail_call(call, "INTERNAL_ERROR", ["no"], skip=skip)
        real(session, vm_ref, swap)
        raise XapiError("the rest went well, and then it failed")

    monkeypatch.setattr(in_place, "carry_out", failing)
    with pytest.raises(XapiError):
        restored(lab)
    lab.pool.faults.clear()
    assert by_device(lab, lab.vm) == before
    assert vms(lab) == 1
    lab.assert_tidy()


def test_wherever_it_dies_the_next_start_puts_it_right(two_points: Lab) -> None:
    """Before and after every call of the exchange (each fourth without XOTEST_SWEEP=full): the VM has its disks of
    before or of then, whole; it can be started; nothing is lost."""
    lab = two_points
    target = wanted(lab)
    deaths = 0
    for at in range(1, 400):
        for after in (False, True):
            if (2 * at + after) % EVERY:
                continue
            before = by_device(lab, lab.vm)
            death = Death(at, since="VM.add_to_other_config", after=after)
            died = die(lab, death)
            if not died:
                assert by_device(lab, lab.vm) == target and deaths > 10
                return
            deaths += 1
            vm = lab.pool.model.get("VM", lab.vm)
            half = by_device(lab, lab.vm)
            swap = swap_of(vm["other_config"], vm["uuid"])
            if half not in (before, target):
                assert swap is not None and vm["blocked_operations"]["start"], "nobody can start it like that"
            with lab.world().connect(lab.address) as session:
                pool_uuid = next(iter(lab.pool.model.records("pool").values()))["uuid"]
                recover(lab.world(), session, pool_uuid)
            now = by_device(lab, lab.vm)
            assert now in (before, target), death.calls[-1]
            assert not lab.pool.model.get("VM", lab.vm)["blocked_operations"], death.calls[-1]
            lab.assert_tidy()
            if now == target:
                lab.pool.call("VM.start", lab.vm, False, False)
                lab.write(0, 0, b"other")
                halt(lab)
    raise AssertionError("it never ended by itself")


def die(lab: Lab, death: Death) -> bool:
    session = dying_session(lab, lab.address, death)
    with kept(lab.directory / "state" / "active", death):
        try:
            go(lab, session)
        except PowerCut:
            assert death.dead
    session.close()  # as the kernel does for the dead
    return death.dead


def test_once_it_is_complete_nothing_is_put_back(two_points: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """It died before it could tidy up, was unblocked and started by somebody, and wrote: that stays."""
    lab = two_points
    death = Death(10**6)
    from xobackup.engine.restore import in_place

    real = in_place.end

    def dying(*_arguments: Any) -> None:
        death.die()

    monkeypatch.setattr(in_place, "end", dying)
    assert die(lab, death)
    monkeypatch.setattr(in_place, "end", real)
    vm = lab.pool.model.get("VM", lab.vm)
    assert keys.SWAPPED in vm["other_config"] and vm["blocked_operations"]["start"]
    assert by_device(lab, lab.vm) == wanted(lab)
    for name in list(vm["blocked_operations"]):
        lab.pool.call("VM.remove_from_blocked_operations", lab.vm, name)
    lab.pool.call("VM.start", lab.vm, False, False)
    lab.write(0, 0, b"written since")
    halt(lab)
    since = by_device(lab, lab.vm)
    with lab.world().connect(lab.address) as session:
        recover(lab.world(), session, next(iter(lab.pool.model.records("pool").values()))["uuid"])
    assert by_device(lab, lab.vm) == since
    config = lab.pool.model.get("VM", lab.vm)["other_config"]
    assert keys.SWAP not in config and keys.SWAPPED not in config
    lab.assert_tidy()


@pytest.mark.parametrize("at", range(1, 12, 2))
def test_a_death_while_it_is_put_back_leaves_no_half(
    two_points: Lab, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """All was exchanged and marked as complete before it is put back: the mark must not outlive that."""
    lab = two_points
    before = by_device(lab, lab.vm)
    monkeypatch.setattr("xobackup.engine.restore.in_place.end", lambda *_: death.die())
    death = Death(10**6)
    assert die(lab, death)
    monkeypatch.undo()
    swap = swap_of(lab.pool.model.get("VM", lab.vm)["other_config"], lab.pool.model.get("VM", lab.vm)["uuid"])
    assert swap
    second = dying_session(lab, lab.address, Death(at))
    with pytest.raises(PowerCut):
        put_back(second, lab.vm, swap)
    second.close()
    with lab.world().connect(lab.address) as session:
        recover(lab.world(), session, next(iter(lab.pool.model.records("pool").values()))["uuid"])
    assert by_device(lab, lab.vm) == (wanted(lab) if at == 1 else before)
    lab.assert_tidy()


def test_what_cannot_be_is_refused_before_anything_is_done(two_points: Lab) -> None:
    lab = two_points
    with pytest.raises(UsageError, match="has no disk 'nonsense'"):
        restored(lab, disks=("nonsense",))
    point = replace(lab.points()[0], mode="full")
    with lab.world().connect(lab.address) as session:
        with pytest.raises(UsageError, match="archive"):
            plan_in_place(lab.world(), session, point, Wish(), remote="nas")
        with pytest.raises(UsageError, match="no VM"):
            gone = replace(lab.points()[0], vm_uuid="0" * 8 + "-0000-4000-8000-" + "0" * 12)
            plan_in_place(lab.world(), session, gone, Wish(), remote="nas")


def test_a_disk_that_changed_meanwhile_is_left_alone(two_points: Lab) -> None:
    lab = two_points
    world = lab.world()
    with world.connect(lab.address) as session:
        plan = plan_in_place(world, session, lab.points()[0], Wish(), remote="nas")
        first = next(ref for ref in lab.pool.model.get("VM", lab.vm)["VBDs"])
        lab.pool.call("VBD.destroy", first)
        with pytest.raises(UsageError, match="is not the one it was"):
            restore_in_place(world, session, lab.repository(), plan)
    assert vms(lab) == 1


def test_the_next_backup_reads_the_restored_disks_whole_and_says_why(two_points: Lab) -> None:
    lab = two_points
    restored(lab)
    lab.pool.call("VM.start", lab.vm, False, False)
    report = only(lab.run())
    assert report.fulls == 2 and report.outcome == "ok"
    lab.check()


def disk(device: str, live: str, name: str = "d") -> PointDisk:
    return PointDisk(
        vdi_ref="r", vdi_uuid=f"s-{live}", live_vdi_uuid=live, name_label=name, userdevice=device, virtual_size=1,
        path="p", differencing=False,
    )  # fmt: skip


def test_which_disk_goes_where(lab: Lab) -> None:
    lab.run()
    point = replace(lab.points()[0], disks=(disk("0", "a", "system"), disk("1", "b", "data"), disk("2", "c", "new")))
    vbds = [
        {"type": "Disk", "empty": False, "userdevice": "5", "VDI": "A", "bootable": True},
        {"type": "Disk", "empty": False, "userdevice": "1", "VDI": "X"},
        {"type": "Disk", "empty": False, "userdevice": "4", "VDI": "Y"},
        {"type": "CD", "empty": True, "userdevice": "3", "VDI": ""},
    ]
    vdis = {"A": {"uuid": "a", "name_label": "system"}, "X": {"uuid": "x"}, "Y": {"uuid": "y"}}
    found, told = choose(point, (), vbds, vdis)
    assert [(one.device, one.old_uuid) for one in found] == [("5", "a"), ("1", "x"), ("2", "")]
    assert found[0].vbd["bootable"] is True
    assert len(told) == 3 and "another disk at device 1" in told[0] and "gets one again" in told[1]
    assert "device 4 is not in the restore point" in told[2]
    with pytest.raises(UsageError, match="taken by something else"):
        choose(replace(point, disks=(disk("3", "z"),)), (), vbds, vdis)
    with pytest.raises(UsageError, match="two disks"):
        choose(replace(point, disks=(disk("0", "a"), disk("5", "q"))), (), vbds, vdis)
