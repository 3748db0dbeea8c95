"""One look at a pool, turned into the views that decisions are made on.

Reads whole classes (one call each), so that a decision sees one moment, not a crawl. Turning records into views is
pure and tolerant: what a record lacks is empty, what points nowhere is a disk's ``problem``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from xobackup.engine import keys
from xobackup.engine.attachment import notes_on, snapshot_obstacle
from xobackup.engine.view import DiskView, PoolSnapshot, SrView, VmSnapshot, VmView
from xobackup.xapi.cbt import METADATA_TYPE
from xobackup.xapi.image_format import image_format_of
from xobackup.xapi.values import is_null

if TYPE_CHECKING:
    from xobackup.xapi.session import Session

Record = dict[str, Any]
CLASSES = ("pool", "host", "VM", "VBD", "VDI", "SR")
CHAIN_MAX = 1000
"""Steps up a chain of VDIs before a loop is assumed; storage stops at 30."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A pool at one moment: records by class and reference."""

    pool: str
    records: Mapping[str, Mapping[str, Record]]

    @property
    def pool_uuid(self) -> str:
        return next((str(record.get("uuid", "")) for record in self.records["pool"].values()), "")

    def vm_views(self) -> list[VmView]:
        """Every VM of the pool, templates and snapshots included."""
        return _Viewer(self).vms()

    def vm_view(self, vm_uuid: str) -> VmView | None:
        """One VM, or ``None`` when the pool no longer has it."""
        viewer = _Viewer(self)
        for ref, record in self.records["VM"].items():
            if record.get("uuid") == vm_uuid:
                return viewer.vm(ref, record)
        return None


def survey(session: Session, pool: str) -> Survey:
    """Look at the pool now."""
    return Survey(pool=pool, records={cls: session.records(cls) for cls in CLASSES})


