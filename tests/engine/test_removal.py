"""Only snapshots are ever destroyed, and only those that hang on nothing else."""

from collections.abc import Iterator

import pytest

from xobackup.engine.removal import destroy_vdi, remove_disks, remove_snapshot
from xobackup.engine.taking.taken import vdis_of
from xobackup.simpool import SimPool
from xobackup.xapi.errors import Busy
from xobackup.xapi.session import Session
from xotest.lab import Lab


@pytest.fixture
def session(lab: Lab) -> Iterator[Session]:
    with Session.connect(lab.address, clock=lab.clock) as connected:
        yield connected


def test_a_snapshot_goes_with_its_disks(lab: Lab, pool: SimPool, session: Session) -> None:
    snapshot = pool.call("VM.snapshot", lab.vm, "s")
    disks = vdis_of(session, snapshot)
    assert len(remove_snapshot(session, snapshot, disks)) == 2
    assert snapshot not in pool.model.records("VM") and not set(disks) & set(pool.model.records("VDI"))


def test_removing_what_is_gone_is_done(lab: Lab, pool: SimPool, session: Session) -> None:
    snapshot = pool.call("VM.snapshot", lab.vm, "s")
    disks = vdis_of(session, snapshot)
    remove_snapshot(session, snapshot, disks)
    remove_snapshot(session, snapshot, disks)


def test_live_disks_and_vms_are_never_destroyed(lab: Lab, pool: SimPool, session: Session) -> None:
    live = vdis_of(session, lab.vm)
    assert remove_snapshot(session, lab.vm, live) == []
    assert lab.vm in pool.model.records("VM") and set(live) <= set(pool.model.records("VDI"))


def test_a_snapshot_disk_that_somebody_attached_elsewhere_stays(lab: Lab, pool: SimPool, session: Session) -> None:
    snapshot = pool.call("VM.snapshot", lab.vm, "s")
    disks = vdis_of(session, snapshot)
    taken = next(iter(disks))
    record = {"VM": lab.vm, "VDI": taken, "userdevice": "7", "bootable": False, "mode": "RO", "type": "Disk"}
    extras = {"empty": False, "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}}
    pool.call("VBD.create", {**record, **extras})
    gone = remove_disks(session, disks, holder=snapshot)
    assert len(gone) == 1 and taken in pool.model.records("VDI")


def test_a_disk_left_on_a_control_domain_is_detached_and_destroyed(lab: Lab, pool: SimPool, session: Session) -> None:
    snapshot = pool.call("VM.snapshot", lab.vm, "s")
    disks = vdis_of(session, snapshot)
    domain = next(ref for ref, vm in pool.model.records("VM").items() if vm["is_control_domain"])
    record = {"VM": domain, "VDI": next(iter(disks)), "userdevice": "0", "bootable": False, "mode": "RO"}
    extras = {
        "type": "Disk",
        "empty": False,
        "other_config": {},
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
    }
    pool.call("VBD.plug", pool.call("VBD.create", {**record, **extras}))
    assert len(remove_snapshot(session, snapshot, disks)) == 2
    assert pool.model.get("VM", domain)["VBDs"] == []


def test_a_disk_that_stays_in_use_is_an_error_that_may_pass(lab: Lab, pool: SimPool, session: Session) -> None:
    snapshot = pool.call("VM.snapshot", lab.vm, "s")
    vdi = next(iter(vdis_of(session, snapshot)))
    tries = session.timeouts.busy_tries
    pool.faults.fail_call("*VDI.destroy", "VDI_IN_USE", [vdi, "destroy"], times=tries)
    with pytest.raises(Busy) as caught:
        destroy_vdi(session, vdi)
    assert caught.value.transient and vdi in pool.model.records("VDI")
    destroy_vdi(session, vdi)
    assert vdi not in pool.model.records("VDI")
