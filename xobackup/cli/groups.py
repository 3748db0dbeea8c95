"""Consistent groups on the screen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from xobackup.texts import count_text, duration_text

if TYPE_CHECKING:
    from xobackup.engine.report import GroupReport
    from xobackup.repository.metadata import RestorePoint
    from xobackup.repository.repository import Repository


def plan_line(group: Mapping[str, Any]) -> str:
    """One line of a plan."""
    names = ", ".join(vm["name"] or vm["uuid"] for vm in group["vms"])
    if not names:
        return (
            f"consistent group: no chosen VM has the tag {group['tag']}" if group["tag"] else "consistent group: none"
        )
    means = "none is backed up" if group["if_one_fails"] == "stop" else "the others are backed up"
    return f"consistent group: {names} (snapshots first, {group['snapshots_max']} at a time; if one fails, {means})"


def report_lines(group: GroupReport) -> Iterator[str]:
    """How close together its snapshots were, and who is missing."""
    vms = count_text(len(group.vms), "VM")
    yield f"consistent group {group.id[:8]}: {vms}, all snapshots within {duration_text(group.span_s)}"
    for name, reason in group.left_out.items():
        yield f"{name} is not in the group: {reason}"


def point_lines(repository: Repository, points: Iterable[RestorePoint]) -> Iterator[str]:
    """One line per restore point of a group: whose points belong to it too, and whose are gone."""
    others: dict[str, tuple[RestorePoint, ...]] = {}
    for point in points:
        if not point.group:
            continue
        told: list[str] = []
        for uuid in point.group_vms:
            if uuid == point.vm_uuid:
                continue
            if uuid not in others:
                others[uuid] = repository.points(uuid).points
            name = next((one.vm_name for one in reversed(others[uuid]) if one.vm_name), uuid)
            here = any(one.group == point.group for one in others[uuid])
            told.append(name if here else f"{name} (no restore point of the group here)")
        yield f"{point.id} belongs to the consistent group {point.group[:8]} with {', '.join(told) or 'no other VM'}"
