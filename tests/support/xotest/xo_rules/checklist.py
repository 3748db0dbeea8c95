"""What a writer owes Xen Orchestra beyond surviving its ``cleanVm``: the part of the format it trusts blindly.

Lineages with an interrupted merge are left out: their names and uuids are on the way from one disk to another.
"""

from __future__ import annotations

import json
import posixpath
import re
from datetime import UTC, datetime
from typing import Any

from xotest.xo_rules.cleaning import ROOT, _block_files
from xotest.xo_rules.disks import Opened
from xotest.xo_rules.lineages import look
from xotest.xo_rules.trees import Tree, tree_of

DISK_NAME = re.compile(r"^\d{8}T\d{6}Z(\.alias)?\.vhd$")
KEYS_DELTA = {
    "mode", "version", "jobId", "scheduleId", "timestamp", "size", "isVhdDifferencing", "vbds", "vifs", "vtpms",
    "vdis", "vhds", "vm", "vmSnapshot", "tags",
}  # fmt: skip
KEYS_FULL = {"mode", "version", "jobId", "scheduleId", "timestamp", "size", "vm", "vmSnapshot", "xva", "tags"}
KEYS_VDI = {"uuid", "name_label", "virtual_size", "other_config", "type", "$snapshot_of$uuid"}
KEYS_VM = {"uuid", "name_label", "name_description", "tags", "other_config"}


def assert_conformant(source: Any) -> None:
    found = checklist(source)
    assert not found, "Xen Orchestra's format:\n" + "\n".join(found)


def checklist(source: Any) -> list[str]:
    """Complaints, each with the path it is about."""
    tree = tree_of(source)
    found: list[str] = []
    if tree.is_directory(ROOT) is None:
        return found
    for vm, is_directory in tree.list(ROOT).items():
        if is_directory and not vm.endswith(".lock") and not vm.startswith("."):
            found += _vm(tree, f"{ROOT}/{vm}")
    return found


def _vm(tree: Tree, root: str) -> list[str]:
    found: list[str] = []
    lineages: dict[str, dict[str, Opened] | None] = {}
    for name in tree.list(root):
        if not name.endswith(".json"):
            continue
        path = f"{root}/{name}"
        point = json.loads(tree.read(path))
        found += [f"{path}: {text}" for text in _point(point, name, posixpath.basename(root))]
        if point.get("mode") != "delta":
            continue
        for disk in point["vhds"].values():
            directory = posixpath.dirname(f"{root}/{disk}")
            if directory not in lineages:
                lineage = look(tree, directory)
                lineages[directory] = None if lineage.states else lineage.opened
                found += _lineage(tree, directory, lineages[directory] or {})
        found += [f"{path}: {text}" for text in _disks(root, point, lineages)]
    return found


def _point(point: dict[str, Any], name: str, vm: str) -> list[str]:
    found = [
        f"no key {key}" for key in sorted((KEYS_FULL if point.get("mode") == "full" else KEYS_DELTA) - set(point))
    ]
    if found:
        return found
    moment = datetime.fromtimestamp(point["timestamp"] // 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    if name != f"{moment}.json":
        found.append(f"timestamp says {moment}.json")
    if point["version"] != "2.0.0":
        found.append(f"version {point['version']!r}")
    if point["vm"]["uuid"] != vm:
        found.append(f"the VM is {point['vm']['uuid']}")
    found += [f"vm has no {key}" for key in sorted(KEYS_VM - set(point["vm"]))]
    if "suspend_VDI" not in point["vmSnapshot"]:
        found.append("vmSnapshot has no suspend_VDI")
    if point["mode"] == "full":
        return found
    for ref, vdi in point["vdis"].items():
        of_disk = set() if vdi.get("type") != "suspend" else {"$snapshot_of$uuid"}  # memory is no snapshot
        found += [f"VDI {ref} has no {key}" for key in sorted(KEYS_VDI - of_disk - set(vdi))]
        if of_disk and ref != point["vmSnapshot"]["suspend_VDI"]:
            found.append(f"VDI {ref} is memory, the snapshot's is {point['vmSnapshot']['suspend_VDI']}")
    if not set(point["vhds"]) == set(point["vdis"]) == set(point["isVhdDifferencing"]):
        found.append("vhds, vdis and isVhdDifferencing name different disks")
    attached = {vbd["VDI"] for vbd in point["vbds"].values()}
    if attached - set(point["vdis"]):
        found.append(f"VBDs of unknown disks {sorted(attached - set(point['vdis']))}")
    return found


def _disks(root: str, point: dict[str, Any], lineages: dict[str, dict[str, Opened] | None]) -> list[str]:
    found: list[str] = []
    total = 0
    for ref, name in point["vhds"].items():
        vdi = point["vdis"][ref]
        parts = name.split("/")
        if len(parts) != 4 or parts[0] != "vdis" or not DISK_NAME.match(parts[3]):
            found.append(f"disk path {name}")
        elif parts[1] != point["jobId"] or parts[2] != (
            vdi["uuid"] if vdi["type"] == "suspend" else vdi.get("$snapshot_of$uuid", parts[2])
        ):
            found.append(f"disk path {name} is not vdis/<job>/<live disk>/…")
        opened = lineages[posixpath.dirname(f"{root}/{name}")]
        if opened is None:
            return found
        disk = opened.get(f"{root}/{name}")
        if disk is None:
            found.append(f"{name} does not open")
            return found
        total += disk.stream_size
        if disk.uuid != vdi["uuid"]:
            found.append(f"{name}: footer uuid {disk.uuid}, the snapshot is {vdi['uuid']}")
        if disk.size != int(vdi["virtual_size"]):
            found.append(f"{name}: {disk.size} bytes, the snapshot has {vdi['virtual_size']}")
        if point["isVhdDifferencing"][ref] and not disk.differencing:
            found.append(f"{name}: said to be differencing, is not")
    if total != point["size"]:
        found.append(f"size {point['size']}, the disks have {total}")
    return found


def _lineage(tree: Tree, directory: str, opened: dict[str, Opened]) -> list[str]:
    found: list[str] = []
    for path, disk in opened.items():
        if not DISK_NAME.match(posixpath.basename(path)):
            found.append(f"{path}: no name Xen Orchestra gives")
        if disk.is_directory and (gone := sorted(set(disk.sectors) - _block_files(tree, disk.data_path))):
            found.append(f"{path}: blocks {gone[:5]} are missing")
        if disk.differencing:
            parent = opened.get(disk.parent_path)
            if parent is None:
                found.append(f"{path}: no parent {disk.parent_name}")
            elif parent.uuid != disk.parent_uuid:
                found.append(f"{path}: parent uuid {disk.parent_uuid}, {disk.parent_name} is {parent.uuid}")
            elif not posixpath.basename(parent.path) < posixpath.basename(path):
                found.append(f"{path}: does not sort after its parent {disk.parent_name}")
            elif (parent.is_directory, parent.compression) != (disk.is_directory, disk.compression):
                found.append(f"{path}: not stored as its parent {disk.parent_name} is")
        elif disk.parent_name or disk.parent_uuid.strip("0-"):
            # Xen Orchestra leaves the root's link alone when it merges: only a differencing disk may have one
            found.append(f"{path}: dynamic, yet has a parent {disk.parent_name!r} {disk.parent_uuid}")
    if any(disk.is_directory and disk.compression != "brotli" for disk in opened.values()):
        found.append(f"{directory}: not brotli, Xen Orchestra would go full")
    return found
