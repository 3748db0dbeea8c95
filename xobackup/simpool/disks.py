"""What happens to a disk, in the database and on the storage together.

Every function keeps both in step: a record ``managed`` or not for every VHD, ``vhd-parent`` as the trees are,
sizes of disks and repositories recomputed. To be called under the database's lock.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from vhd.block import BLOCK_BYTES
from xobackup.simpool import image_formats, vdi_rules
from xobackup.simpool.failures import Failure, backend
from xobackup.simpool.storage.store import ChainTooLong, SrStore, StorageFull, StorageReadOnly
from xobackup.simpool.values import EPOCH, NULL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xobackup.simpool.database import Record
    from xobackup.simpool.toolstack import Toolstack

COPIED = (
    "name_label",
    "name_description",
    "type",
    "sharable",
    "other_config",
    "xenstore_data",
    "tags",
    "virtual_size",
)
SNAPSHOT_COPIED = (*COPIED, "on_boot", "allow_caching")


@contextmanager
def storage_failures() -> Iterator[None]:
    """What goes wrong on the storage, as its driver says it."""
    try:
        yield
    except StorageFull as error:
        raise backend(44, "There is insufficient space") from error
    except ChainTooLong as error:
        raise backend(109, "The snapshot chain is too long") from error
    except StorageReadOnly as error:
        raise backend(461, "The file system for SR cannot be written to.") from error


def require_plugged(toolstack: Toolstack, sr: str) -> None:
    """Raise ``SR_HAS_NO_PBDS`` or ``SR_NOT_ATTACHED`` unless some host has the repository plugged."""
    pbds = toolstack.database.get("SR", sr)["PBDs"]
    if not pbds:
        raise Failure("SR_HAS_NO_PBDS", sr)
    if not toolstack.hosts_of_sr(sr):
        raise Failure("SR_NOT_ATTACHED", sr)


def create_disk(toolstack: Toolstack, record: Record) -> str:
    """A new empty disk as ``VDI.create`` makes one; its size is rounded up to whole blocks."""
    database, sr = toolstack.database, record["SR"]
    require_plugged(toolstack, sr)
    store = toolstack.stores.get(sr)
    if store is None or "VDI_CREATE" not in vdi_rules.sr_features(database, sr):
        raise Failure("SR_OPERATION_NOT_SUPPORTED", sr)
    config = record.get("sm_config", {})
    image_format = image_formats.format_of_new(database, sr, config, record["virtual_size"])
    size = image_formats.checked_size(image_format, record["virtual_size"])
    if image_format != "vhd":
        config = {**config, image_formats.KEY: image_format}
    uuid = database.new_uuid()
    with storage_failures():
        store.create(uuid, size, image_format)
    vdi = database.create("VDI", {**record, **_initial(uuid), "virtual_size": size, "sm_config": config})
    for tell in toolstack.on_created:
        tell(vdi, size)
    refresh_disks(toolstack, sr, [vdi])
    toolstack.storage_changed(sr)
    return vdi


def _initial(uuid: str) -> Record:
    return {
        "uuid": uuid,
        "location": uuid,
        "managed": True,
        "missing": False,
        "storage_lock": False,
        "parent": NULL,
        "cbt_enabled": False,
        "is_a_snapshot": False,
        "snapshot_of": NULL,
        "snapshot_time": EPOCH,
    }


def snapshot_disk(toolstack: Toolstack, vdi: str, *, is_snapshot: bool) -> str:
    """Snapshot (or clone) a disk; returns the new disk."""
    database = toolstack.database
    record = database.get("VDI", vdi)
    store = toolstack.store_of(vdi)
    if store is None:
        raise Failure("SR_OPERATION_NOT_SUPPORTED", record["SR"])
    new_uuid, base_uuid = database.new_uuid(), database.new_uuid()
    with storage_failures():
        base = store.snapshot(record["uuid"], new_uuid, base_uuid, deflated=is_snapshot)
    made = {name: record[name] for name in SNAPSHOT_COPIED} | {"SR": record["SR"]} | _initial(new_uuid)
    if image_formats.KEY in record["sm_config"]:
        made["sm_config"] = {image_formats.KEY: record["sm_config"][image_formats.KEY]}
    if is_snapshot:
        made |= {
            "is_a_snapshot": True,
            "snapshot_of": vdi,
            "snapshot_time": toolstack.now_text(),
            "cbt_enabled": toolstack.change_logs.snapshotted(vdi, new_uuid),
        }
    new = database.create("VDI", made)
    touched = [vdi, new]
    if base is not None:
        touched.append(_base_copy(toolstack, record, base_uuid))
    toolstack.copied(vdi, new)
    refresh_disks(toolstack, record["SR"], touched)
    toolstack.storage_changed(record["SR"])
    return new


def _base_copy(toolstack: Toolstack, record: Record, uuid: str) -> str:
    return record_base_copy(toolstack, record["SR"], uuid, record["virtual_size"])


def record_base_copy(toolstack: Toolstack, sr: str, uuid: str, size_bytes: int) -> str:
    """The record of a hidden node."""
    hidden = {
        "SR": sr,
        "name_label": "base copy",
        "type": "user",
        "virtual_size": size_bytes,
        **_initial(uuid),
        "managed": False,
        "read_only": True,
    }
    return toolstack.database.create("VDI", hidden)


def introduce_disk(toolstack: Toolstack, sr: str, uuid: str, given: Record) -> str:
    """The record of a disk that lies on the storage; hidden ones are nobody's."""
    database, node = toolstack.database, toolstack.stores[sr].node(uuid)
    if node.hidden:
        return record_base_copy(toolstack, sr, uuid, node.size_bytes)
    record = {"SR": sr, "type": "user", "virtual_size": node.size_bytes, **_initial(uuid), **given}
    vdi = database.create("VDI", record)
    refresh_disks(toolstack, sr, [vdi])
    return vdi


