"""What was taken of a VM: references and records, read once, right after it was taken."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xobackup.xapi.errors import XapiFailure
from xobackup.xapi.values import format_time, is_null

if TYPE_CHECKING:
    from datetime import datetime

    from xobackup.xapi.session import Session

Record = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A snapshot ready to be exported. Records are XAPI's own, as the metadata wants them."""

    ref: str
    moment: datetime
    record: Record
    vdis: Mapping[str, tuple[str, Record]]
    """Live VDI uuid -> (snapshot VDI ref, its record)."""
    vbds: Mapping[str, Record]
    vifs: Mapping[str, Record]
    vtpms: tuple[str | None, ...] = ()
    """Contents of its virtual TPMs; ``None`` for one the host does not give."""
    memory: tuple[str, Record] | None = None
    """The VDI with its memory (reference, record), when it was taken with it."""
    snapshot: bool = True
    """``False``: it is the VM itself, halted, which is exported as it is."""
    group_marks: Mapping[str, str] = field(default_factory=dict)
    """By what its restore point will be known as one of a consistent group."""

    @property
    def described(self) -> Record:
        """Its record, as a restore point keeps it."""
        if not self.group_marks:
            return self.record
        return {**self.record, "other_config": {**self.record.get("other_config", {}), **self.group_marks}}

    @property
    def exported(self) -> Mapping[str, tuple[str, Record]]:
        """Its disks, and its memory by its own uuid."""
        return self.vdis if self.memory is None else {**self.vdis, self.memory_uuid: self.memory}

    @property
    def memory_uuid(self) -> str:
        return "" if self.memory is None else str(self.memory[1]["uuid"])

    @property
    def datetime_key(self) -> str:
        return format_time(self.moment)

    @property
    def timestamp_ms(self) -> int:
        """Of the restore points made from it."""
        return int(self.moment.timestamp()) * 1000


def read_taken(session: Session, ref: str, moment: datetime) -> Taken:
    """The snapshot ``ref``, or the VM itself, with everything that describes it."""
    record = session.record("VM", ref)
    vdis: dict[str, tuple[str, Record]] = {}
    vbds: dict[str, Record] = {}
    for vbd_ref in record["VBDs"]:
        vbd = session.record("VBD", vbd_ref)
        if vbd.get("type") != "Disk" or is_null(vbd.get("VDI")):
            continue
        vbds[vbd_ref] = vbd
        vdi = session.record("VDI", vbd["VDI"])
        live = vdi["uuid"] if is_null(vdi.get("snapshot_of")) else session.call("VDI.get_uuid", vdi["snapshot_of"])
        vdis[str(live)] = (vbd["VDI"], vdi)
    vifs = {vif_ref: session.record("VIF", vif_ref) for vif_ref in record["VIFs"]}
    vtpms = tuple(_vtpm_contents(session, vtpm) for vtpm in record.get("VTPMs") or ())
    image = record.get("suspend_VDI")
    return Taken(
        ref=ref,
        moment=moment,
        record=record,
        vdis=vdis,
        vbds=vbds,
        vifs=vifs,
        vtpms=vtpms,
        memory=None if is_null(image) else (str(image), session.record("VDI", str(image))),
        snapshot=bool(record.get("is_a_snapshot")),
    )


def _vtpm_contents(session: Session, ref: str) -> str | None:
    """What a virtual TPM holds. Hosts may refuse it; the disks are worth saving all the same."""
    with contextlib.suppress(XapiFailure):
        return str(session.call("VTPM.get_contents", ref))
    return None


def vdis_of(session: Session, vm_ref: str) -> dict[str, Record]:
    """The disks of a VM or snapshot, with their records."""
    found: dict[str, Record] = {}
    for vbd_ref in session.call("VM.get_VBDs", vm_ref):
        vbd = session.record("VBD", vbd_ref)
        if vbd.get("type") == "Disk" and not is_null(vbd.get("VDI")):
            found[vbd["VDI"]] = session.record("VDI", vbd["VDI"])
    return found