class _Viewer:
    """Indexes of one survey, made once."""

    def __init__(self, survey: Survey) -> None:
        self._pool = survey.pool
        self._vms = survey.records["VM"]
        self._vdis = survey.records["VDI"]
        self._srs = survey.records["SR"]
        self._hosts = survey.records.get("host", {})
        self._vbds_of_vm: dict[str, list[Record]] = defaultdict(list)
        self._vms_of_vdi: dict[str, set[str]] = defaultdict(set)
        for vbd in survey.records["VBD"].values():
            self._vbds_of_vm[_text(vbd, "VM")].append(vbd)
            if not is_null(vbd.get("VDI")):
                self._vms_of_vdi[_text(vbd, "VDI")].add(_text(vbd, "VM"))
        self._snapshots: dict[str, list[tuple[str, Record]]] = defaultdict(list)
        self._vm_snapshots: dict[str, list[str]] = defaultdict(list)
        for ref, vm in self._vms.items():
            if vm.get("is_a_snapshot") and not is_null(vm.get("snapshot_of")):
                self._vm_snapshots[_text(vm, "snapshot_of")].append(ref)
        self._by_uuid: dict[str, Record] = {}
        self._children: dict[str, list[Record]] = defaultdict(list)
        self._contents: dict[str, list[tuple[str, Record]]] = defaultdict(list)
        for ref, vdi in self._vdis.items():
            self._by_uuid[_text(vdi, "uuid")] = vdi
            if vdi.get("is_a_snapshot") and not is_null(vdi.get("snapshot_of")):
                self._snapshots[_text(vdi, "snapshot_of")].append((ref, vdi))
            content_key = _map(vdi, "other_config").get(keys.CONTENT_KEY)
            if content_key and vdi.get("is_a_snapshot") and content_key != vdi.get("uuid"):
                self._contents[content_key].append((ref, vdi))
            parent = _map(vdi, "sm_config").get("vhd-parent")
            if parent:
                self._children[parent].append(vdi)

    def vms(self) -> list[VmView]:
        return [self.vm(ref, record) for ref, record in self._vms.items()]

    def vm(self, ref: str, record: Record) -> VmView:
        disks: dict[str, DiskView] = {}
        for vbd in self._vbds_of_vm[ref]:
            if vbd.get("type") == "Disk" and not vbd.get("empty") and not is_null(vbd.get("VDI")):
                disks.setdefault(_text(vbd, "VDI"), self._disk(vbd, _text(record, "uuid")))
        return VmView(
            uuid=_text(record, "uuid"),
            ref=ref,
            name=_text(record, "name_label"),
            pool=self._pool,
            power_state=_text(record, "power_state"),
            host=self._host(record),
            tags=tuple(record.get("tags") or ()),
            is_template=bool(record.get("is_a_template")),
            is_snapshot=bool(record.get("is_a_snapshot")),
            is_control_domain=bool(record.get("is_control_domain")),
            blocked_operations=_map(record, "blocked_operations"),
            current_operations=tuple(_map(record, "current_operations").values()),
            other_config=_map(record, "other_config"),
            memory_bytes=_number(record, "memory_dynamic_max"),
            disks=tuple(disks.values()),
            snapshots=tuple(self._snapshots_of_vm(ref, _text(record, "uuid"))),
        )

    def _host(self, vm: Record) -> tuple[str, ...]:
        for field in ("resident_on", "affinity"):
            host = self._hosts.get(_text(vm, field))
            if host is not None:
                return (_text(host, "uuid"), _text(host, "name_label"))
        return ()

    def _others(self, vdi_ref: str, vm_uuid: str) -> list[str]:
        """Names of other VMs that have the disk."""
        holders = (self._vms.get(ref, {}) for ref in self._vms_of_vdi[vdi_ref])
        return [
            _text(vm, "name_label") or _text(vm, "uuid")
            for vm in holders
            if vm and vm.get("uuid") != vm_uuid and not vm.get("is_a_snapshot") and not vm.get("is_control_domain")
        ]

    def _snapshots_of_vm(self, ref: str, vm_uuid: str) -> Iterator[VmSnapshot]:
        for snapshot in self._vm_snapshots[ref]:
            record = self._vms[snapshot]
            config = _map(record, "other_config")
            if config.get(keys.VM) == vm_uuid and config.get(keys.DATETIME) and keys.COPY_OF not in config:
                yield VmSnapshot(
                    ref=snapshot,
                    datetime=config[keys.DATETIME],
                    job_id=config.get(keys.JOB, ""),
                    schedule_id=config.get(keys.SCHEDULE, ""),
                    complete="true" in (config.get(keys.EXPORTED), config.get(keys.KEPT)),
                )

    def _disk(self, vbd: Record, vm_uuid: str) -> DiskView:
        ref = _text(vbd, "VDI")
        vdi = self._vdis.get(ref, {})
        sr = self._srs.get(_text(vdi, "SR"), {})
        problem = ""
        if not vdi:
            problem = f"its VDI {ref} is not in the pool's database"
        elif vdi.get("missing"):
            problem = "its data is missing on the SR"
        snapshots = [self._snapshot(one, record, vm_uuid) for one, record in self._snapshots[ref]]
        content_key = _map(vdi, "other_config").get(keys.KIN, "")
        kin = [self._snapshot(one, record, vm_uuid) for one, record in self._contents.get(content_key, ())]
        return DiskView(
            vdi_uuid=_text(vdi, "uuid"),
            vdi_ref=ref,
            name=_text(vdi, "name_label"),
            userdevice=_text(vbd, "userdevice"),
            virtual_size_bytes=_number(vdi, "virtual_size"),
            used_bytes=_number(vdi, "physical_utilisation"),
            sr_uuid=_text(sr, "uuid"),
            sr_name=_text(sr, "name_label"),
            tags=tuple(vdi.get("tags") or ()),
            snapshots=tuple(sorted(snapshots, key=lambda one: (one.datetime, one.vdi_uuid), reverse=True)),
            kin=tuple(replace(one, content_key=content_key, cbt=False) for one in kin),
            cbt=bool(vdi["cbt_enabled"]) if "cbt_enabled" in vdi else None,
            image_format=image_format_of(vdi),
            uncoalesced=self._uncoalesced(vdi),
            chain=tuple(_text(node, "uuid") for node in self._below(vdi)),
            coalescing_off=switches_of(sr, vdi),
            sr=sr_view(sr) if sr else None,
            problem=problem,
            no_snapshot=snapshot_obstacle(vdi, sr),
            notes=notes_on(vbd, self._others(ref, vm_uuid)),
        )

    def _snapshot(self, ref: str, vdi: Record, vm_uuid: str) -> PoolSnapshot:
        config = _map(vdi, "other_config")
        ours = config.get(keys.VM) == vm_uuid and keys.COPY_OF not in config
        holders = [vm for vm in self._vms_of_vdi[ref] if not self._vms.get(vm, {}).get("is_control_domain")]
        usable = bool(vdi.get("managed", True)) and not vdi.get("missing")
        if len(holders) > 1 or any(not self._vms.get(vm, {}).get("is_a_snapshot") for vm in holders):
            usable = False
        return PoolSnapshot(
            vdi_uuid=_text(vdi, "uuid"),
            vdi_ref=ref,
            sr_uuid=_text(self._srs.get(_text(vdi, "SR"), {}), "uuid"),
            virtual_size_bytes=_number(vdi, "virtual_size"),
            datetime=config.get(keys.DATETIME, ""),
            job_id=config.get(keys.JOB, "") if ours else "",
            vm_uuid=config.get(keys.VM, ""),
            exported=config.get(keys.EXPORTED) == "true",
            chain_length=_digits(config.get(keys.CHAIN_LENGTH, "")),
            remotes=tuple(name for name in config.get(keys.REMOTES, "").split(",") if name),
            vm_snapshot_ref=holders[0] if holders else "",
            usable=usable,
            has_data=vdi.get("type") != METADATA_TYPE,
            cbt=bool(vdi.get("cbt_enabled")),
        )

    def _uncoalesced(self, vdi: Record) -> int:
        """Unmanaged links whose only child is unmanaged too: what the storage could merge and has not yet."""
        count = 0
        for parent in self._below(vdi):
            children = self._children[_text(parent, "uuid")]
            if not parent.get("managed", True) and len(children) == 1 and not children[0].get("managed", True):
                count += 1
        return count

    def _below(self, vdi: Record) -> Iterator[Record]:
        """The nodes that a disk hangs on, the nearest first."""
        for _ in range(CHAIN_MAX):
            parent = self._by_uuid.get(_map(vdi, "sm_config").get("vhd-parent", ""))
            if parent is None:
                return
            yield parent
            vdi = parent


