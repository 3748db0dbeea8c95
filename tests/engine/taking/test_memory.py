"""VMs taken with their memory: what is saved, how it comes back, and that old images go."""

import itertools
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from remotes.faults import Cut, Faults, Moment, PowerCut
from remotes.faulty import FaultyRemote
from remotes.memory import MemoryRemote
from xobackup.engine.full.described import with_disks
from xobackup.engine.job import FULL
from xobackup.engine.report import RunReport
from xobackup.engine.restore.plan import VmRequest
from xobackup.engine.restore.vm import Restored, plan_restore, restore_vm
from xobackup.engine.run import run_job
from xobackup.engine.taking.way import MEMORY_TAG
from xobackup.repository.memory import noted_memory
from xotest.lab import Lab, only
from xotest.power import lifecycle, state_of

Make = Callable[..., Lab]


def lineages(lab: Lab) -> list[str]:
    """Directories of disks on the remote."""
    jobs = lab.remotes["nas"].list(f"xo-vm-backups/{lab.vm_uuid}/vdis")
    return [
        one.name for job in jobs for one in lab.remotes["nas"].list(f"xo-vm-backups/{lab.vm_uuid}/vdis/{job.name}")
    ]


def restored(lab: Lab, *, point: int = -1, **request: bool) -> Restored:
    world, repository = lab.world(), lab.repository()
    session = world.connect(lab.address)
    try:
        chosen = with_disks(repository, lab.points()[point])
        plan = plan_restore(world, session, chosen, VmRequest(**request), remote="nas")
        return restore_vm(world, session, repository, plan)
    finally:
        session.close()


@pytest.fixture
def saved(lab: Lab) -> Lab:
    lab.with_settings(snapshot="memory", retention=2)
    lab.run()
    return lab


def test_the_memory_is_one_more_disk_of_the_restore_point(saved: Lab) -> None:
    point = saved.points()[0]
    assert lifecycle(saved) == ["checkpoint"] and state_of(saved) == "Running"
    assert point.memory is not None and point.memory.vdi_ref == point.metadata["vmSnapshot"]["suspend_VDI"]
    assert point.memory.path.split("/")[2] == point.memory.vdi_uuid, "its directory has its own uuid"
    assert point.metadata["vdis"][point.memory.vdi_ref]["type"] == "suspend"
    assert point.memory.vdi_ref not in {vbd["VDI"] for vbd in point.metadata["vbds"].values()}
    saved.check()
    saved.assert_tidy()


def test_disks_stay_deltas_and_memory_is_whole_each_time(saved: Lab) -> None:
    saved.write(0, 0, b"more")
    vm = only(saved.run())
    assert (vm.taken, vm.fulls, vm.deltas) == ("memory", 0, 1), "memory is not counted as a disk"
    assert not vm.warnings
    saved.check()


def test_images_of_expired_points_go(saved: Lab) -> None:
    for _ in range(4):
        only(saved.run())
    assert len(saved.points()) == 2
    kept = {point.memory.vdi_uuid for point in saved.points() if point.memory}
    assert set(lineages(saved)) - set(saved.disks()) == kept, "no directory of an older image is left"
    assert len(noted_memory(saved.remotes["nas"], saved.vm_uuid)) == 2
    assert (
        saved.pool.model.where("VDI", type="suspend")
        and len(list(saved.pool.model.where("VDI", type="suspend"))) == 1
    )
    saved.check()
    saved.assert_tidy()


def test_a_point_whose_json_xen_orchestra_deleted_frees_its_image_too(saved: Lab) -> None:
    point = saved.points()[0]
    saved.run()
    saved.remotes["nas"].delete(f"xo-vm-backups/{saved.vm_uuid}/{point.id}.json")
    saved.remotes["nas"].delete(f"xo-vm-backups/{saved.vm_uuid}/cache.json.gz")
    saved.run()
    assert point.memory is not None and point.memory.vdi_uuid not in lineages(saved)


def test_without_its_note_a_directory_is_left_alone(saved: Lab) -> None:
    point = saved.points()[0]
    assert point.memory is not None
    saved.remotes["nas"].delete_tree(".xobackup/memory")
    saved.remotes["nas"].delete(f"xo-vm-backups/{saved.vm_uuid}/{point.id}.json")
    saved.remotes["nas"].delete(f"xo-vm-backups/{saved.vm_uuid}/cache.json.gz")
    saved.run()
    assert point.memory.vdi_uuid in lineages(saved), "nothing proves what it is"


