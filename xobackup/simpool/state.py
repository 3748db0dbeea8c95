"""The database on disk, so that a pool survives a restart of its process.

One JSON file, replaced atomically. Sessions and tasks are not kept: a restart ends them. Disks that the control
domain held for transfers are let go.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from xobackup.simpool.build import open_store
from xobackup.simpool.database import Row

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
        }
        text = json.dumps(state, separators=(",", ":"))
        path = state_path(directory)
        temporary = path.with_suffix(".new")
        temporary.write_text(text)
        temporary.replace(path)


def load_state(toolstack: Toolstack, directory: Path, *, address: str) -> None:
    """Read the database and open the repositories it names. The pool's address is the one it is served at now."""
    state = json.loads(state_path(directory).read_text())
    database = toolstack.database
    with database.lock:
        database.generation = state["generation"]
        for cls, table in state["rows"].items():
            database.rows[cls] = {ref: Row(record, made, changed) for ref, (made, changed, record) in table.items()}
        database.index()
        toolstack.vtpm_contents.update(state["vtpm_contents"])
        for sr, record in database.where("SR"):
            if record["type"] != "iso":
                open_store(toolstack, sr, directory)
        _release_control_domains(toolstack)
        database.update("host", toolstack.master, address=address)


def _release_control_domains(toolstack: Toolstack) -> None:
    database = toolstack.database
    for vm, record in list(database.where("VM", is_control_domain=True)):
        del vm
        for vbd in list(record["VBDs"]):
            database.destroy("VBD", vbd)
