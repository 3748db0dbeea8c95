"""VDI messages."""

from __future__ import annotations

from typing import Any

from vhd.block import BLOCK_BYTES
from xobackup.simpool import disks
from xobackup.simpool.failures import Failure
from xobackup.simpool.generic import create_members
from xobackup.simpool.http.certificate import SUBJECT
from xobackup.simpool.registry import Call, message
from xobackup.simpool.toolstack import is_null
from xobackup.simpool.values import EPOCH, NULL
from xobackup.simpool.vdi_rules import check, refresh

_SM_CONFIG_PASSED = frozenset({"image-format", "type", "import_task", "reverting"})
"""Keys of a requested sm_config that the storage driver takes over."""


@message("VDI.create")
def create(call: Call, record: dict[str, Any]) -> str:
    members = create_members(call.database.model["VDI"], record)
    call.database.row("SR", members["SR"])
    if members["type"] == "cbt_metadata":
        raise Failure("VDI_INCOMPATIBLE_TYPE", "", "cbt_metadata")
    config = members.get("sm_config", {})
    members["sm_config"] = {key: value for key, value in config.items() if key in _SM_CONFIG_PASSED}
    return disks.create_disk(call.toolstack, members)


@message("VDI.destroy")
def destroy(call: Call, vdi: str) -> None:
    check(call.database, vdi, "destroy")
    for vm, _ in list(call.database.where("VM", suspend_VDI=vdi)):
        call.database.update("VM", vm, suspend_VDI="OpaqueRef:NULL")
    disks.destroy_disk(call.toolstack, vdi)


@message("VDI.snapshot")
def snapshot(call: Call, vdi: str, driver_params: dict[str, str] | None = None) -> str:
    del driver_params
    check(call.database, vdi, "snapshot")
    return disks.snapshot_disk(call.toolstack, vdi, is_snapshot=True)


@message("VDI.clone")
def clone(call: Call, vdi: str, driver_params: dict[str, str] | None = None) -> str:
    del driver_params
    check(call.database, vdi, "clone")
    return disks.snapshot_disk(call.toolstack, vdi, is_snapshot=False)


@message("VDI.resize")
def resize(call: Call, vdi: str, size: int) -> None:
    check(call.database, vdi, "resize")
    disks.resize_disk(call.toolstack, vdi, size)


@message("VDI.copy", locked=False)
def copy(call: Call, vdi: str, sr: str, base_vdi: str = "", into_vdi: str = "") -> str:
    """Full copy into another disk; with a base, only what differs from it is written."""
    toolstack, database = call.toolstack, call.database
    mark = call.task or f"copy:{vdi}"
    with database.lock:
        check(database, vdi, "copy")
        target = _copy_target(call, vdi, sr, into_vdi)
        source_store, target_store = toolstack.store_of(vdi), toolstack.store_of(target)
        if source_store is None or target_store is None:
            raise Failure("SR_OPERATION_NOT_SUPPORTED", sr)
        uuid, into = database.get("VDI", vdi)["uuid"], database.get("VDI", target)["uuid"]
        skipped = _unchanged(call, vdi, base_vdi)
        database.set_key("VDI", vdi, "current_operations", mark, "copy")
    try:
        with disks.storage_failures():
            _copy_blocks(source_store, uuid, target_store, into, skipped)
    except Failure:
        if is_null(into_vdi):
            with database.lock:
                disks.destroy_disk(toolstack, target)
        raise
    finally:
        with database.lock:
            if database.exists("VDI", vdi):
                database.set_key("VDI", vdi, "current_operations", mark, None)
    with database.lock:
        if is_null(into_vdi):
            toolstack.copied(vdi, target)
        else:
            toolstack.content_changed(target)  # what it held before shines through
        disks.refresh_disks(toolstack, database.get("VDI", target)["SR"], [target])
    return target


def _copy_target(call: Call, vdi: str, sr: str, into_vdi: str) -> str:
    database = call.database
    record = database.get("VDI", vdi)
    if is_null(into_vdi):
        database.row("SR", sr)
        made = {name: record[name] for name in disks.COPIED} | {"SR": sr, "read_only": False}
        return disks.create_disk(call.toolstack, made)
    into = database.get("VDI", into_vdi)
    if into["read_only"]:
        raise Failure("VDI_READONLY", into_vdi)
    if into["virtual_size"] < record["virtual_size"]:
        raise Failure("VDI_TOO_SMALL", into_vdi, record["virtual_size"])
    return into_vdi


def _unchanged(call: Call, vdi: str, base_vdi: str) -> frozenset[int]:
    """Blocks that a copy may leave out because the base has the same."""
    if is_null(base_vdi):
        return frozenset()
    database = call.database
    base_store, store = call.toolstack.store_of(base_vdi), call.toolstack.store_of(vdi)
    if base_store is None or store is not base_store:
        return frozenset()
    mine = store.chain(database.get("VDI", vdi)["uuid"])
    other = base_store.chain(database.get("VDI", base_vdi)["uuid"])
    ours = {index for node in mine for index in node.bat.allocated()}
    changed = {
        index for node in [*mine, *other] if (node in mine) != (node in other) for index in node.bat.allocated()
    }
    return frozenset(ours - changed)


