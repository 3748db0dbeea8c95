"""SR and PBD messages."""

from __future__ import annotations

from xobackup.simpool.disks import introduce_disk, refresh_disks, require_plugged
from xobackup.simpool.failures import Failure
from xobackup.simpool.registry import Call, message


@message("SR.scan")
def scan(call: Call, sr: str) -> None:
    """Know what lies there, bring sizes and parents up to date; as in reality it also wakes the garbage collector."""
    require_plugged(call.toolstack, sr)
    store = call.toolstack.stores.get(sr)
    known = {call.database.get("VDI", vdi)["location"] for vdi in call.database.get("SR", sr)["VDIs"]}
    for uuid in store.uuids() if store is not None else ():
        if uuid not in known:
            introduce_disk(call.toolstack, sr, uuid, {})
    refresh_disks(call.toolstack, sr, list(call.database.get("SR", sr)["VDIs"]))
    call.toolstack.storage_changed(sr)


@message("SR.update")
def update(call: Call, sr: str) -> None:
    require_plugged(call.toolstack, sr)
    refresh_disks(call.toolstack, sr, [])


@message("SR.set_name_label")
def set_name_label(call: Call, sr: str, value: str) -> None:
    call.database.update("SR", sr, name_label=value)


@message("SR.get_supported_types")
def get_supported_types(call: Call) -> list[str]:
    return sorted({record["type"] for _, record in call.database.where("SM")})


@message("PBD.plug")
def plug(call: Call, pbd: str) -> None:
    call.database.update("PBD", pbd, currently_attached=True)


@message("PBD.unplug")
def unplug(call: Call, pbd: str) -> None:
    """Refused while a disk of the repository is attached somewhere."""
    record = call.database.get("PBD", pbd)
    for vdi in call.database.get("SR", record["SR"])["VDIs"]:
        for vbd in call.database.get("VDI", vdi)["VBDs"]:
            if call.database.get("VBD", vbd)["currently_attached"]:
                raise Failure("VDI_IN_USE", vdi, "unplug")
    call.database.update("PBD", pbd, currently_attached=False)
