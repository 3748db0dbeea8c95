"""A surviving snapshot saves the writing of what did not change; what is in doubt comes back whole, with a reason."""

from __future__ import annotations

import pytest

from vhd.block import BLOCK_BYTES
from xobackup.engine.errors import UsageError
from xobackup.engine.restore import vdi as restore_vdi
from xobackup.engine.restore.differential import Differential, refuse_base, with_bases
from xobackup.engine.restore.plan import RestorePlan, VmRequest
from xobackup.engine.restore.vm import Restored, plan_restore, restore_vm
from xobackup.simpool import DiskSpec, PoolSpec, SimPool, VmSpec
from xobackup.xapi.errors import XapiError
from xotest.lab import Lab

BLOCKS = 40


@pytest.fixture
def pool(tmp_path, request):
    disks = (DiskSpec(name="system", size_bytes=BLOCKS * BLOCK_BYTES, filled_bytes=BLOCKS * BLOCK_BYTES // 4),)
    with SimPool.start(tmp_path / "pool", spec=PoolSpec(vms=(VmSpec(name="guest", disks=disks),))) as started:
        yield started


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Announced length of each import."""
    lengths: list[int] = []
    real = restore_vdi.open_import

    def counting(*args, **fields):
        lengths.append(fields["length_bytes"])
        return real(*args, **fields)

    monkeypatch.setattr(restore_vdi, "open_import", counting)
    return lengths


def write(lab: Lab, *blocks: int) -> None:
    (ref,) = lab.pool.vdis_of(lab.vm)
    for block in blocks:
        lab.pool.write_disk(ref, block * BLOCK_BYTES + 4096, bytes([block + 1]) * 4096)


def planned(lab: Lab, session, *, point: int, how: Differential = Differential.AUTO) -> RestorePlan:
    plan = plan_restore(lab.world(), session, lab.points()[point], VmRequest(name="again"), remote="nas")
    return with_bases(session, lab.repository(), plan, lab.points(), how)


def restored(lab: Lab, *, point: int, how: Differential = Differential.AUTO) -> Restored:
    world = lab.world()
    with world.connect(lab.address) as session:
        return restore_vm(world, session, lab.repository(), planned(lab, session, point=point, how=how))


def base_of(lab: Lab, *, point: int) -> tuple[object, str]:
    with lab.world().connect(lab.address) as session:
        (disk,) = planned(lab, session, point=point).disks
        return disk.base, disk.full_reason


def snapshot_images(lab: Lab) -> dict[str, str]:
    """sha256 of the disks of snapshots."""
    return {ref: lab.pool.disk_sha256(ref) for ref, _ in lab.pool.model.where("VDI", is_a_snapshot=True)}


def content(lab: Lab, one: Restored) -> dict[str, str]:
    refs = {str(record["uuid"]): ref for ref, record in lab.pool.model.records("VDI").items()}
    return {live: lab.pool.disk_sha256(refs[new]) for live, new in one.disks.items()}


@pytest.mark.parametrize("directories", [False, True])
def test_five_percent_changed_are_written_in_six_percent(lab: Lab, sent: list[int], directories: bool) -> None:
    lab.vhd_directory = directories
    lab.run()
    write(lab, 4, 30)
    lab.run()
    snapshots = snapshot_images(lab)
    one = restored(lab, point=0, how=Differential.REQUIRE)
    assert snapshot_images(lab) == snapshots and snapshots, "what it started from is as it was"
    assert content(lab, one) == lab.expected["nas", lab.points()[0].id]
    assert 0 < sum(sent) <= 0.06 * BLOCKS * BLOCK_BYTES
    lab.assert_tidy()


def test_the_point_whose_snapshot_survives_is_not_written_at_all(lab: Lab, sent: list[int]) -> None:
    lab.run()
    write(lab, 3, 30)
    lab.run()
    write(lab, 3, 31)  # later writes of the guest are not in the snapshot
    one = restored(lab, point=-1)
    assert content(lab, one) == lab.expected["nas", lab.points()[-1].id]
    assert sent == []
    (vdi,) = lab.pool.vdis_of(one.vm_ref)
    record = lab.pool.model.get("VDI", vdi)
    assert record["name_label"] == "system" and not record["is_a_snapshot"]
    assert not any("backup" in key for key in record["other_config"])


def test_a_base_that_is_gone_is_told_and_the_disk_is_written_whole(lab: Lab, pool: SimPool, sent: list[int]) -> None:
    lab.run()
    for ref, record in pool.model.records("VM").items():
        if record["is_a_snapshot"]:
            for vdi in pool.vdis_of(ref):
                pool.call("VDI.destroy", vdi)
            pool.call("VM.destroy", ref)
    base, reason = base_of(lab, point=0)
    assert base is None and "is left on the pool" in reason
    with pytest.raises(UsageError, match="cannot be differential"):
        restored(lab, point=0, how=Differential.REQUIRE)
    assert content(lab, restored(lab, point=0)) == lab.expected["nas", lab.points()[0].id]
    assert len(sent) == 1


def test_a_snapshot_that_a_vm_has_as_its_disk_is_no_base() -> None:
    snapshot = {"is_a_snapshot": True, "SR": "sr", "virtual_size": 5, "type": "user"}

    def refused(holders=(), **other: object) -> str:
        return refuse_base({**snapshot, **other}, sr_ref="sr", size_bytes=5, holders=holders)

    assert refused() == "" and refused(({"is_a_snapshot": True},)) == ""
    assert "may have written" in refused(({"is_a_snapshot": False},))
    assert "may have written" in refused(({},)), "a holder nobody knows"
    assert "another SR" in refused(SR="elsewhere")
    assert "not a snapshot" in refused(is_a_snapshot=False)
    assert "changed blocks" in refused(type="cbt_metadata")
    assert "expected 5 bytes, found 4" in refused(virtual_size=4)
    assert "qcow2" in refused(sm_config={"image-format": "qcow2"})


def test_a_clone_that_is_refused_makes_the_disk_a_full_with_a_warning(lab: Lab, pool: SimPool) -> None:
    lab.run()
    pool.faults.fail_call("VDI.clone", "SR_BACKEND_FAILURE_44", ["", "no space", ""])
    one = restored(lab, point=0)
    assert content(lab, one) == lab.expected["nas", lab.points()[0].id]
    assert any("could not be cloned" in warning for warning in one.warnings)


@pytest.mark.parametrize("call", ["VDI.set_other_config", "VDI.set_tags", "VM.set_name_label"])
def test_a_differential_restore_that_fails_leaves_nothing_and_keeps_its_base(
    lab: Lab, pool: SimPool, call: str
) -> None:
    lab.run()
    write(lab, 5)
    lab.run()
    before = set(pool.model.records("VDI"))
    pool.faults.fail_call(call, "INTERNAL_ERROR", ["planned"])
    with pytest.raises(XapiError):
        restored(lab, point=0, how=Differential.REQUIRE)
    assert set(pool.model.records("VDI")) == before
    assert content(lab, restored(lab, point=0)) == lab.expected["nas", lab.points()[0].id]