def _copy_blocks(source: Any, uuid: str, target: Any, into: str, skipped: frozenset[int]) -> None:
    buffer = memoryview(bytearray(BLOCK_BYTES))
    with source.disk(uuid) as disk:
        for index in disk.block_indexes():
            if index in skipped:
                continue
            length = min(BLOCK_BYTES, disk.virtual_size_bytes - index * BLOCK_BYTES)
            disk.read_sectors(index, 0, buffer[:length])
            target.write(into, index * BLOCK_BYTES, buffer[:length])


@message("VDI.update")
def update(call: Call, vdi: str) -> None:
    check(call.database, vdi, "update")
    disks.refresh_disks(call.toolstack, call.database.get("VDI", vdi)["SR"], [vdi])


@message("VDI.forget")
def forget(call: Call, vdi: str) -> None:
    check(call.database, vdi, "forget")
    call.database.destroy("VDI", vdi)


@message("VDI.introduce")
def introduce(  # noqa: PLR0917 - the message's own parameters
    call: Call,
    uuid: str,
    name_label: str,
    name_description: str,
    sr: str,
    kind: str,
    sharable: bool,
    read_only: bool,
    other_config: dict[str, str],
    location: str,
    xenstore_data: dict[str, str] | None = None,
    sm_config: dict[str, str] | None = None,
    managed: bool = True,
    virtual_size: int = 0,
    physical_utilisation: int = 0,
    metadata_of_pool: str = NULL,
    is_a_snapshot: bool = False,
    snapshot_time: str = EPOCH,
    snapshot_of: str = NULL,
) -> str:
    """A disk that lies on the storage and that the database does not know (yet, or any more).

    Sizes and trees are the storage's, whatever was given.
    """
    del sm_config, managed, virtual_size, physical_utilisation, metadata_of_pool
    database, store = call.database, call.toolstack.stores.get(sr)
    disks.require_plugged(call.toolstack, sr)
    if any(True for _ in database.where("VDI", SR=sr, location=location)):
        raise Failure("LOCATION_NOT_UNIQUE", sr, location)
    if store is None or location not in store:
        raise Failure("VDI_MISSING", sr, uuid)
    given = {
        "name_label": name_label,
        "name_description": name_description,
        "type": kind,
        "sharable": sharable,
        "read_only": read_only,
        "other_config": other_config,
        "xenstore_data": xenstore_data or {},
        "is_a_snapshot": is_a_snapshot,
        "snapshot_time": snapshot_time,
        "snapshot_of": snapshot_of,
    }
    return disks.introduce_disk(call.toolstack, sr, location, given)


@message("VDI.set_name_label")
def set_name_label(call: Call, vdi: str, value: str) -> None:
    call.database.update("VDI", vdi, name_label=value)


@message("VDI.set_name_description")
def set_name_description(call: Call, vdi: str, value: str) -> None:
    call.database.update("VDI", vdi, name_description=value)


@message("VDI.set_sharable")
def set_sharable(call: Call, vdi: str, value: bool) -> None:
    call.database.update("VDI", vdi, sharable=value)
    refresh(call.database, vdi)


@message("VDI.set_on_boot")
def set_on_boot(call: Call, vdi: str, value: str) -> None:
    check(call.database, vdi, "set_on_boot")
    call.database.update("VDI", vdi, on_boot=value)
    refresh(call.database, vdi)


@message("VDI.get_nbd_info")
def get_nbd_info(call: Call, vdi: str) -> list[dict[str, Any]]:
    """Every address of every host that has the disk's repository; nothing without a network for it."""
    toolstack, database = call.toolstack, call.database
    record = database.get("VDI", vdi)
    if record["type"] == "cbt_metadata":
        raise Failure("VDI_INCOMPATIBLE_TYPE", vdi, "cbt_metadata")
    networks = {
        ref for ref, network in database.where("network") if {"nbd", "insecure_nbd"} & set(network["purpose"])
    }
    shared = {
        "exportname": f"/{record['uuid']}?session_id={call.session}",
        "cert": toolstack.certificate_pem,
        "subject": SUBJECT,
    }
    found = []
    for _, pbd in database.where("PBD", SR=record["SR"], currently_attached=True):
        for pif in database.get("host", pbd["host"])["PIFs"]:
            interface = database.get("PIF", pif)
            if interface["currently_attached"] and interface["network"] in networks:
                addresses = [interface["IP"], *(one.partition("/")[0] for one in interface["IPv6"])]
                port = toolstack.nbd_ports.get(pbd["host"], 10809)
                found += [{**shared, "address": address, "port": port} for address in addresses if address]
    return found
