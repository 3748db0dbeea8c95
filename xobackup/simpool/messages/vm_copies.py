"""VM messages that make one VM from another: snapshot, clone, copy, revert."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from xobackup.simpool import attach, disks, vdi_rules, vm_rules
from xobackup.simpool.database import copy_record
from xobackup.simpool.failures import Failure
from xobackup.simpool.messages import vdi as vdi_messages
from xobackup.simpool.messages.vif import new_mac
from xobackup.simpool.messages.vm_life import stop_vm
from xobackup.simpool.registry import Call, message
from xobackup.simpool.relations import DERIVED
from xobackup.simpool.toolstack import is_null
from xobackup.simpool.values import EPOCH, NULL

if TYPE_CHECKING:
    from collections.abc import Callable

    from xobackup.simpool.database import Record

_REVERTED = ("memory_", "VCPUs_", "HVM_", "PV_", "platform", "NVRAM", "bios_strings", "domain_type", "hardware_")
"""Beginnings of the names of fields that a revert brings back."""
_NOT_KEPT_CONFIG = frozenset({"default_template", "xensource_internal"})


@message("VM.snapshot")
def snapshot(call: Call, vm: str, new_name: str, ignore_vdis: list[str] | None = None) -> str:
    """A crash-consistent snapshot: a new VM, snapshots of its disks, and the VM's parent from now on."""
    database = call.database
    if ignore_vdis is not None and not call.toolstack.options.snapshot_takes_ignore_vdis:
        raise Failure("MESSAGE_PARAMETER_COUNT_MISMATCH", "VM.snapshot", 2, 3)
    vm_rules.check(database, vm, "snapshot")
    return take_snapshot(call, vm, new_name, frozenset(ignore_vdis or ()))


def take_snapshot(call: Call, vm: str, new_name: str, ignored: frozenset[str] = frozenset()) -> str:
    """The snapshot itself, without any check of the VM."""
    database = call.database
    record = database.get("VM", vm)
    new_disks = _copy_disks(call, vm, _snapshot_of_disk, ignored=ignored)
    changes = {
        "name_label": new_name,
        "is_a_template": True,
        "is_a_snapshot": True,
        "snapshot_of": vm,
        "snapshot_time": call.toolstack.now_text(),
        "parent": record["parent"],
        "snapshot_info": {
            "power-state-at-snapshot": record["power_state"],
            "disk-snapshot-type": "crash_consistent",
        },
        "snapshot_metadata": json.dumps(copy_record(record), sort_keys=True),
    }
    made = _copy_vm(call, vm, changes)
    _copy_devices(call, vm, made, new_disks, keep_macs=True)
    database.update("VM", vm, parent=made)
    _refresh(call, made)
    return made


def _snapshot_of_disk(call: Call, vdi: str) -> str:
    vdi_rules.check(call.database, vdi, "snapshot")
    call.toolstack.faults.check_call("VDI.snapshot")
    return disks.snapshot_disk(call.toolstack, vdi, is_snapshot=True)


def _clone_of_disk(call: Call, vdi: str) -> str:
    vdi_rules.check(call.database, vdi, "clone")
    return disks.snapshot_disk(call.toolstack, vdi, is_snapshot=False)


@message("VM.clone")
def clone(call: Call, vm: str, new_name: str) -> str:
    vm_rules.check(call.database, vm, "clone")
    return _independent(call, vm, new_name, _copy_disks(call, vm, _clone_of_disk))


@message("VM.copy")
def copy(call: Call, vm: str, new_name: str, sr: str) -> str:
    """Disks are copied in full, to ``sr`` or where they are."""
    vm_rules.check(call.database, vm, "copy")

    def copy_disk(call: Call, vdi: str) -> str:
        target = call.database.get("VDI", vdi)["SR"] if is_null(sr) else sr
        return str(vdi_messages.copy(call, vdi, target))

    return _independent(call, vm, new_name, _copy_disks(call, vm, copy_disk))


def _independent(call: Call, vm: str, new_name: str, new_disks: dict[str, str]) -> str:
    record = call.database.get("VM", vm)
    changes = {
        "name_label": new_name,
        "is_a_snapshot": False,
        "snapshot_of": NULL,
        "snapshot_time": EPOCH,
        "parent": NULL,
        "snapshot_info": {},
        "snapshot_metadata": "",
        "other_config": {**record["other_config"], "mac_seed": call.database.new_uuid()},
    }
    made = _copy_vm(call, vm, changes)
    _copy_devices(call, vm, made, new_disks, keep_macs=False)
    _refresh(call, made)
    return made


def _copy_disks(
    call: Call, vm: str, copy_one: Callable[[Call, str], str], *, ignored: frozenset[str] = frozenset()
) -> dict[str, str]:
    """New disks by their originals; all or none."""
    made: dict[str, str] = {}
    for vbd in list(call.database.get("VM", vm)["VBDs"]):
        record = call.database.get("VBD", vbd)
        vdi = record["VDI"]
        if record["type"] == "CD" or record["empty"] or is_null(vdi) or vdi in ignored or vdi in made:
            continue
        try:
            made[vdi] = copy_one(call, vdi)
        except Failure:
            for done in made.values():
                disks.destroy_disk(call.toolstack, done)
            raise
    return made


