"""A restore point as a new VM: everything that will be created, decided before anything is. Pure.

The SR of each disk and the network of each NIC are as asked for, else found by rule: the SR the disk was on, else
the pool's default; the same network by uuid, else by VLAN and name, else by name, else by VLAN. A NIC without a
network is left out with a warning: plugging it into just any network would be worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from xobackup.engine import keys
from xobackup.engine.errors import UsageError
from xobackup.engine.restore.differential import Base
from xobackup.engine.restore.records import (
    BIOS_STRINGS,
    START_OPERATIONS,
    cd_drives_of,
    memory_record,
    suspended_record,
    vbd_record,
    vdi_record,
    vif_record,
    vm_record,
)
from xobackup.repository.metadata import PointDisk, RestorePoint
from xobackup.xapi.image_format import VHD_MAX_BYTES, takes_qcow2

Record = dict[str, Any]
MEMORY = "memory"
"""What its image is called while it is restored."""
RESTORED_TAG = "restored from backup"
NIC_LABELS = ("device", "MAC", "$network$name_label", "$network$uuid")
"""What a NIC may be called in a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmRequest:
    """What the operator wants. SRs and networks by uuid or name; ``None`` in a map leaves the disk or NIC out."""

    name: str | None = None
    sr: str | None = None
    disk_srs: Mapping[str, str | None] = field(default_factory=dict)
    """By the disk's uuid (live or snapshot), device number or name."""
    networks: Mapping[str, str | None] = field(default_factory=dict)
    """By the NIC's device number, MAC, or the name or uuid of its network then."""
    new_macs: bool = False
    memory: bool = True
    """A VM that was taken with its memory comes back suspended; otherwise halted."""
    start: bool = False
    tags: tuple[str, ...] = (RESTORED_TAG,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the target pool offers, records by reference."""

    default_sr: str
    srs: Mapping[str, Record]
    networks: Mapping[str, Record]
    pifs: Mapping[str, Record]
    drivers: Mapping[str, Record] = field(default_factory=dict)
    """Of storage (``SM``)."""
    pbds: Mapping[str, Record] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskRestore:
    """One disk to create and fill. ``vbd`` lacks the references, which do not exist yet."""

    disk: PointDisk
    sr_ref: str
    sr_name: str
    vdi: Record
    vbd: Record
    base: Base | None = None
    """It starts as a clone of this; ``None``: as an empty disk."""
    full_reason: str = ""
    """Why it has no base, when one was looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NicRestore:
    """One NIC to create, but for its VM."""

    network_name: str
    vif: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """All of it."""

    point: RestorePoint
    name: str
    vm: Record
    disks: tuple[DiskRestore, ...]
    nics: tuple[NicRestore, ...]
    blocked_operations: Mapping[str, str]
    """As they will be when all is done."""
    start: bool
    warnings: tuple[str, ...]
    vtpms: tuple[str, ...] = ()
    """Contents of the virtual TPMs to create."""
    cd_drives: int = 0
    """Empty ones to create."""
    bios_strings: Mapping[str, str] = field(default_factory=dict)
    memory: DiskRestore | None = None
    """Its memory, to create and fill like a disk; the VM is suspended then."""
    suspended: Record = field(default_factory=dict)
    """What ``VM.create`` takes besides, when it has its memory."""
    drop_memory: bool = False
    """Of an archive with memory: come back halted all the same."""

    @property
    def filled(self) -> tuple[DiskRestore, ...]:
        """Everything to create and fill."""
        return self.disks if self.memory is None else (*self.disks, self.memory)

    @property
    def size_bytes(self) -> int:
        return sum(disk.disk.virtual_size for disk in self.filled)


def plan_vm_restore(
    point: RestorePoint, request: VmRequest, site: Site, *, remote: str, restored_at: str, run_id: str
) -> RestorePlan:
    """Decide everything. Raises :class:`UsageError` for what cannot be."""
    vm = point.metadata.get("vm")
    if not isinstance(vm, dict) or "vdis" not in point.metadata:
        raise UsageError(f"restore point {point.id} of vm {point.vm_uuid} does not describe a VM with its disks")
    _check_maps(point, request)
    planner = _Planner(point, request, site, run_id)
    name = request.name or f"{point.vm_name or point.vm_uuid} ({point.id})"
    description = f"Restored on {restored_at} from {remote}"
    if vm.get("name_description"):
        description += f" - {vm['name_description']}"
    blocked = vm.get("blocked_operations")
    snapshot, bios = _map(point.metadata.get("vmSnapshot")), _map(vm.get("bios_strings"))
    memory = planner.memory() if request.memory else None
    return RestorePlan(
        point=point,
        name=name,
        vm=vm_record(
            vm, name=name, description=description, tags=request.tags, new_macs=request.new_macs, run_id=run_id
        ),
        disks=planner.disks(),
        nics=planner.nics(),
        blocked_operations={
            operation: text
            for operation, text in (blocked if isinstance(blocked, dict) else {}).items()
            if operation not in START_OPERATIONS and not keys.is_blocked_text(text)
        },
        start=request.start,
        warnings=tuple(planner.warnings),
        cd_drives=cd_drives_of(snapshot, point.metadata.get("vbds")),
        bios_strings={key: text for key, text in bios.items() if key in BIOS_STRINGS and text},
        memory=memory,
        suspended=suspended_record(snapshot, vm) if memory is not None else {},
        drop_memory=not request.memory,
        vtpms=tuple(contents for contents in point.metadata.get("vtpms") or () if isinstance(contents, str)),
    )


def _map(value: object) -> Record:
    return value if isinstance(value, dict) else {}


class _Planner:
    """What the decisions share."""

    def __init__(self, point: RestorePoint, request: VmRequest, site: Site, run_id: str) -> None:
        self._point = point
        self._request = request
        self._site = site
        self._run_id = run_id
        self.warnings: list[str] = []

    def disks(self) -> tuple[DiskRestore, ...]:
        disks = [disk for disk in self._point.disks if not disk.memory]
        ordered = sorted(disks, key=lambda one: (len(one.userdevice or ""), one.userdevice or ""))
        return tuple(planned for disk in ordered if (planned := self._disk(disk)) is not None)

    def memory(self) -> DiskRestore | None:
        """The memory of a VM that was taken with it."""
        disk = self._point.memory
        if disk is None:
            return None
        vdi: Record = self._point.metadata.get("vdis", {}).get(disk.vdi_ref, {})
        sr_ref = self._sr(disk, self._request.sr or "", str(vdi.get("$SR$uuid", "")))
        return DiskRestore(
            disk=replace(disk, name_label=MEMORY),
            sr_ref=sr_ref,
            sr_name=str(self._site.srs[sr_ref].get("name_label", "")),
            vdi=memory_record(disk, vdi, sr_ref=sr_ref, run_id=self._run_id),
            vbd={},
        )

    def _disk(self, disk: PointDisk) -> DiskRestore | None:
        labels = (disk.live_vdi_uuid, disk.vdi_uuid, disk.userdevice, disk.name_label)
        asked = next((label for label in labels if label and label in self._request.disk_srs), None)
        wanted = self._request.disk_srs[asked] if asked is not None else self._request.sr or ""
        if wanted is None:
            return None
        vdi: Record = self._point.metadata.get("vdis", {}).get(disk.vdi_ref, {})
        vbds = self._point.metadata.get("vbds", {}).values()
        sr_ref = self._sr(disk, wanted, str(vdi.get("$SR$uuid", "")))
        refuse_small_sr(disk, sr_ref, self._site)
        return DiskRestore(
            disk=disk,
            sr_ref=sr_ref,
            sr_name=str(self._site.srs[sr_ref].get("name_label", "")),
            vdi=vdi_record(disk, vdi, sr_ref=sr_ref, run_id=self._run_id),
            vbd=vbd_record(disk.userdevice, next((vbd for vbd in vbds if vbd.get("VDI") == disk.vdi_ref), {})),
        )

    def _sr(self, disk: PointDisk, wanted: str, before: str) -> str:
        name = disk.name_label or disk.live_vdi_uuid
        if wanted:
            ref = named("SR", wanted, self._site.srs)
            if self._site.srs[ref].get("content_type") == "iso":
                raise UsageError(
                    f"disk {name}: SR {wanted!r} holds ISO images, it cannot take disks", hint="name another"
                )
            return ref
        for ref, sr in self._site.srs.items():
            if before and sr.get("uuid") == before and sr.get("content_type") != "iso":
                return ref
        default = self._site.default_sr
        if default in self._site.srs:
            message = f"disk {name}: its SR {before or '(unknown)'} is not in this pool, the default SR takes it"
            self.warnings.append(message)
            return default
        raise UsageError(f"disk {name}: its SR is not in this pool and the pool has no default SR", hint="name an SR")

    def nics(self) -> tuple[NicRestore, ...]:
        vifs = [vif for vif in self._point.metadata.get("vifs", {}).values() if isinstance(vif, dict)]
        ordered = sorted(vifs, key=lambda one: (len(str(one.get("device", ""))), str(one.get("device", ""))))
        return tuple(planned for vif in ordered if (planned := self._nic(vif)) is not None)

    def _nic(self, vif: Record) -> NicRestore | None:
        asked = next((vif[key] for key in NIC_LABELS if vif.get(key) in self._request.networks), None)
        if asked is not None:
            wanted = self._request.networks[asked]
            if wanted is None:
                return None
            network: str | None = named("network", wanted, self._site.networks)
        else:
            network = find_network(vif, self._site)
        if network is None:
            was = vif.get("$network$name_label") or vif.get("$network$uuid") or "(unknown)"
            self.warnings.append(f"NIC {vif.get('device')}: no network like {was} in this pool, it is left out")
            return None
        return NicRestore(
            network_name=str(self._site.networks[network].get("name_label", "")),
            vif=vif_record(vif, network=network, new_mac=self._request.new_macs),
        )


def refuse_small_sr(disk: PointDisk, sr_ref: str, site: Site) -> None:
    """Raise :class:`UsageError` for a disk that is larger than a VHD can be, and an SR that keeps nothing else."""
    if disk.virtual_size <= VHD_MAX_BYTES:
        return
    able = [
        str(sr.get("name_label") or sr.get("uuid"))
        for ref, sr in site.srs.items()
        if takes_qcow2(ref, sr, site.drivers.values(), site.pbds.values())
    ]
    sr = site.srs[sr_ref]
    if takes_qcow2(sr_ref, sr, site.drivers.values(), site.pbds.values()):
        return
    what = f"{disk.virtual_size >> 30} GiB are more than a VHD holds ({VHD_MAX_BYTES >> 30} GiB)"
    name = disk.name_label or disk.live_vdi_uuid
    raise UsageError(
        f"disk {name}: {what}, and SR {sr.get('name_label')} takes no qcow2 disks",
        hint=f"name an SR that does; in this pool: {', '.join(sorted(able)) or 'none'}",
    )


def named(what: str, wanted: str, records: Mapping[str, Record]) -> str:
    """The reference of the one object with that uuid or name."""
    found = [ref for ref, one in records.items() if wanted in (one.get("uuid"), ref)]
    found = found or [ref for ref, one in records.items() if one.get("name_label") == wanted]
    if len(found) != 1:
        if found:
            raise UsageError(f"{what} {wanted!r}: {len(found)} of that name in this pool", hint="name it by uuid")
        known = ", ".join(sorted({str(one.get("name_label")) for one in records.values() if one.get("name_label")}))
        raise UsageError(f"{what} {wanted!r}: no such in this pool", hint=f"known: {known or 'none'}")
    return found[0]


def find_network(vif: Record, site: Site) -> str | None:
    """The network a NIC belongs to, by the rule at the module's head."""
    uuid, name, vlan = vif.get("$network$uuid"), vif.get("$network$name_label"), vif.get("$network$VLAN")
    found: list[tuple[int, str, str]] = []
    for ref, network in site.networks.items():
        same_name = bool(name) and network.get("name_label") == name
        same_vlan = vlan is not None and _vlan(network, site) == vlan
        if uuid and network.get("uuid") == uuid:
            rank = 0
        elif same_vlan and same_name:
            rank = 1
        elif same_name:
            rank = 2
        elif same_vlan and vlan != -1:
            rank = 3
        else:
            continue
        found.append((rank, str(network.get("uuid", "")), ref))
    return min(found)[2] if found else None


def _vlan(network: Record, site: Site) -> int | None:
    return next((int(site.pifs[ref].get("VLAN", -1)) for ref in network.get("PIFs") or [] if ref in site.pifs), None)


def _check_maps(point: RestorePoint, request: VmRequest) -> None:
    """A map that names nothing is a typing mistake, and would be found out too late."""
    known = {
        key for disk in point.disks for key in (disk.live_vdi_uuid, disk.vdi_uuid, disk.userdevice, disk.name_label)
    }
    for key in request.disk_srs:
        if key not in known:
            raise UsageError(f"disk {key!r}: restore point {point.id} has no such disk")
    labels = {vif.get(name) for vif in point.metadata.get("vifs", {}).values() for name in NIC_LABELS}
    for key in request.networks:
        if key not in labels:
            raise UsageError(f"NIC {key!r}: restore point {point.id} has no such NIC")
