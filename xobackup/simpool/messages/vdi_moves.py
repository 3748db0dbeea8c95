"""VDI messages that grow disks or move them while a VM runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.simpool import attach, disks
from xobackup.simpool.failures import Failure
from xobackup.simpool.registry import Call, message
from xobackup.simpool.vdi_rules import check, refresh

if TYPE_CHECKING:
    from xobackup.simpool.database import Record

KEPT = (*disks.SNAPSHOT_COPIED, "is_a_snapshot", "snapshot_time")


@message("VDI.resize_online")
def resize_online(call: Call, vdi: str, size: int) -> None:
    """Gone from most versions; where it exists, the driver must know it too."""
    if not call.toolstack.options.resize_online:
        raise Failure("MESSAGE_REMOVED")
    check(call.database, vdi, "resize_online")
    disks.resize_disk(call.toolstack, vdi, size)


@message("VDI.pool_migrate")
def pool_migrate(call: Call, vdi: str, sr: str, options: dict[str, str]) -> str:
    """To another repository under a running VM: the disk and its snapshots are new ones there, without any log.

    What a backup remembers of them (references, uuids, trees, change logs) is gone: its next run is a full.
    """
    del options
    toolstack, database = call.toolstack, call.database
    record = database.get("VDI", vdi)
    disks.require_plugged(toolstack, sr)
    if not record["managed"]:
        raise Failure("VDI_NOT_MANAGED", vdi)
    if not any(database.get("VBD", vbd)["currently_attached"] for vbd in record["VBDs"]):
        raise Failure("VDI_NEEDS_VM_FOR_MIGRATE", vdi)
    if any(op != "copy" for op in record["current_operations"].values()):
        task, running = next(iter(record["current_operations"].items()))
        raise Failure("OTHER_OPERATION_IN_PROGRESS", "VDI", vdi, running, task)
    return move_disk(call, vdi, sr)


def move_disk(call: Call, vdi: str, sr: str) -> str:
    """A disk with its snapshots into another repository, all or nothing; the new disk."""
    toolstack, database = call.toolstack, call.database
    moved: dict[str, str] = {}
    try:
        for one in (vdi, *database.get("VDI", vdi)["snapshots"]):
            if database.get("VDI", one)["type"] != "cbt_metadata":
                moved[one] = _copy_to(call, one, sr)
    except Failure:
        for made in moved.values():
            disks.destroy_disk(toolstack, made)
        raise
    for old, new in moved.items():
        if old != vdi:
            database.update("VDI", new, snapshot_of=moved[vdi])
        _hand_over(call, old, new)
        disks.destroy_disk(toolstack, old)
    for new in moved.values():
        refresh(database, new)
    return moved[vdi]


def _copy_to(call: Call, vdi: str, sr: str) -> str:
    toolstack, database = call.toolstack, call.database
    source, target = toolstack.store_of(vdi), toolstack.stores.get(sr)
    if source is None or target is None:
        raise Failure("SR_OPERATION_NOT_SUPPORTED", sr)
    record: Record = database.copy("VDI", vdi)
    new = disks.create_disk(toolstack, {name: record[name] for name in disks.COPIED} | {"SR": sr, "read_only": False})
    try:
        with disks.storage_failures():
            disks.copy_content(source, record["uuid"], target, database.get("VDI", new)["uuid"])
    except Failure:
        disks.destroy_disk(toolstack, new)
        raise
    database.update("VDI", new, **{name: record[name] for name in KEPT})
    toolstack.copied(vdi, new)
    disks.refresh_disks(toolstack, sr, [new])
    return new


def _hand_over(call: Call, old: str, new: str) -> None:
    """The old disk's devices and suspended VMs show the new one."""
    database = call.database
    for vbd in list(database.get("VDI", old)["VBDs"]):
        database.update("VBD", vbd, VDI=new)
        attach.refresh_vbd(database, vbd)
    for vm, _ in list(database.where("VM", suspend_VDI=old)):
        database.update("VM", vm, suspend_VDI=new)