def sr_view(sr: Record) -> SrView:
    """An SR as the pool knows it; its space is as of the last scan."""
    return SrView(
        uuid=_text(sr, "uuid"),
        name=_text(sr, "name_label"),
        type=_text(sr, "type"),
        total_bytes=_number(sr, "physical_size"),
        used_bytes=_number(sr, "physical_utilisation"),
    )


def switches_of(sr: Record, vdi: Record | None = None) -> tuple[str, ...]:
    """What somebody switched off, as the storage manager reads it (``gc``, ``coalesce``, ``leaf-coalesce``)."""
    of_sr = [f"other-config:{key}=false of the SR" for key in ("gc", "coalesce") if _off(sr, key)]
    return (*of_sr, *(["other-config:leaf-coalesce=false of the disk"] if vdi and _off(vdi, "leaf-coalesce") else []))


def _off(record: Record, key: str) -> bool:
    return _map(record, "other_config").get(key) == "false"


def _text(record: Record, field: str) -> str:
    value = record.get(field, "")
    return value if isinstance(value, str) else str(value)


def _number(record: Record, field: str) -> int:
    try:
        return int(record.get(field) or 0)
    except (TypeError, ValueError):
        return 0


def _map(record: Record, field: str) -> dict[str, str]:
    value = record.get(field)
    return value if isinstance(value, dict) else {}


def _digits(text: str) -> int:
    return int(text) if text.isdigit() and len(text) < 7 else 0
