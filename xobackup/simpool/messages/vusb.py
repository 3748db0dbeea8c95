"""VUSB messages: a device of a group, passed through to a VM. Only records; nothing is plugged anywhere."""

from __future__ import annotations

from xobackup.simpool.failures import Failure
from xobackup.simpool.registry import Call, message


@message("VUSB.create")
def create(call: Call, vm: str, group: str, other_config: dict[str, str] | None = None) -> str:
    database = call.database
    database.row("VM", vm)
    database.row("USB_group", group)
    if any(True for _ in database.where("VUSB", USB_group=group)):
        raise Failure("USB_GROUP_CONFLICT", group)
    members = {"VM": vm, "USB_group": group, "other_config": other_config or {}}
    return database.create("VUSB", {**members, "allowed_operations": ["attach"]})


@message("VUSB.unplug")
def unplug(call: Call, vusb: str) -> None:
    if not call.database.get("VUSB", vusb)["currently_attached"]:
        raise Failure("DEVICE_ALREADY_DETACHED", vusb)
    call.database.update("VUSB", vusb, currently_attached=False)


@message("VUSB.destroy")
def destroy(call: Call, vusb: str) -> None:
    record = call.database.get("VUSB", vusb)
    if record["currently_attached"]:
        owner = call.database.get("VM", record["VM"])["uuid"]
        raise Failure("OPERATION_NOT_ALLOWED", f"VUSB '{record['uuid']}' still attached to '{owner}'")
    call.database.destroy("VUSB", vusb)
