"""A restore point's JSON, read tolerantly into types.

Read: keys that older writers left out may be missing; booleans may be 0 and 1; ``isVhdDifferencing`` and ``size`` are
hints (Xen Orchestra rewrites them wrongly after a merge) and decide nothing. What makes a file no restore point: not
a JSON object, no known ``mode``, no ``timestamp``, or a disk path that leaves the VM's directory. ``metadata`` keeps
the whole object as read (booleans mended), with every key this code does not know.

Writing is in :mod:`xobackup.repository.draft`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from xobackup.repository.errors import BadMetadata, BadName
from xobackup.repository.json_text import parse_object
from xobackup.repository.layout import checked_disk_path, checked_xva_path, point_id
from xobackup.repository.legacy import with_booleans

MODE_DELTA = "delta"
MODE_FULL = "full"
DISKS_MAX = 512
GROUP = "xobackup:group"
"""In ``vmSnapshot.other_config``: the id of the consistent group, the same in all its restore points. A map that
anybody may add keys to, and which Xen Orchestra keeps as it is. Can be lost without losing a backup."""
GROUP_MEMBERS = "xobackup:group:vms"
"""Beside it: uuids of all its VMs, in order, separated by commas."""
TIMESTAMP_MS_MAX = 253_402_300_799_999  # the last millisecond of the year 9999


@dataclass(frozen=True, slots=True, kw_only=True)
class PointDisk:
    """One disk of a restore point. ``path`` is relative to the VM's directory."""

    vdi_ref: str
    vdi_uuid: str
    """The snapshot's VDI: the uuid in the VHD's footer."""
    live_vdi_uuid: str
    """The disk of the VM: names the directory."""
    name_label: str
    userdevice: str | None
    virtual_size: int
    path: str
    differencing: bool
    """As the JSON says; only the VHD's footer knows."""
    memory: bool = False
    """The memory of a VM that was taken with it, not one of its disks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePoint:
    """One restore point. ``metadata`` is the JSON itself; treat it as read-only."""

    id: str
    vm_uuid: str
    timestamp_ms: int
    mode: str
    job_id: str
    schedule_id: str
    size: int
    disks: tuple[PointDisk, ...]
    vm_name: str = ""
    tags: tuple[str, ...] = ()
    xva: str | None = None
    """A full backup's image, beside the JSON."""
    group: str = ""
    """Id of the consistent group it belongs to (a key of ours in the snapshot's ``other_config``)."""
    group_vms: tuple[str, ...] = ()
    """Uuids of the group's VMs."""
    metadata: dict[str, Any] = field(repr=False, compare=False, default_factory=dict)

    @property
    def memory(self) -> PointDisk | None:
        """The memory image of a VM that was taken with its memory."""
        return next((disk for disk in self.disks if disk.memory), None)

    def disk(self, vdi: str) -> PointDisk | None:
        """The disk of that ref, snapshot uuid or live uuid."""
        for disk in self.disks:
            if vdi in (disk.vdi_ref, disk.vdi_uuid, disk.live_vdi_uuid):
                return disk
        return None


def parse_point(raw: bytes, *, vm: str, name: str) -> RestorePoint:
    """The restore point in ``raw``, the content of ``name`` (``…/<ts>.json``); :class:`BadMetadata` otherwise."""
    return point_from(parse_object(raw, name), vm=vm, name=name)


def point_from(value: dict[str, Any], *, vm: str, name: str) -> RestorePoint:
    """The restore point in an object already parsed (from the cache)."""
    metadata = with_booleans(value)
    mode = metadata.get("mode")
    if mode not in (MODE_DELTA, MODE_FULL):
        raise BadMetadata(name, f"expected mode delta or full, found {mode!r}", code="metadata-mode")
    timestamp = metadata.get("timestamp")
    if type(timestamp) is float and timestamp.is_integer():
        timestamp = int(timestamp)
    if type(timestamp) is not int or not 0 <= timestamp <= TIMESTAMP_MS_MAX:
        raise BadMetadata(name, f"expected a timestamp in milliseconds, found {timestamp!r}")
    try:
        identity = point_id(name)
        disks = _disks(metadata, name) if mode == MODE_DELTA else ()
        xva = checked_xva_path(metadata.get("xva")) if mode == MODE_FULL else None
    except BadName as error:
        raise BadMetadata(name, str(error), code="metadata-path") from None
    ours = _record(_record(metadata, "vmSnapshot"), "other_config")
    return RestorePoint(
        id=identity,
        vm_uuid=vm,
        timestamp_ms=timestamp,
        mode=mode,
        job_id=_text(metadata.get("jobId")),
        schedule_id=_text(metadata.get("scheduleId")),
        size=_count(metadata.get("size")),
        disks=disks,
        vm_name=_text(_record(metadata, "vm").get("name_label")),
        tags=tuple(tag for tag in _list(metadata.get("tags")) if isinstance(tag, str)),
        xva=xva,
        group=_text(ours.get(GROUP)),
        group_vms=tuple(uuid for uuid in _text(ours.get(GROUP_MEMBERS)).split(",") if uuid),
        metadata=metadata,
    )


def _disks(metadata: dict[str, Any], name: str) -> tuple[PointDisk, ...]:
    paths = metadata.get("vhds")
    if not isinstance(paths, dict):
        raise BadMetadata(name, f"expected vhds to be an object, found {type(paths).__name__}")
    if len(paths) > DISKS_MAX:
        raise BadMetadata(name, f"expected at most {DISKS_MAX} disks, found {len(paths)}")
    devices = _devices(metadata)
    vdis = _record(metadata, "vdis")
    hints = _record(metadata, "isVhdDifferencing")
    return tuple(_disk(ref, path, vdis, devices, hints) for ref, path in paths.items())


def _disk(ref: str, path: object, vdis: dict[str, Any], devices: dict[str, str], hints: dict[str, Any]) -> PointDisk:
    checked = checked_disk_path(path)
    vdi = _record(vdis, ref)
    return PointDisk(
        vdi_ref=ref,
        vdi_uuid=_text(vdi.get("uuid")),
        live_vdi_uuid=_text(vdi.get("$snapshot_of$uuid")) or checked.split("/")[2],
        name_label=_text(vdi.get("name_label")),
        userdevice=devices.get(ref),
        virtual_size=_count(vdi.get("virtual_size")),
        path=checked,
        differencing=bool(hints.get(ref, False)),
        memory=vdi.get("type") == "suspend",
    )


def _devices(metadata: dict[str, Any]) -> dict[str, str]:
    """The device number of each VDI ref, from the VBDs."""
    found: dict[str, str] = {}
    for vbd in _record(metadata, "vbds").values():
        if isinstance(vbd, dict) and isinstance(vbd.get("VDI"), str) and isinstance(vbd.get("userdevice"), str):
            found[vbd["VDI"]] = vbd["userdevice"]
    return found


def _record(holder: dict[str, Any], key: str) -> dict[str, Any]:
    value = holder.get(key)
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int:
    """A size: XAPI's JSON may also give a 64-bit integer as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and value >= 0 else 0
