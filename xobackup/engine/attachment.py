"""What is special about a disk because of how it is attached and where it lies. Pure.

Some disks cannot be snapshotted at all: devices passed through from a host, disks that several VMs may write at the
same time, disks that forget everything at each start. A VM with such a disk is refused with the reason, unless the
job leaves the disk out. Others are only worth a note in the plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Record = Mapping[str, Any]
PASSED_THROUGH = {
    "udev": "a device of the host, passed through",
    "rawhba": "a LUN, passed through",
    "iso": "an image file that no snapshot can be taken of",
}
"""Types of SRs whose disks are not the pool's own."""


def snapshot_obstacle(vdi: Record, sr: Record) -> str:
    """Why no snapshot can be taken of a disk, as a sentence; ``""`` when one can."""
    kind = str(sr.get("type", ""))
    if kind in PASSED_THROUGH:
        return f"it is {PASSED_THROUGH[kind]} (SR {sr.get('name_label', '')} of type {kind})"
    if vdi.get("sharable"):
        return "it is sharable: several VMs may write it at the same time, and the pool takes no snapshot of it"
    if vdi.get("on_boot") == "reset":
        return "it is reset at every start of its VM (on_boot), and the pool takes no snapshot of it"
    return ""


def notes_on(vbd: Record, others: Iterable[str]) -> tuple[str, ...]:
    """What the operator should know of a disk that is backed up all the same. ``others``: VMs that have it too."""
    told: list[str] = []
    names = sorted(others)
    if names:
        told.append(f"it is attached to {', '.join(names)} too, and backed up with each of them")
    if vbd.get("mode") == "RO":
        told.append("it is attached read-only, and backed up all the same")
    return tuple(told)
