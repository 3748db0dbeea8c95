"""What locks on the remotes keep beyond retention, told before and during a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from schedules.retention import Entry, expired, judge
from xobackup.engine.directory_target import entries_of
from xobackup.engine.target import SINK_ERRORS
from xobackup.repository.lock_rule import DAY_S, IMMUTABLE
from xobackup.repository.protection import Held, until_text

if TYPE_CHECKING:
    from xobackup.engine.context import RunContext
    from xobackup.engine.view import VmView
    from xobackup.repository.repository import Repository

DUE_S = DAY_S
"""By then whoever sets flags has come by."""


def held_told(held: Iterable[Held]) -> str:
    """One sentence about all of ``held`` (at least one)."""
    found = sorted(held, key=lambda one: float("inf") if one.until_s is None else one.until_s)
    if len(found) == 1:
        return str(found[0])
    how = ", ".join(dict.fromkeys(one.how for one in found))
    first, last = until_text(found[0].until_s), until_text(found[-1].until_s)
    return f"{len(found)} restore points are held by {how}: {found[0].what} {first}, {found[-1].what} {last}"


def not_frozen(repository: Repository, *, now_s: float) -> list[str]:
    """Restore points that should be immutable by now and are not, where somebody else sets the flags; by VM."""
    rule = repository.options.lock
    if rule is None or rule.mode != IMMUTABLE:
        return []
    told: list[str] = []
    for vm in repository.vms():
        ages = {point: now_s - point.timestamp_ms / 1000 for point in repository.points(vm).points}
        due = [point for point, age_s in ages.items() if DUE_S < age_s < rule.lock_s]
        free = sorted(point.id for point in due if point.id not in repository.locked_points(due))
        if free:
            told.append(f"{due[-1].vm_name or vm}: {len(free)} of {len(due)} restore points, the oldest {free[0]}")
    return told


def held_notes(context: RunContext, vm: VmView) -> tuple[str, ...]:
    """What this run's retention will not delete, by remote: a look without a lock. What cannot be looked at is told
    elsewhere."""
    job, notes, now_ms = context.job, [], round(context.world.clock.now_s() * 1000)
    for name, repository in context.repositories.items():
        try:
            points = repository.points(vm.uuid).points
            entries = entries_of(points, job.id, job.schedule_id, mode=job.settings.mode)
            coming = Entry(id="", timestamp_ms=now_ms)  # of this run
            over = {entry.id for entry in expired(judge([*entries, coming], job.settings.rule, now_ms=now_ms))}
            held = repository.held_points([point for point in points if point.id in over])
        except SINK_ERRORS:
            continue
        if held:
            notes.append(f"remote {name}: retention keeps {job.settings.rule}, but {held_told(held.values())}")
    return tuple(notes)