def test_it_comes_back_suspended_and_resumes(saved: Lab) -> None:
    saved.write(0, 0, b"after the moment")
    made = restored(saved)
    model = saved.pool.model
    vm = model.get("VM", made.vm_ref)
    assert made.suspended and vm["power_state"] == "Suspended" and not vm["blocked_operations"]
    point = saved.points()[0]
    assert point.memory is not None
    expected = saved.expected["nas", point.id]
    assert saved.pool.disk_sha256(vm["suspend_VDI"]) == expected[point.memory.vdi_uuid]
    assert model.get("VDI", vm["suspend_VDI"])["type"] == "suspend"
    saved.pool.call("VM.resume", made.vm_ref, False, False)
    assert model.get("VM", made.vm_ref)["power_state"] == "Running"
    saved.assert_tidy()


def test_it_can_be_resumed_by_the_restore(saved: Lab) -> None:
    made = restored(saved, start=True)
    assert made.started and saved.pool.model.get("VM", made.vm_ref)["power_state"] == "Running"


def test_it_can_come_back_without(saved: Lab) -> None:
    before = len(list(saved.pool.model.where("VDI", type="suspend")))
    made = restored(saved, memory=False)
    assert not made.suspended and saved.pool.model.get("VM", made.vm_ref)["power_state"] == "Halted"
    assert len(list(saved.pool.model.where("VDI", type="suspend"))) == before


def test_a_restore_that_fails_leaves_neither_vm_nor_memory(saved: Lab) -> None:
    before = set(saved.pool.model.records("VDI"))
    saved.pool.faults.break_transfer("import", after_bytes=2000, how="drop")
    with pytest.raises(Exception, match=r"."):
        restored(saved)
    saved.assert_tidy()
    assert set(saved.pool.model.records("VDI")) == before


def test_a_suspended_vm_is_backed_up_with_its_memory_whatever_the_job_says(make_lab: Make) -> None:
    lab = make_lab(power_state="Suspended")
    vm = only(lab.run())
    assert vm.taken == "memory" and state_of(lab) == "Suspended"
    lab.check()
    assert restored(lab).suspended


def test_a_vm_halted_meanwhile_is_taken_without_and_says_so(lab: Lab) -> None:
    lab.with_settings(snapshot="memory")
    lab.pool.faults.act_at("Async.VM.checkpoint", lambda: lab.pool.call("VM.hard_shutdown", lab.vm))
    vm = only(lab.run())
    assert vm.taken == "disk" and any("memory could not be saved" in one for one in vm.warnings)
    assert lab.points()[0].memory is None
    lab.check()


def test_the_tag_of_xen_orchestra_asks_for_it(make_lab: Make) -> None:
    lab = make_lab(tags=(MEMORY_TAG,))
    assert only(lab.run()).taken == "memory"


def test_a_full_backup_holds_the_memory_too(lab: Lab) -> None:
    lab.with_settings(snapshot="memory", mode=FULL, compression="none")
    assert only(lab.run()).taken == "memory"
    assert not list(lab.pool.model.where("VDI", type="suspend")), "the snapshot went, and its memory with it"
    made = restored(lab)
    assert made.suspended
    saved = lab.pool.model.get("VM", made.vm_ref)["suspend_VDI"]
    assert lab.pool.disk_bytes(saved, 0, 4096).strip(b"\0")
    halted = restored(lab, memory=False)
    assert lab.pool.model.get("VM", halted.vm_ref)["power_state"] == "Halted"


@pytest.mark.slow
def test_power_cuts_never_lose_a_point_nor_keep_an_image_for_ever(saved: Lab) -> None:
    for _ in range(2):
        saved.run()
    cuts = 0
    for number in itertools.count(3, 7):
        remote = saved.remotes["nas"]
        assert isinstance(remote, MemoryRemote)
        faults = Faults(cut=Cut(at=number, moment=Moment.BEFORE), rng=random.Random(number))
        saved.clock.advance(3600)
        try:
            report: RunReport | None = run_job(
                saved.job(), replace(saved.world(), open_repository=_faulty(saved, remote, faults))
            )
        except PowerCut:
            report = None
        if report is not None and not faults.cut_operation:
            break
        cuts += 1
        saved.remotes["nas"] = remote.survivor(random.Random(number))
        saved.clock.advance(60)
        saved.check(finished=False)
        only(saved.run())
        saved.check()
        kept = {point.memory.vdi_uuid for point in saved.points() if point.memory}
        assert set(lineages(saved)) - set(saved.disks()) == kept, f"cut at {number}"
    assert cuts > 3


def _faulty(lab: Lab, remote: MemoryRemote, faults: Faults):  # type: ignore[no-untyped-def]
    def opened(target):  # type: ignore[no-untyped-def]
        lab.remotes["nas"] = FaultyRemote(remote, faults)
        return lab.repository(target.name)

    return opened
