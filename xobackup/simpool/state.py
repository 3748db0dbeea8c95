"""The database on disk, so that a pool survives a restart of its process.

One JSON file, replaced atomically. Sessions and tasks are not kept: a restart ends them. Disks that the control
domain held for transfers are let go.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from xobackup.simpool.build_storage import open_store
from xobackup.simpool.database import Row
from xobackup.simpool.disks import record_base_copy, refresh_disks

if TYPE_CHECKING:
    from pathlib import Path

    from xobackup.simpool.toolstack import Toolstack

FORMAT = 1
NOT_KEPT = frozenset({"session", "task"})


def state_path(directory: Path) -> Path:
    return directory / "database.json"


def save_state(toolstack: Toolstack, directory: Path) -> None:
    """Write the whole database."""
    database = toolstack.database
    with database.lock:
        rows = {
            cls: {ref: [row.created, row.modified, row.record] for ref, row in table.items()}
            for cls, table in database.rows.items()
            if cls not in NOT_KEPT and table
        }
        state: dict[str, Any] = {
            "format": FORMAT,
            "generation": database.generation,
            "rows": rows,
            "vtpm_contents": toolstack.vtpm_contents,
            "change_logs": toolstack.change_logs.saved(),
        }
        text = json.dumps(state, separators=(",", ":"))
        path = state_path(directory)
        temporary = path.with_suffix(".new")
        temporary.write_text(text)
        temporary.replace(path)


def saved_hosts(directory: Path) -> int:
    """How many hosts the saved pool has."""
    return len(json.loads(state_path(directory).read_text())["rows"]["host"])


def load_state(toolstack: Toolstack, directory: Path, *, addresses: list[str]) -> None:
    """Read the database and open the repositories it names. Hosts' addresses are those they are served at now."""
    state = json.loads(state_path(directory).read_text())
    database = toolstack.database
    with database.lock:
        database.generation = state["generation"]
        for cls, table in state["rows"].items():
            database.rows[cls] = {ref: Row(record, made, changed) for ref, (made, changed, record) in table.items()}
        database.index()
        toolstack.vtpm_contents.update(state["vtpm_contents"])
        toolstack.change_logs.load(state.get("change_logs", {}))
        for sr, record in database.where("SR"):
            if record["type"] != "iso":
                open_store(toolstack, sr, directory)
        toolstack.rng.seed(f"{toolstack.seed} {database.generation}")  # else uuids would be given twice
        _release_control_domains(toolstack)
        for sr in list(toolstack.stores):
            _reconcile(toolstack, sr)
        for host, address in zip(database.refs("host"), addresses, strict=False):
            if database.get("host", host)["address"].startswith("127.0.0.1:"):
                database.update("host", host, address=address)


def replace_tables(toolstack: Toolstack, tables: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Give the database other records; the storage stays, and is right where they differ from it."""
    database = toolstack.database
    with database.lock:
        database.generation += 1
        now = database.generation
        for cls in database.rows:
            if cls in NOT_KEPT:
                database.rows[cls] = {}
                continue
            database.rows[cls] = {ref: Row(record, now, now) for ref, record in tables.get(cls, {}).items()}
        database.index()
        _release_control_domains(toolstack)
        for sr in [sr for sr in toolstack.stores if database.exists("SR", sr)]:
            _reconcile(toolstack, sr)
        database.changed.notify_all()


def _reconcile(toolstack: Toolstack, sr: str) -> None:
    """After a process was killed the trees may be ahead of the records: the trees are right."""
    database, store = toolstack.database, toolstack.stores[sr]
    recorded = {database.get("VDI", vdi)["uuid"]: vdi for vdi in database.get("SR", sr)["VDIs"]}
    for uuid, vdi in recorded.items():
        if uuid not in store:
            if database.get("VDI", vdi)["type"] == "cbt_metadata":
                continue
            if database.get("VDI", vdi)["managed"]:
                database.update("VDI", vdi, missing=True)
            else:
                database.destroy("VDI", vdi)
    for uuid in store.uuids():
        if uuid in recorded:
            continue
        if store.node(uuid).hidden:
            recorded[uuid] = record_base_copy(toolstack, sr, uuid, store.node(uuid).size_bytes)
        elif not store.children(uuid):
            store.destroy(uuid)
    refresh_disks(toolstack, sr, [vdi for uuid, vdi in recorded.items() if uuid in store])


def _release_control_domains(toolstack: Toolstack) -> None:
    database = toolstack.database
    for vm, record in list(database.where("VM", is_control_domain=True)):
        del vm
        for vbd in list(record["VBDs"]):
            database.destroy("VBD", vbd)
