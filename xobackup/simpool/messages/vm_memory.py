"""VM messages about memory and places: suspend, resume, checkpoint, migration between hosts.

A suspend image is a disk of type ``suspend`` in the pool's suspend repository; its content is derived from its own
uuid, as much of it as a small guest would have used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.simpool import attach, disks, vdi_rules, vm_rules
from xobackup.simpool.content import Seeded
from xobackup.simpool.failures import Failure
from xobackup.simpool.messages.vm_copies import take_snapshot
from xobackup.simpool.messages.vm_life import host_for, start_vm
from xobackup.simpool.registry import Call, message
from xobackup.simpool.toolstack import is_null
from xobackup.simpool.values import NULL

if TYPE_CHECKING:
    from xobackup.simpool.toolstack import Toolstack

IMAGE_HEAD_BYTES = 16 << 20
IMAGE_USED_BYTES = 3 << 20


@message("VM.suspend")
def suspend(call: Call, vm: str) -> None:
    """To Suspended: the memory is on disk, the devices are let go."""
    vm_rules.check(call.database, vm, "suspend")
    suspend_vm(call.toolstack, vm)


def suspend_vm(toolstack: Toolstack, vm: str) -> None:
    """The same without any check."""
    image = save_memory(toolstack, vm)
    database = toolstack.database
    record = database.get("VM", vm)
    for vbd in list(record["VBDs"]):
        if database.get("VBD", vbd)["currently_attached"]:
            attach.unplug(toolstack, vbd)
    database.update("VM", vm, power_state="Suspended", suspend_VDI=image, resident_on=NULL, domid=-1)
    for vbd in record["VBDs"]:
        attach.refresh_vbd(database, vbd)
    vm_rules.refresh(database, vm)


@message("VM.resume")
def resume(call: Call, vm: str, start_paused: bool = False, force: bool = False) -> None:
    del force
    vm_rules.check(call.database, vm, "resume")
    _resume(call, vm, host_for(call, vm), paused=start_paused)


@message("VM.resume_on")
def resume_on(call: Call, vm: str, host: str, start_paused: bool = False, force: bool = False) -> None:
    del force
    vm_rules.check(call.database, vm, "resume_on")
    call.database.row("host", host)
    _resume(call, vm, host, paused=start_paused)


def _resume(call: Call, vm: str, host: str, *, paused: bool) -> None:
    image = call.database.get("VM", vm)["suspend_VDI"]
    if is_null(image):
        raise Failure("VM_HAS_NO_SUSPEND_VDI", vm)
    try:
        start_vm(call.toolstack, vm, host=host, paused=paused)
    except Failure:  # a disk is held elsewhere: its memory is still there, it can be resumed later
        call.database.update("VM", vm, power_state="Suspended")
        vm_rules.refresh(call.database, vm)
        raise
    call.database.update("VM", vm, suspend_VDI=NULL)
    disks.destroy_disk(call.toolstack, image)


def save_memory(toolstack: Toolstack, vm: str) -> str:
    """A new suspend image of a VM. Raises ``VM_NO_SUSPEND_SR`` without a place for it."""
    database = toolstack.database
    record = database.get("VM", vm)
    own, pool = record["suspend_SR"], database.get("pool", toolstack.pool)["suspend_image_SR"]
    sr = pool if is_null(own) else own
    if is_null(sr) or not database.exists("SR", sr) or not toolstack.hosts_of_sr(sr):
        raise Failure("VM_NO_SUSPEND_SR", vm)
    image = disks.create_disk(
        toolstack,
        {
            "SR": sr,
            "name_label": "Suspend image",
            "name_description": "Suspend image",
            "virtual_size": record["memory_static_max"] + IMAGE_HEAD_BYTES,
            "type": "suspend",
            "sharable": False,
            "read_only": False,
            "other_config": {},
        },
    )
    uuid = database.get("VDI", image)["uuid"]
    source = Seeded(seed=int(uuid[:8], 16), length=IMAGE_USED_BYTES)
    data = source.read(0, source.length)
    with disks.storage_failures():
        toolstack.stores[sr].write(uuid, 0, data)
    toolstack.written(image, 0, data, source)
    disks.refresh_disks(toolstack, sr, [image])
    return image


@message("VM.checkpoint")
def checkpoint(call: Call, vm: str, new_name: str) -> str:
    """A snapshot with memory: it is Suspended, with an image of its own; the VM goes on."""
    database, toolstack = call.database, call.toolstack
    vm_rules.check(database, vm, "checkpoint")
    record = database.get("VM", vm)
    suspended = record["power_state"] == "Suspended"
    image = _copy_of_image(call, record["suspend_VDI"]) if suspended else save_memory(toolstack, vm)
    try:
        made = take_snapshot(call, vm, new_name)
    except Failure:
        disks.destroy_disk(toolstack, image)
        raise
    database.update("VM", made, power_state="Suspended", suspend_VDI=image)
    for vbd in database.get("VM", made)["VBDs"]:
        attach.refresh_vbd(database, vbd)
    vm_rules.refresh(database, made)
    return made


def _copy_of_image(call: Call, image: str) -> str:
    vdi_rules.check(call.database, image, "clone")
    return disks.snapshot_disk(call.toolstack, image, is_snapshot=False)


@message("VM.pool_migrate")
def pool_migrate(call: Call, vm: str, host: str, options: dict[str, str] | None = None) -> None:
    """To another host of the pool, running; its disks stay, and so do their change logs."""
    del options
    database = call.database
    vm_rules.check(database, vm, "pool_migrate")
    database.row("host", host)
    if not call.toolstack.is_live(host):
        raise Failure("HOST_OFFLINE", host)
    record = database.get("VM", vm)
    for vbd in record["VBDs"]:
        disk = database.get("VBD", vbd)["VDI"]
        sr = NULL if is_null(disk) else database.get("VDI", disk)["SR"]
        if not is_null(sr) and host not in call.toolstack.hosts_of_sr(sr):
            raise Failure("VM_REQUIRES_SR", vm, sr)
    database.update("VM", vm, resident_on=host)
    for vbd in record["VBDs"]:
        attach.refresh_vbd(database, vbd)
    vm_rules.refresh(database, vm)
