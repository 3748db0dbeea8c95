"""One look at a pool: all records a backup needs, with their links followed.

The classes are read one after the other (VMs first, what they point to later), so an object may be gone by the time
its owner is followed. A disk is never silently left out because of that: :meth:`Inventory.disks` raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from xobackup.xapi.errors import BadRecord, NotFound, NotSupported
from xobackup.xapi.failures import failure
from xobackup.xapi.records import HostRecord, PbdRecord, PoolRecord, SmRecord, SrRecord, VdiRecord
from xobackup.xapi.vm_records import NetworkRecord, VbdRecord, VifRecord, VmRecord, VtpmRecord

if TYPE_CHECKING:
    from xobackup.xapi.session import Session

CLASSES = ("pool", "VM", "VBD", "VIF", "VTPM", "VDI", "SR", "SM", "PBD", "network", "host")
"""In the order they are read: owners before what they own."""
_OPTIONAL = frozenset({"VTPM", "SM"})

Raws = Mapping[str, Mapping[str, Any]]
R = TypeVar("R", VmRecord, VdiRecord, SrRecord, NetworkRecord, HostRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class VmDisk:
    """A disk of a VM: how it is attached, and the VDI."""

    vbd: VbdRecord
    vdi: VdiRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Records by reference."""

    pool: PoolRecord
    hosts: Mapping[str, HostRecord] = field(default_factory=dict)
    srs: Mapping[str, SrRecord] = field(default_factory=dict)
    sms: Mapping[str, SmRecord] = field(default_factory=dict)
    pbds: Mapping[str, PbdRecord] = field(default_factory=dict)
    vdis: Mapping[str, VdiRecord] = field(default_factory=dict)
    vbds: Mapping[str, VbdRecord] = field(default_factory=dict)
    vifs: Mapping[str, VifRecord] = field(default_factory=dict)
    networks: Mapping[str, NetworkRecord] = field(default_factory=dict)
    vms: Mapping[str, VmRecord] = field(default_factory=dict)
    vtpms: Mapping[str, VtpmRecord] = field(default_factory=dict)

    @classmethod
    def fetch(cls, session: Session) -> Inventory:
        """Read it from the pool."""
        return cls.of({name: _records(session, name) for name in CLASSES})

    @classmethod
    def of(cls, records: Mapping[str, Raws]) -> Inventory:
        """From records by class and reference."""
        pools = [PoolRecord.parse(ref, raw) for ref, raw in records.get("pool", {}).items()]
        if len(pools) != 1:
            raise BadRecord("pool", "(all)", f"expected one pool, found {len(pools)}")
        return cls(
            pool=pools[0],
            hosts={ref: HostRecord.parse(ref, raw) for ref, raw in records.get("host", {}).items()},
            srs={ref: SrRecord.parse(ref, raw) for ref, raw in records.get("SR", {}).items()},
            sms={ref: SmRecord.parse(ref, raw) for ref, raw in records.get("SM", {}).items()},
            pbds={ref: PbdRecord.parse(ref, raw) for ref, raw in records.get("PBD", {}).items()},
            vdis={ref: VdiRecord.parse(ref, raw) for ref, raw in records.get("VDI", {}).items()},
            vbds={ref: VbdRecord.parse(ref, raw) for ref, raw in records.get("VBD", {}).items()},
            vifs={ref: VifRecord.parse(ref, raw) for ref, raw in records.get("VIF", {}).items()},
            networks={ref: NetworkRecord.parse(ref, raw) for ref, raw in records.get("network", {}).items()},
            vms={ref: VmRecord.parse(ref, raw) for ref, raw in records.get("VM", {}).items()},
            vtpms={ref: VtpmRecord.parse(ref, raw) for ref, raw in records.get("VTPM", {}).items()},
        )

    @property
    def master(self) -> HostRecord:
        found = self.hosts.get(self.pool.master)
        if found is None:
            raise BadRecord("pool", self.pool.ref, f"its master {self.pool.master} is not among the hosts")
        return found

    def ordinary_vms(self) -> list[VmRecord]:
        """VMs somebody uses, by name, then uuid."""
        return sorted((vm for vm in self.vms.values() if vm.is_ordinary), key=lambda vm: (vm.name_label, vm.uuid))

    def vm_by_uuid(self, uuid: str) -> VmRecord:
        return _by_uuid("VM", self.vms, uuid)

    def vdi_by_uuid(self, uuid: str) -> VdiRecord:
        return _by_uuid("VDI", self.vdis, uuid)

    def sr_by_uuid(self, uuid: str) -> SrRecord:
        return _by_uuid("SR", self.srs, uuid)

    def network_by_uuid(self, uuid: str) -> NetworkRecord:
        return _by_uuid("network", self.networks, uuid)

    def disks(self, vm: VmRecord) -> list[VmDisk]:
        """The VM's disks in the order of their ``userdevice``; CD drives and empty ones are not disks."""
        vbds = sorted((self._vbd(vm, ref) for ref in vm.vbds), key=lambda vbd: (vbd.position, vbd.ref))
        return [VmDisk(vbd=vbd, vdi=self._vdi(vbd)) for vbd in vbds if vbd.is_disk and vbd.vdi is not None]

    def nics(self, vm: VmRecord) -> list[VifRecord]:
        """The VM's network interfaces in the order of their ``device``."""
        found = [self.vifs[ref] for ref in vm.vifs if ref in self.vifs]
        return sorted(found, key=lambda vif: (len(vif.device), vif.device, vif.ref))

    def vtpms_of(self, vm: VmRecord) -> list[VtpmRecord]:
        return [vtpm for vtpm in self.vtpms.values() if vtpm.vm == vm.ref]

    def snapshots_of(self, vm: VmRecord) -> list[VmRecord]:
        """The VM's snapshots, oldest first."""
        found = [other for other in self.vms.values() if other.is_a_snapshot and other.snapshot_of == vm.ref]
        return sorted(found, key=lambda snap: (snap.snapshot_time is not None, snap.snapshot_time or 0, snap.ref))

    def vdi_snapshots_of(self, vdi: VdiRecord) -> list[VdiRecord]:
        """The disk's snapshots, oldest first."""
        found = [other for other in self.vdis.values() if other.is_a_snapshot and other.snapshot_of == vdi.ref]
        return sorted(found, key=lambda snap: (snap.snapshot_time is not None, snap.snapshot_time or 0, snap.ref))

    def control_domains(self) -> list[VmRecord]:
        return [vm for vm in self.vms.values() if vm.is_control_domain]

    def sr_of(self, vdi: VdiRecord) -> SrRecord:
        found = self.srs.get(vdi.sr or "")
        if found is None:
            raise BadRecord("VDI", vdi.ref, f"its SR {vdi.sr} is not among the SRs")
        return found

    def sm_of(self, sr: SrRecord) -> SmRecord | None:
        """The storage manager of the SR's type, whose ``features`` say what it can do."""
        return next((sm for sm in self.sms.values() if sm.type == sr.type), None)

    def default_sr(self) -> SrRecord | None:
        return self.srs.get(self.pool.default_sr or "")

    def hosts_of(self, sr: SrRecord) -> list[HostRecord]:
        """Hosts on which the SR is plugged."""
        plugged = {pbd.host for pbd in self.pbds.values() if pbd.sr == sr.ref and pbd.currently_attached}
        return [host for ref, host in self.hosts.items() if ref in plugged]

    def users_of(self, vdi: VdiRecord) -> list[tuple[VbdRecord, VmRecord]]:
        """Who has the disk, attached or not."""
        pairs = [(vbd, self.vms.get(vbd.vm or "")) for vbd in self.vbds.values() if vbd.vdi == vdi.ref]
        return [(vbd, vm) for vbd, vm in pairs if vm is not None]

    def _vbd(self, vm: VmRecord, ref: str) -> VbdRecord:
        found = self.vbds.get(ref)
        if found is None:
            raise _gone("VM", vm.ref, f"its VBD {ref}")
        return found

    def _vdi(self, vbd: VbdRecord) -> VdiRecord:
        found = self.vdis.get(vbd.vdi or "")
        if found is None:
            raise _gone("VBD", vbd.ref, f"its VDI {vbd.vdi}")
        return found


def _gone(cls: str, ref: str, what: str) -> BadRecord:
    error = BadRecord(cls, ref, f"{what} is not in the pool (any more)")
    error.transient = True
    error.hint = "the pool changed while it was read: read it again"
    return error


def _records(session: Session, cls: str) -> Raws:
    try:
        return session.records(cls)
    except NotSupported:
        if cls in _OPTIONAL:
            return {}  # a class this host is too old for
        raise


def _by_uuid(cls: str, records: Mapping[str, R], uuid: str) -> R:
    for record in records.values():
        if record.uuid == uuid:
            return record
    error: NotFound = failure("UUID_INVALID", [cls, uuid])  # type: ignore[assignment]
    raise error