def _copy_vm(call: Call, vm: str, changes: Record) -> str:
    database = call.database
    record = database.copy("VM", vm)
    for cls, field in DERIVED:
        if cls == "VM":
            record[field] = []
    other = {key: value for key, value in record["other_config"].items() if key not in _NOT_KEPT_CONFIG}
    record |= {
        "uuid": "",
        "power_state": "Halted",
        "allowed_operations": [],
        "current_operations": {},
        "blocked_operations": {},
        "resident_on": NULL,
        "scheduled_to_be_resident_on": NULL,
        "domid": -1,
        "is_default_template": False,
        "ha_always_run": False,
        "suspend_VDI": NULL,
        "attached_PCIs": [],
        "blobs": {},
        "other_config": other,
        "metrics": _copy_of(call, "VM_metrics", record["metrics"]),
        "guest_metrics": _copy_of(call, "VM_guest_metrics", record["guest_metrics"]),
        "transportable_snapshot_id": "",
    }
    return database.create("VM", record | changes)


def _copy_of(call: Call, cls: str, ref: str) -> str:
    if is_null(ref) or not call.database.exists(cls, ref):
        return NULL
    return call.database.create(cls, {**call.database.copy(cls, ref), "uuid": ""})


def _copy_devices(call: Call, vm: str, made: str, new_disks: dict[str, str], *, keep_macs: bool) -> None:
    database = call.database
    for vbd in list(database.get("VM", vm)["VBDs"]):
        record = database.copy("VBD", vbd)
        if record["type"] != "CD" and record["VDI"] not in new_disks:
            continue
        disk = new_disks.get(record["VDI"], record["VDI"])
        owner = {"owner": ""} if record["type"] != "CD" else {}
        record |= _fresh(made) | {"VDI": disk, "other_config": {**record["other_config"], **owner}, "device": ""}
        database.create("VBD", record)
    for vif in list(database.get("VM", vm)["VIFs"]):
        record = database.copy("VIF", vif) | _fresh(made)
        if not keep_macs and record["MAC_autogenerated"]:
            record["MAC"] = new_mac(call)
        database.create("VIF", record)
    for vtpm in list(database.get("VM", vm)["VTPMs"]):
        new = database.create("VTPM", database.copy("VTPM", vtpm) | {"uuid": "", "VM": made})
        call.toolstack.vtpm_contents[new] = call.toolstack.vtpm_contents.get(vtpm, "")


def _fresh(vm: str) -> dict[str, Any]:
    return {"uuid": "", "VM": vm, "currently_attached": False, "current_operations": {}, "allowed_operations": []}


def _refresh(call: Call, vm: str) -> None:
    for vbd in call.database.get("VM", vm)["VBDs"]:
        attach.refresh_vbd(call.database, vbd)
    vm_rules.refresh(call.database, vm)


@message("VM.revert")
def revert(call: Call, snapshot: str) -> None:
    """The VM's disks are destroyed and replaced by clones of the snapshot's, under new uuids.

    A running VM is stopped first. A checkpoint brings its memory back: the VM is Suspended afterwards.
    """
    database = call.database
    vm_rules.check(database, snapshot, "revert")
    source = database.get("VM", snapshot)
    vm = source["snapshot_of"]
    if is_null(vm) or not database.exists("VM", vm):
        raise Failure("VM_REVERT_FAILED", vm, snapshot)
    clones = _copy_disks(call, snapshot, _clone_of_disk)
    image = source["suspend_VDI"]
    memory = NULL if is_null(image) else _clone_of_disk(call, image)
    if database.get("VM", vm)["power_state"] != "Halted":
        stop_vm(call.toolstack, vm)
    former = [database.copy("VBD", vbd) for vbd in database.get("VM", vm)["VBDs"]]
    old = {vbd["userdevice"]: vbd["VDI"] for vbd in former if vbd["type"] != "CD"}
    for vbd in list(database.get("VM", vm)["VBDs"]):
        database.destroy("VBD", vbd)
    for cls in ("VIF", "VTPM"):
        for device in list(database.get("VM", vm)[f"{cls}s"]):
            database.destroy(cls, device)
    _copy_devices(call, snapshot, vm, clones, keep_macs=True)
    for vbd in database.get("VM", vm)["VBDs"]:
        record = database.get("VBD", vbd)
        _repoint_snapshots(call, old.get(record["userdevice"], NULL), record["VDI"])
    for disk in old.values():
        if not is_null(disk) and database.exists("VDI", disk):
            disks.destroy_disk(call.toolstack, disk)
    kept = {name: value for name, value in source.items() if name.startswith(_REVERTED)}
    database.update("VM", vm, **kept)
    old_image = database.get("VM", vm)["suspend_VDI"]
    power = "Halted" if is_null(memory) else "Suspended"
    database.update("VM", vm, parent=snapshot, power_state=power, suspend_VDI=memory)
    if not is_null(old_image) and database.exists("VDI", old_image):
        disks.destroy_disk(call.toolstack, old_image)
    _refresh(call, vm)


def _repoint_snapshots(call: Call, old: str, new: str) -> None:
    if is_null(old):
        return
    for vdi in list(call.database.get("VDI", old)["snapshots"]):
        call.database.update("VDI", vdi, snapshot_of=new)
