from __future__ import annotations

from typing import Any

import pytest

from xobackup.xapi.errors import BadRecord, NotFound, NotSupported
from xobackup.xapi.inventory import CLASSES, Inventory
from xobackup.xapi.session import Session
from xotest.scripted_xapi import Fail, ScriptedXapi


def ref(name: str) -> str:
    return f"OpaqueRef:{name}"


def records() -> dict[str, dict[str, dict[str, Any]]]:
    """One host, one SR, a VM with two disks, a CD drive, a snapshot of it, and a control domain."""
    vbd = {"VM": ref("vm"), "type": "Disk", "mode": "RW"}
    return {
        "pool": {ref("pool"): {"uuid": "pool", "master": ref("host"), "default_SR": ref("sr")}},
        "host": {ref("host"): {"uuid": "host"}, ref("idle"): {"uuid": "idle"}},
        "SR": {ref("sr"): {"uuid": "sr", "type": "ext"}, ref("iso"): {"uuid": "iso", "type": "iso"}},
        "SM": {ref("sm"): {"type": "ext", "features": {"VDI_CONFIG_CBT": 1}}},
        "PBD": {
            ref("pbd"): {"SR": ref("sr"), "host": ref("host"), "currently_attached": True},
            ref("pbd2"): {"SR": ref("sr"), "host": ref("idle"), "currently_attached": False},
        },
        "VDI": {
            ref("root"): {"uuid": "root", "SR": ref("sr")},
            ref("data"): {"uuid": "data", "SR": ref("sr")},
            ref("cd"): {"uuid": "cd", "SR": ref("iso")},
            ref("s2"): _snap("root", "20260102T00:00:00Z"),
            ref("s1"): _snap("root", "20260101T00:00:00Z"),
        },
        "VBD": {
            ref("b10"): {**vbd, "VDI": ref("data"), "userdevice": "10"},
            ref("b2"): {**vbd, "VDI": ref("root"), "userdevice": "2"},
            ref("bcd"): {**vbd, "VDI": ref("cd"), "userdevice": "3", "type": "CD"},
            ref("bempty"): {**vbd, "VDI": ref("NULL"), "userdevice": "4", "empty": True},
            ref("bdom0"): {**vbd, "VM": ref("dom0"), "VDI": ref("root")},
        },
        "VIF": {
            ref("v10"): {"VM": ref("vm"), "device": "10", "network": ref("net")},
            ref("v9"): {"VM": ref("vm"), "device": "9", "network": ref("net")},
        },
        "network": {ref("net"): {"uuid": "net"}},
        "VTPM": {ref("tpm"): {"VM": ref("vm")}},
        "VM": {
            ref("vm"): {
                "uuid": "vm",
                "name_label": "web",
                "VBDs": [ref("b10"), ref("b2"), ref("bcd"), ref("bempty")],
                "VIFs": [ref("v10"), ref("v9")],
            },
            ref("older"): _vm_snap("20260101T00:00:00Z"),
            ref("newer"): _vm_snap("20260102T00:00:00Z"),
            ref("dom0"): {"uuid": "dom0", "is_control_domain": True},
            ref("template"): {"uuid": "t", "is_a_template": True},
        },
    }


def _snap(of: str, time: str) -> dict[str, Any]:
    return {"uuid": time, "SR": ref("sr"), "is_a_snapshot": True, "snapshot_of": ref(of), "snapshot_time": time}


def _vm_snap(time: str) -> dict[str, Any]:
    return {
        "uuid": time,
        "is_a_template": True,
        "is_a_snapshot": True,
        "snapshot_of": ref("vm"),
        "snapshot_time": time,
    }


@pytest.fixture
def pool() -> Inventory:
    return Inventory.of(records())


def test_disks_come_in_the_order_of_userdevice_without_cds(pool: Inventory) -> None:
    disks = pool.disks(pool.vm_by_uuid("vm"))
    assert [(disk.vbd.userdevice, disk.vdi.uuid) for disk in disks] == [("2", "root"), ("10", "data")]


def test_nics_come_in_the_order_of_device(pool: Inventory) -> None:
    assert [nic.device for nic in pool.nics(pool.vm_by_uuid("vm"))] == ["9", "10"]


def test_snapshots_come_oldest_first(pool: Inventory) -> None:
    assert [snap.ref for snap in pool.snapshots_of(pool.vm_by_uuid("vm"))] == [ref("older"), ref("newer")]
    assert [snap.ref for snap in pool.vdi_snapshots_of(pool.vdi_by_uuid("root"))] == [ref("s1"), ref("s2")]


def test_links_are_followed(pool: Inventory) -> None:
    root = pool.vdi_by_uuid("root")
    storage = pool.sr_of(root)
    assert storage == pool.sr_by_uuid("sr") == pool.default_sr()
    assert "VDI_CONFIG_CBT" in pool.sm_of(storage).features
    assert pool.sm_of(pool.sr_by_uuid("iso")) is None
    assert [host.uuid for host in pool.hosts_of(storage)] == ["host"]
    assert pool.master.uuid == "host"
    assert {vm.uuid for _, vm in pool.users_of(root)} == {"vm", "dom0"}
    assert [vm.uuid for vm in pool.control_domains()] == ["dom0"]
    assert [vm.uuid for vm in pool.ordinary_vms()] == ["vm"]
    assert [tpm.ref for tpm in pool.vtpms_of(pool.vm_by_uuid("vm"))] == [ref("tpm")]
    assert pool.network_by_uuid("net").ref == ref("net")


def test_an_unknown_uuid_is_not_found(pool: Inventory) -> None:
    with pytest.raises(NotFound, match="VM, uuid gone"):
        pool.vm_by_uuid("gone")


@pytest.mark.parametrize(("cls", "name"), [("VBD", "b2"), ("VDI", "root")])
def test_a_disk_that_is_gone_is_never_left_out_silently(cls: str, name: str) -> None:
    changed = records()
    del changed[cls][ref(name)]
    pool = Inventory.of(changed)
    with pytest.raises(BadRecord, match=name) as caught:
        pool.disks(pool.vm_by_uuid("vm"))
    assert caught.value.transient


def test_dangling_links_elsewhere_are_named() -> None:
    changed = records()
    del changed["SR"][ref("sr")]
    del changed["host"][ref("host")]
    pool = Inventory.of(changed)
    with pytest.raises(BadRecord, match="SR"):
        pool.sr_of(pool.vdi_by_uuid("root"))
    with pytest.raises(BadRecord, match="master"):
        _ = pool.master


def test_there_is_exactly_one_pool() -> None:
    with pytest.raises(BadRecord, match="found 0"):
        Inventory.of({})


def test_it_is_read_from_the_host(host: ScriptedXapi, session: Session) -> None:
    for name in CLASSES:
        host.methods[f"{name}.get_all_records"] = lambda name=name: records()[name]
    pool = Inventory.fetch(session)
    assert len(pool.disks(pool.vm_by_uuid("vm"))) == 2


def test_a_class_an_old_host_lacks_is_empty_others_must_be_there(host: ScriptedXapi, session: Session) -> None:
    for name in CLASSES:
        host.methods[f"{name}.get_all_records"] = lambda name=name: records()[name]
    host.queue("VTPM.get_all_records", Fail("MESSAGE_METHOD_UNKNOWN", "VTPM.get_all_records"))
    assert Inventory.fetch(session).vtpms == {}
    host.queue("VBD.get_all_records", Fail("MESSAGE_REMOVED"))
    with pytest.raises(NotSupported):
        Inventory.fetch(session)
