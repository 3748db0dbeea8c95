"""VBD messages."""

from __future__ import annotations

from typing import Any

from xobackup.simpool import attach
from xobackup.simpool.failures import Failure
from xobackup.simpool.generic import create_members
from xobackup.simpool.registry import Call, message
from xobackup.simpool.toolstack import is_null
from xobackup.simpool.values import NULL


@message("VBD.create")
def create(call: Call, record: dict[str, Any]) -> str:
    members = create_members(call.database.model["VBD"], record)
    members.pop("currently_attached", None)  # true only for suspended VMs, which this pool does not resume
    return attach.create_vbd(call.database, members)


@message("VBD.destroy")
def destroy(call: Call, vbd: str) -> None:
    attach.destroy_vbd(call.database, vbd)


@message("VBD.plug")
def plug(call: Call, vbd: str) -> None:
    attach.plug(call.toolstack, vbd)


@message("VBD.unplug")
def unplug(call: Call, vbd: str) -> None:
    attach.unplug(call.toolstack, vbd)


@message("VBD.unplug_force")
def unplug_force(call: Call, vbd: str) -> None:
    if call.database.get("VBD", vbd)["currently_attached"]:
        attach.unplug(call.toolstack, vbd)


@message("VBD.insert")
def insert(call: Call, vbd: str, vdi: str) -> None:
    if not call.database.get("VBD", vbd)["empty"]:
        raise Failure("VBD_NOT_EMPTY", vbd)
    call.database.row("VDI", vdi)
    call.database.update("VBD", vbd, VDI=vdi, empty=False)
    attach.refresh_vbd(call.database, vbd)


@message("VBD.eject")
def eject(call: Call, vbd: str) -> None:
    record = call.database.get("VBD", vbd)
    if record["empty"] or is_null(record["VDI"]):
        raise Failure("VBD_IS_EMPTY", vbd)
    call.database.update("VBD", vbd, VDI=NULL, empty=True)
    attach.refresh_vbd(call.database, vbd)


@message("VBD.set_mode")
def set_mode(call: Call, vbd: str, value: str) -> None:
    call.database.update("VBD", vbd, mode=value)
