"""From a description to objects of a pool: what is made, what is found, what is left out.

Networks are found by uuid, then by name; without either a VM's interface goes to the first network. Disks of a full
import are made anew in one repository; those of a metadata import must exist, by uuid or by an explicit mapping.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xobackup.simpool import attach, disks, vm_rules
from xobackup.simpool.failures import Failure
from xobackup.simpool.messages.vif import random_mac
from xobackup.simpool.messages.vm import create_vm
from xobackup.simpool.relations import DERIVED
from xobackup.simpool.values import NULL
from xobackup.simpool.xva.description import Described, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from xobackup.simpool.toolstack import Toolstack

_FRESH: dict[str, Any] = {
    "allowed_operations": [],
    "current_operations": {},
    "resident_on": NULL,
    "scheduled_to_be_resident_on": NULL,
    "affinity": NULL,
    "domid": -1,
    "guest_metrics": NULL,
    "metrics": NULL,
    "appliance": NULL,
    "blobs": {},
}


@dataclass(slots=True, kw_only=True)
class Import:
    """One import at work. ``full``: disks are made in ``sr``; else they are found."""

    toolstack: Toolstack
    sr: str = NULL
    full: bool
    restore: bool
    force: bool = False
    mapping: dict[str, str] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    vms: list[str] = field(default_factory=list)
    disks: dict[str, str] = field(default_factory=dict)
    """New disks by their numbers in the archive."""

    def run(self, described: list[Described]) -> None:
        """Make everything; to be called under the database's lock. :meth:`undo` cleans up after a failure."""
        steps: tuple[tuple[str, Callable[[Described], None]], ...] = (
            ("network", self._network),
            ("VDI", self._disk),
            ("VM", self._vm),
            ("VBD", self._vbd),
            ("VIF", self._vif),
            ("VTPM", self._vtpm),
        )
        for cls, step in steps:
            for one in described:
                if one.cls == cls:
                    step(one)
        self._link_snapshots(described)
        for vm in self.vms:
            vm_rules.refresh(self.toolstack.database, vm)

    def undo(self) -> None:
        database = self.toolstack.database
        for vm in self.vms:
            if database.exists("VM", vm):
                database.destroy("VM", vm)
        for vdi in self.disks.values():
            if database.exists("VDI", vdi):
                disks.destroy_disk(self.toolstack, vdi)

    def _network(self, one: Described) -> None:
        database = self.toolstack.database
        same = [ref for ref, record in database.where("network") if record["uuid"] == one.record["uuid"]]
        named = [ref for ref, _ in database.where("network", name_label=one.record["name_label"])]
        found = [*same, *named, *database.refs("network")]
        if not found:
            raise Failure("IMPORT_ERROR_FAILED_TO_FIND_OBJECT", one.id)
        self.made[one.id] = found[0]

    def _disk(self, one: Described) -> None:
        database, record = self.toolstack.database, one.record
        if not self.full or not record["managed"] or record["read_only"]:
            wanted = self.mapping.get(record["uuid"], record["uuid"])
            same = [ref for ref, disk in database.where("VDI") if disk["uuid"] == wanted]
            if same:
                self.made[one.id] = same[0]
            return
        wanted_fields = {name: record[name] for name in disks.COPIED if name in record}
        vdi = disks.create_disk(self.toolstack, {**wanted_fields, "SR": self.sr, "read_only": False})
        self.made[one.id] = self.disks[one.id] = vdi

    def _vm(self, one: Described) -> None:
        database = self.toolstack.database
        record = resolve(one, self.made) | _FRESH
        for cls, name in DERIVED:
            if cls == "VM":
                record[name] = []
        uuid = record["uuid"]
        if self.restore:
            taken = [ref for ref, vm in database.where("VM") if vm["uuid"] == uuid]
            if taken:
                raise Failure("DUPLICATE_VM", taken[0])
        suspended = record["suspend_VDI"] != NULL and record["power_state"] == "Suspended"
        record |= {
            "uuid": uuid if self.restore else "",
            "power_state": "Suspended" if suspended else "Halted",
            "snapshot_of": NULL,
            "parent": NULL,
        }
        vm = create_vm(_AsCall(self.toolstack), record)
        self.made[one.id] = vm
        self.vms.append(vm)

    def _vbd(self, one: Described) -> None:
        database = self.toolstack.database
        record = resolve(one, self.made)
        missing = record["VDI"] == NULL and not record["empty"]
        if missing and record["type"] == "CD":
            record["empty"] = True
        elif missing and self.force:
            return
        elif missing:
            raise Failure("IMPORT_ERROR_ATTACHED_DISKS_NOT_FOUND")
        record |= {"uuid": "", "currently_attached": False, "device": "", "current_operations": {}}
        self.made[one.id] = vbd = database.create("VBD", record | {"metrics": NULL})
        attach.refresh_vbd(database, vbd)

    def _vif(self, one: Described) -> None:
        record = resolve(one, self.made)
        record |= {"uuid": "", "currently_attached": False, "current_operations": {}, "metrics": NULL}
        if not self.restore:
            record["MAC"] = random_mac(self.toolstack.rng)
        self.made[one.id] = self.toolstack.database.create("VIF", record)

    def _vtpm(self, one: Described) -> None:
        record = resolve(one, self.made) | {"uuid": ""}
        vtpm = self.toolstack.database.create("VTPM", record)
        self.toolstack.vtpm_contents[vtpm] = str(one.record.get("contents", ""))

    def _link_snapshots(self, described: list[Described]) -> None:
        database = self.toolstack.database
        for one in described:
            if one.cls in ("VM", "VDI") and one.id in self.made and (one.cls == "VM" or one.id in self.disks):
                owner = self.made.get(one.record["snapshot_of"], NULL)
                changes: dict[str, Any] = {"snapshot_of": owner}
                if one.cls == "VM":
                    changes["parent"] = self.made.get(one.record["parent"], NULL)
                else:
                    changes["is_a_snapshot"] = one.record["is_a_snapshot"]
                database.update(one.cls, self.made[one.id], **changes)


@dataclass(slots=True)
class _AsCall:
    """Enough of a call for the messages that make objects."""

    toolstack: Toolstack

    @property
    def database(self) -> Any:
        return self.toolstack.database
