"""Changed block tracking: a log per disk that says which 64 KiB were written, chained from snapshot to snapshot.

    S1 --child--> S2 --child--> live        log(S2): what was written between S1 and S2
       <-parent--    <-parent--             log(live): what was written since S2

The log belongs to the live disk; a snapshot takes it over and the live disk begins a new one. A destroyed snapshot's
log goes into its child's, so that wider ranges stay right. A log is inconsistent while its disk is attached for
writing: after a crash it stays so, and the next attach throws it away with a message to the operator.

Bit ``i`` stands for bytes ``i * 65536`` onwards, the highest bit of a byte first.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xobackup.simpool.failures import Failure, backend

if TYPE_CHECKING:
    from xobackup.simpool.toolstack import Toolstack

GRAIN_BYTES = 64 * 1024


@dataclass(slots=True, kw_only=True)
class Log:
    """One disk's log."""

    bits: bytearray = field(default_factory=bytearray)
    parent: str = ""
    child: str = ""
    consistent: bool = True

    def mark(self, offset: int, length: int) -> None:
        first, last = offset // GRAIN_BYTES, (offset + length - 1) // GRAIN_BYTES
        self.stretch(last // 8 + 1)
        for index in range(first, last + 1):
            self.bits[index >> 3] |= 0x80 >> (index & 7)

    def stretch(self, count: int) -> None:
        if len(self.bits) < count:
            self.bits.extend(bytes(count - len(self.bits)))

    def add(self, other: Log) -> None:
        """Everything that ``other`` has, too."""
        self.stretch(len(other.bits))
        ours, theirs = (int.from_bytes(bits, "little") for bits in (self.bits, other.bits))
        self.bits[:] = (ours | theirs).to_bytes(len(self.bits), "little")


class ChangeLogs:
    """The logs of one pool, by the uuids of their disks. To be changed under the database's lock."""

    def __init__(self, toolstack: Toolstack) -> None:
        self._toolstack = toolstack
        self._logs: dict[str, Log] = {}

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._logs

    # -- what happens to disks

    def enable(self, vdi: str) -> None:
        record = self._toolstack.database.get("VDI", vdi)
        if not record["cbt_enabled"]:
            self._logs[record["uuid"]] = Log(consistent=not self._held(vdi))
            self._toolstack.database.update("VDI", vdi, cbt_enabled=True)

    def disable(self, vdi: str) -> None:
        """The disk's own log goes; those of its snapshots stay, but nothing leads to the disk any more."""
        record = self._toolstack.database.get("VDI", vdi)
        log = self._logs.pop(record["uuid"], None)
        if log is not None and log.parent in self._logs:
            self._logs[log.parent].child = ""
        self._toolstack.database.update("VDI", vdi, cbt_enabled=False)

    def written(self, uuid: str, offset: int, length: int) -> None:
        log = self._logs.get(uuid)
        if log is not None and length:
            log.mark(offset, length)

    def snapshotted(self, vdi: str, snapshot_uuid: str) -> bool:
        """The live log becomes the snapshot's; whether the snapshot has one (a planned fault loses both)."""
        uuid = self._toolstack.database.get("VDI", vdi)["uuid"]
        log = self._logs.get(uuid)
        if log is None:
            return False
        if self._toolstack.faults.take("cbt", "snapshot") is not None:
            self._lose(vdi, "VDI_CBT_SNAPSHOT_FAILED")
            return False
        held = self._held(vdi)
        if log.parent in self._logs:
            self._logs[log.parent].child = snapshot_uuid
        log.child, log.consistent = uuid, log.consistent or held
        self._logs[snapshot_uuid] = log
        self._logs[uuid] = Log(parent=snapshot_uuid, consistent=not held)
        return True

    def destroyed(self, uuid: str) -> None:
        """The child inherits what the disk's log knew."""
        log = self._logs.pop(uuid, None)
        if log is None:
            return
        if log.child in self._logs:
            below = self._logs[log.child]
            below.add(log)
            below.parent = log.parent
        if log.parent in self._logs:
            self._logs[log.parent].child = log.child if log.child in self._logs else ""

    def activate(self, vdi: str) -> None:
        """A disk is about to be attached for writing: a log that a crash left behind is worth nothing."""
        log = self._logs.get(self._toolstack.database.get("VDI", vdi)["uuid"])
        if log is None or self._held(vdi):
            return
        if log.consistent:
            log.consistent = False
        else:
            self._lose(vdi, "VDI_CBT_METADATA_INCONSISTENT")

    def deactivated(self, vdi: str) -> None:
        """The last writer let go in good order."""
        log = self._logs.get(self._toolstack.database.get("VDI", vdi)["uuid"])
        if log is not None and not self._held(vdi):
            log.consistent = True

    def crashed(self, vdi: str) -> None:
        """Whoever wrote to the disk died; its log was never closed."""
        log = self._logs.get(self._toolstack.database.get("VDI", vdi)["uuid"])
        if log is not None:
            log.consistent = False

    def _lose(self, vdi: str, name: str) -> None:
        database = self._toolstack.database
        self.disable(vdi)
        message = {"name": name, "priority": 3, "cls": "VDI", "obj_uuid": database.get("VDI", vdi)["uuid"]}
        database.create("message", {**message, "timestamp": self._toolstack.now_text(), "body": ""})

    def _held(self, vdi: str) -> bool:
        database = self._toolstack.database
        vbds = (database.get("VBD", vbd) for vbd in database.get("VDI", vdi)["VBDs"])
        return any(vbd["currently_attached"] and vbd["mode"] == "RW" for vbd in vbds)

    # -- what is asked

    def changed(self, vdi_from: str, vdi_to: str) -> str:
        """The changes after ``vdi_from`` up to ``vdi_to`` as base64. Raises the storage driver's failures."""
        database = self._toolstack.database
        start, end = database.get("VDI", vdi_from), database.get("VDI", vdi_to)
        if start["uuid"] == end["uuid"]:
            raise _no_list("Source and target VDI are same")
        if not (start["cbt_enabled"] and end["cbt_enabled"]):
            raise _no_list("Source and target VDI are unrelated")
        between = self._between(start["uuid"], end["uuid"])
        if not all(log.consistent for log in between):
            raise backend(459, "Changed block tracking log is in an inconsistent state.")
        found = Log()
        for log in between:
            found.add(log)
        grains = -(-end["virtual_size"] // GRAIN_BYTES)
        count = -(-grains // 8)
        found.stretch(count)
        return base64.b64encode(found.bits[:count]).decode()

    def _between(self, start: str, end: str) -> list[Log]:
        """The logs after ``start`` up to ``end``, following the children."""
        found: list[Log] = []
        current = start
        while current != end:
            current = self._logs[current].child if current in self._logs else ""
            if current not in self._logs:
                raise _no_list("Source and target VDI are unrelated")
            found.append(self._logs[current])
        return found

    # -- on disk

    def saved(self) -> dict[str, Any]:
        """All logs as JSON."""
        return {
            uuid: [base64.b64encode(log.bits).decode(), log.parent, log.child, log.consistent]
            for uuid, log in self._logs.items()
        }

    def load(self, state: dict[str, Any]) -> None:
        for uuid, (bits, parent, child, consistent) in state.items():
            decoded = bytearray(base64.b64decode(bits))
            self._logs[uuid] = Log(bits=decoded, parent=parent, child=child, consistent=consistent)


def _no_list(detail: str) -> Failure:
    return backend(460, "Failed to calculate changed blocks for given VDIs.", detail)
