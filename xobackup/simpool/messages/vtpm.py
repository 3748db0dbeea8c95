"""VTPM messages. The contents are not in the public data model, but clients back them up."""

from __future__ import annotations

from xobackup.simpool.failures import Failure
from xobackup.simpool.registry import Call, message
from xobackup.simpool.vm_rules import check


@message("VTPM.create")
def create(call: Call, vm: str, is_unique: bool = False) -> str:
    check(call.database, vm, "create_vtpm")
    if call.database.get("VM", vm)["VTPMs"]:
        raise Failure("VTPM_MAX_AMOUNT_REACHED", "1")
    return call.database.create("VTPM", {"VM": vm, "is_unique": is_unique, "allowed_operations": ["destroy"]})


@message("VTPM.destroy")
def destroy(call: Call, vtpm: str) -> None:
    owner = call.database.get("VTPM", vtpm)["VM"]
    vm = call.database.get("VM", owner)
    if vm["power_state"] != "Halted":
        raise Failure("VM_BAD_POWER_STATE", owner, "halted", vm["power_state"].lower())
    call.database.destroy("VTPM", vtpm)
    call.toolstack.vtpm_contents.pop(vtpm, None)


@message("VTPM.get_contents")
def get_contents(call: Call, vtpm: str) -> str:
    call.database.row("VTPM", vtpm)
    return call.toolstack.vtpm_contents.get(vtpm, "")


@message("VTPM.set_contents")
def set_contents(call: Call, vtpm: str, contents: str) -> None:
    call.database.row("VTPM", vtpm)
    call.toolstack.vtpm_contents[vtpm] = contents