def destroy_disk(toolstack: Toolstack, vdi: str) -> None:
    """Remove a disk with its record; the tree above it is the garbage collector's business."""
    database = toolstack.database
    record = database.get("VDI", vdi)
    sr, uuid, store = record["SR"], record["uuid"], toolstack.store_of(vdi)
    if store is not None:
        with storage_failures():
            store.destroy(uuid)
    toolstack.change_logs.destroyed(uuid)
    database.destroy("VDI", vdi)
    refresh_disks(toolstack, sr, [])
    toolstack.storage_changed(sr)


def drop_data(toolstack: Toolstack, vdi: str) -> None:
    """Keep the record and the log of a snapshot; its data goes."""
    database = toolstack.database
    record = database.get("VDI", vdi)
    store = toolstack.store_of(vdi)
    config = {key: value for key, value in record["sm_config"].items() if key != "vhd-parent"}
    if store is not None:
        with storage_failures():
            store.destroy(record["uuid"])
    database.update("VDI", vdi, type="cbt_metadata", physical_utilisation=0, sm_config=config)
    refresh_disks(toolstack, record["SR"], [vdi])
    toolstack.storage_changed(record["SR"])


def resize_disk(toolstack: Toolstack, vdi: str, size_bytes: int) -> None:
    """Grow a disk; shrinking is refused by the storage."""
    record = toolstack.database.get("VDI", vdi)
    store = toolstack.store_of(vdi)
    if store is None:
        raise Failure("SR_OPERATION_NOT_SUPPORTED", record["SR"])
    size = image_formats.checked_size(store.node(record["uuid"]).image_format, size_bytes)
    if size < record["virtual_size"]:
        raise backend(79, "VDI Invalid size", "shrinking not allowed")
    with storage_failures():
        store.resize(record["uuid"], size)
    toolstack.database.update("VDI", vdi, virtual_size=size)
    refresh_disks(toolstack, record["SR"], [vdi])


def refresh_disks(toolstack: Toolstack, sr: str, vdis: list[str]) -> None:
    """Bring sizes, ``vhd-parent`` and allowed operations of these disks, and the repository's sums, up to date."""
    database, store = toolstack.database, toolstack.stores.get(sr)
    for vdi in vdis:
        record = database.get("VDI", vdi)
        if store is not None and record["uuid"] in store:
            parent = store.parent(record["uuid"])
            config = {key: value for key, value in record["sm_config"].items() if key != "vhd-parent"}
            if database.get("SR", sr)["type"].startswith("lvm"):
                config["vdi_type"] = "vhd"
            if parent is not None:
                config["vhd-parent"] = parent
            database.update("VDI", vdi, physical_utilisation=store.charge(record["uuid"]), sm_config=config)
        vdi_rules.refresh(database, vdi)
    refresh_sr(toolstack, sr)


def refresh_sr(toolstack: Toolstack, sr: str) -> None:
    """Recompute what a repository says about its room."""
    database, store = toolstack.database, toolstack.stores.get(sr)
    if store is None:
        return
    allocation = sum(
        database.get("VDI", vdi)["virtual_size"]
        for vdi in database.get("SR", sr)["VDIs"]
        if database.get("VDI", vdi)["managed"]
    )
    database.update("SR", sr, physical_utilisation=store.used_bytes, virtual_allocation=allocation)


def copy_content(store_from: SrStore, uuid_from: str, store_to: SrStore, uuid_to: str) -> None:
    """Write everything one disk shows into another (both stay usable meanwhile)."""
    buffer = memoryview(bytearray(BLOCK_BYTES))
    with store_from.disk(uuid_from) as disk:
        for index in disk.block_indexes():
            length = min(BLOCK_BYTES, disk.virtual_size_bytes - index * BLOCK_BYTES)
            disk.read_sectors(index, 0, buffer[:length])
            store_to.write(uuid_to, index * BLOCK_BYTES, buffer[:length])
