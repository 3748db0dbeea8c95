"""``ova.xml``: which VM is in an archive, with which disks and NICs. Tolerant: what a record lacks is empty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from xobackup.xva.errors import Malformed
from xobackup.xva.xmlrpc import parse_value

Record = dict[str, Any]
DISKS_MAX = 512
OBJECTS_MAX = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class XvaDisk:
    """A disk whose content is in the archive."""

    id: str
    """``Ref:7``: the directory of its pieces."""
    uuid: str
    """Of the VDI that was exported: a snapshot's, when a snapshot was."""
    name: str
    userdevice: str
    """``""`` for the memory of a suspended VM."""
    virtual_size_bytes: int
    bootable: bool = False
    sr_uuid: str = ""
    """The SR it was on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What an archive says it holds."""

    vm: Record
    """The record of its (first) VM, as text and booleans."""
    disks: tuple[XvaDisk, ...]
    nics: tuple[Record, ...]
    """VIF records, each with ``$network$uuid`` and ``$network$name_label``."""
    version: Mapping[str, str] = field(default_factory=dict)
    """Of the host that wrote it."""

    def disk(self, wanted: str) -> XvaDisk | None:
        """The disk of that number in the archive."""
        return next((disk for disk in self.disks if disk.id == wanted), None)


def parse_description(text: bytes) -> Description:
    """:class:`Malformed` when the text describes no VM."""
    whole = parse_value(text)
    objects = whole.get("objects") if isinstance(whole, dict) else None
    if not isinstance(objects, list) or len(objects) > OBJECTS_MAX:
        raise Malformed("xva-description", "the description has no list of objects")
    classes: dict[str, dict[str, Record]] = {}
    for one in objects:
        if isinstance(one, dict) and isinstance(one.get("snapshot"), dict):
            classes.setdefault(_text(one, "class"), {})[_text(one, "id")] = one["snapshot"]
    vms = classes.get("VM", {})
    if not vms:
        raise Malformed("xva-description", "the description has no VM")
    version = whole.get("version")
    return Description(
        vm=next(iter(vms.values())),
        disks=tuple(_disks(classes)),
        nics=tuple(_nics(classes)),
        version={key: str(value) for key, value in version.items()} if isinstance(version, dict) else {},
    )


def _disks(classes: Mapping[str, Mapping[str, Record]]) -> Iterator[XvaDisk]:
    """Disks of the VMs by their numbers in the archive, each once. CDs and images of ISO repositories are left out by
    hosts, too."""
    isos = {ref for ref, sr in classes.get("SR", {}).items() if _text(sr, "content_type") == "iso"}
    vdis = {ref: vdi for ref, vdi in classes.get("VDI", {}).items() if _text(vdi, "SR") not in isos}
    found: dict[str, XvaDisk] = {}
    for vbd in classes.get("VBD", {}).values():
        ref = _text(vbd, "VDI")
        if _text(vbd, "type") == "Disk" and ref in vdis:
            found.setdefault(ref, _disk(ref, vdis[ref], vbd, classes))
    for vm in classes.get("VM", {}).values():
        ref = _text(vm, "suspend_VDI")
        if ref in vdis:
            found.setdefault(ref, _disk(ref, vdis[ref], {}, classes))
    if len(found) > DISKS_MAX:
        raise Malformed("xva-description", f"expected at most {DISKS_MAX} disks, found {len(found)}")
    yield from (found[ref] for ref in sorted(found, key=_order))


def _disk(ref: str, vdi: Record, vbd: Record, classes: Mapping[str, Mapping[str, Record]]) -> XvaDisk:
    size = _text(vdi, "virtual_size")
    if not (size.isascii() and size.isdigit() and len(size) < 20):
        raise Malformed("xva-description", f"disk {ref}: expected a size in bytes, found {size[:40]!r}")
    return XvaDisk(
        id=ref,
        uuid=_text(vdi, "uuid"),
        name=_text(vdi, "name_label"),
        userdevice=_text(vbd, "userdevice"),
        virtual_size_bytes=int(size),
        bootable=bool(vbd.get("bootable", False)),
        sr_uuid=_text(classes.get("SR", {}).get(_text(vdi, "SR"), {}), "uuid"),
    )


def _nics(classes: Mapping[str, Mapping[str, Record]]) -> Iterator[Record]:
    networks = classes.get("network", {})
    for vif in classes.get("VIF", {}).values():
        network = networks.get(_text(vif, "network"), {})
        mtu = _text(vif, "MTU")
        yield {
            **vif,
            "MTU": int(mtu) if mtu.isascii() and mtu.isdigit() and len(mtu) < 10 else 1500,
            "$network$uuid": _text(network, "uuid"),
            "$network$name_label": _text(network, "name_label"),
        }


def _order(ref: str) -> tuple[int, str]:
    digits = ref.rpartition(":")[2]
    return (int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else 1 << 62, ref)


def _text(record: Record, key: str) -> str:
    value = record.get(key, "")
    return value if isinstance(value, str) else ""
