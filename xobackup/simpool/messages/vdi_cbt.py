"""VDI messages of changed block tracking."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from xobackup.simpool import disks
from xobackup.simpool.failures import Failure
from xobackup.simpool.registry import Call, message
from xobackup.simpool.vdi_rules import check

if TYPE_CHECKING:
    from xobackup.simpool.database import Record

POLL_S = 0.01


@message("VDI.enable_cbt")
def enable_cbt(call: Call, vdi: str) -> None:
    _check_switch(call, vdi, "enable_cbt")
    call.toolstack.change_logs.enable(vdi)


@message("VDI.disable_cbt")
def disable_cbt(call: Call, vdi: str) -> None:
    _check_switch(call, vdi, "disable_cbt")
    call.toolstack.change_logs.disable(vdi)


def _check_switch(call: Call, vdi: str, operation: str) -> None:
    if not call.toolstack.options.cbt_licensed:
        raise Failure("LICENCE_RESTRICTION", "CBT")
    check(call.database, vdi, operation)
    record = call.database.get("VDI", vdi)
    if record["is_a_snapshot"]:
        raise Failure("OPERATION_NOT_ALLOWED", f"VDI is a snapshot: {vdi}")
    if record["type"] not in ("user", "system"):
        raise Failure("VDI_INCOMPATIBLE_TYPE", vdi, record["type"])
    if record["on_boot"] == "reset":
        raise Failure("VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION")


@message("VDI.list_changed_blocks")
def list_changed_blocks(call: Call, vdi_from: str, vdi_to: str) -> str:
    check(call.database, vdi_from, "list_changed_blocks")
    check(call.database, vdi_to, "list_changed_blocks")
    disks.require_plugged(call.toolstack, call.database.get("VDI", vdi_from)["SR"])
    return call.toolstack.change_logs.changed(vdi_from, vdi_to)


@message("VDI.data_destroy", locked=False)
def data_destroy(call: Call, vdi: str) -> None:
    """Only the record and the log stay. Whoever still holds the disk is waited for, a little."""
    database = call.database
    with database.lock:
        if _already(call, vdi):
            return
    deadline = time.monotonic() + call.toolstack.options.data_destroy_wait_s
    while True:
        with database.lock:
            if not _attached(call, vdi):
                _destroy_data(call, vdi)
                return
        if time.monotonic() >= deadline or call.toolstack.closing.wait(POLL_S):
            raise Failure("VDI_IN_USE", vdi, "data_destroy")


def _already(call: Call, vdi: str) -> bool:
    """Whether there is nothing left to do; raises what forbids it."""
    check(call.database, vdi, "data_destroy")
    record: Record = call.database.get("VDI", vdi)
    if not record["is_a_snapshot"]:
        raise Failure("OPERATION_NOT_ALLOWED", f"VDI is not a snapshot: {vdi}")
    if not record["cbt_enabled"]:
        raise Failure("VDI_NO_CBT_METADATA", vdi)
    return bool(record["type"] == "cbt_metadata")


def _attached(call: Call, vdi: str) -> bool:
    vbds = call.database.get("VDI", vdi)["VBDs"]
    return any(call.database.get("VBD", vbd)["currently_attached"] for vbd in vbds)


def _destroy_data(call: Call, vdi: str) -> None:
    database = call.database
    for vbd in list(database.get("VDI", vdi)["VBDs"]):
        database.destroy("VBD", vbd)
    disks.drop_data(call.toolstack, vdi)
