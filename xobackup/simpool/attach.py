"""Plugging disks into VMs: who may hold a disk, and what the records say while it is held."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from xobackup.simpool import vdi_rules
from xobackup.simpool.failures import Failure
from xobackup.simpool.toolstack import is_null

if TYPE_CHECKING:
    from xobackup.simpool.database import Database, Record
    from xobackup.simpool.toolstack import Toolstack

DEVICES_MAX = 16


def device_name(userdevice: str) -> str:
    """``0`` is ``xvda``, as a Linux guest names it."""
    return "xvd" + string.ascii_lowercase[int(userdevice) % 26]


def free_devices(database: Database, vm: str) -> list[str]:
    """Numbers of disks that the VM has not used yet."""
    record = database.get("VM", vm)
    taken = {database.get("VBD", vbd)["userdevice"] for vbd in record["VBDs"]}
    limit = 256 if record["is_control_domain"] else DEVICES_MAX
    return [str(number) for number in range(limit) if str(number) not in taken]


def create_vbd(database: Database, record: Record) -> str:
    """A VBD as ``VBD.create`` makes one, with its checks."""
    vm, vdi = record["VM"], record["VDI"]
    database.row("VM", vm)
    if record["type"] == "CD" and record["mode"] != "RO":
        raise Failure("VBD_CDS_MUST_BE_READONLY")
    if not record["empty"]:
        disk = database.get("VDI", vdi)
        if disk["type"] == "cbt_metadata":
            raise Failure("VDI_INCOMPATIBLE_TYPE", vdi, disk["type"])
        if disk["read_only"] and record["mode"] == "RW":
            raise Failure("VDI_READONLY", vdi)
    device = record["userdevice"]
    free = free_devices(database, vm)
    if device == "autodetect":
        if not free:
            raise Failure("INVALID_DEVICE", device)
        device = free[0]
    elif not device.isdigit() or int(device) >= 256:
        raise Failure("INVALID_DEVICE", device)
    elif any(database.get("VBD", vbd)["userdevice"] == device for vbd in database.get("VM", vm)["VBDs"]):
        raise Failure("DEVICE_ALREADY_EXISTS", device)
    vbd = database.create("VBD", {**record, "userdevice": device})
    refresh_vbd(database, vbd)
    return vbd


def plug(toolstack: Toolstack, vbd: str) -> None:
    """Attach. Raises ``VDI_IN_USE`` when somebody else's hold forbids it."""
    database = toolstack.database
    record = database.get("VBD", vbd)
    if record["currently_attached"]:
        raise Failure("DEVICE_ALREADY_ATTACHED", vbd)
    vm = database.get("VM", record["VM"])
    if vm["power_state"] != "Running":
        raise Failure("VM_BAD_POWER_STATE", record["VM"], "running", vm["power_state"].lower())
    if not is_null(record["VDI"]) and not vm["is_control_domain"]:
        _check_hold(database, vbd, record)
    if not is_null(record["VDI"]) and record["mode"] == "RW":
        toolstack.change_logs.activate(record["VDI"])
    database.update("VBD", vbd, currently_attached=True, device=device_name(record["userdevice"]))
    refresh_vbd(database, vbd)


def _check_hold(database: Database, vbd: str, record: Record) -> None:
    disk = database.get("VDI", record["VDI"])
    if disk["sharable"] or record["type"] == "CD":
        return
    for other in disk["VBDs"]:
        held = database.get("VBD", other)
        if other == vbd or not held["currently_attached"]:
            continue
        if "RW" in (record["mode"], held["mode"]):
            raise Failure("VDI_IN_USE", record["VDI"])


def unplug(toolstack: Toolstack, vbd: str) -> None:
    database = toolstack.database
    record = database.get("VBD", vbd)
    if not record["currently_attached"]:
        raise Failure("DEVICE_ALREADY_DETACHED", vbd)
    database.update("VBD", vbd, currently_attached=False, device="")
    if not is_null(record["VDI"]) and record["mode"] == "RW":
        toolstack.change_logs.deactivated(record["VDI"])
    refresh_vbd(database, vbd)


def destroy_vbd(database: Database, vbd: str) -> None:
    record = database.get("VBD", vbd)
    if record["currently_attached"]:
        owner = database.get("VM", record["VM"])["uuid"]
        raise Failure("OPERATION_NOT_ALLOWED", f"VBD '{record['uuid']}' still attached to '{owner}'")
    disk = record["VDI"]
    database.destroy("VBD", vbd)
    if not is_null(disk) and database.exists("VDI", disk):
        vdi_rules.refresh(database, disk)


def refresh_vbd(database: Database, vbd: str) -> None:
    """Recompute the allowed operations of a VBD and of its disk."""
    record = database.get("VBD", vbd)
    running = database.get("VM", record["VM"])["power_state"] == "Running"
    allowed = ["attach"]
    if running:
        allowed += ["unplug", "unplug_force"] if record["currently_attached"] else ["plug"]
    if record["type"] == "CD":
        allowed.append("insert" if record["empty"] else "eject")
    database.update("VBD", vbd, allowed_operations=allowed)
    if not is_null(record["VDI"]) and database.exists("VDI", record["VDI"]):
        vdi_rules.refresh(database, record["VDI"])


class Dom0Attachment:
    """A disk held by a host's control domain, as during transfers. A context manager."""

    def __init__(self, toolstack: Toolstack, vdi: str, host: str, mode: str) -> None:
        self._toolstack = toolstack
        self._vdi = vdi
        self._host = host
        self._mode = mode
        self.vbd = ""

    def attach(self) -> None:
        """Create and plug the VBD. A disk held for writing is not given for writing again."""
        database = self._toolstack.database
        with database.lock:
            if self._mode == "RW":
                self._refuse_second_writer(database)
            self.vbd = create_vbd(
                database,
                {
                    "VM": self._toolstack.control_domain(self._host),
                    "VDI": self._vdi,
                    "userdevice": "autodetect",
                    "mode": self._mode,
                    "type": "Disk",
                    "bootable": False,
                    "unpluggable": True,
                    "empty": False,
                    "other_config": {"is_owner": "false"},
                    "qos_algorithm_type": "",
                    "qos_algorithm_params": {},
                },
            )
            plug(self._toolstack, self.vbd)

    def _refuse_second_writer(self, database: Database) -> None:
        for vbd in database.get("VDI", self._vdi)["VBDs"]:
            held = database.get("VBD", vbd)
            if held["currently_attached"]:
                raise Failure("VDI_IN_USE", self._vdi)

    def detach(self) -> None:
        """Unplug and destroy the VBD unless somebody did so meanwhile."""
        database = self._toolstack.database
        with database.lock:
            if not self.vbd or not database.exists("VBD", self.vbd):
                return
            if database.get("VBD", self.vbd)["currently_attached"]:
                unplug(self._toolstack, self.vbd)
            destroy_vbd(database, self.vbd)
