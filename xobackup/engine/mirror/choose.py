"""Which restore points a mirror copies: all that the target lacks. Each that is left out has its reason.

It is a difference of sets, not "whatever is newer than the last common one": a full backup that is missing in the
middle is copied. A delta that is older than what the target's chains end with is not: names of disks grow with time,
for Xen Orchestra too. What the target's retention would delete at once is not copied either. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from schedules.retention import Entry, Rule, judge
from xobackup.repository.metadata import MODE_DELTA, RestorePoint

Group = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which restore points of the source are meant; what is empty does not narrow."""

    jobs: Collection[str] = ()
    """Ids."""
    schedules: Collection[str] = ()
    """Ids."""
    tags: Collection[str] = ()
    """Of the VM, as it was then; one of them is enough."""
    since_ms: int = 0

    def refuses(self, point: RestorePoint) -> str:
        """Why ``point`` is not meant; ``""`` when it is."""
        if self.jobs and point.job_id not in self.jobs:
            return f"it is of job {point.job_id}"
        if self.schedules and point.schedule_id not in self.schedules:
            return f"it is of schedule {point.schedule_id}"
        vm = point.metadata.get("vm")
        tags = vm.get("tags") if isinstance(vm, dict) else None
        if self.tags and not set(self.tags) & {tag for tag in tags or () if isinstance(tag, str)}:
            return f"its VM had no tag {' or '.join(sorted(self.tags))}"
        return "it is too old" if point.timestamp_ms < self.since_ms else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What becomes of one restore point of the source. ``reason``: why it is not copied, ``""`` when it is."""

    point: RestorePoint
    reason: str = ""


def group_of(point: RestorePoint) -> Group:
    """What retention judges together: fulls and deltas of one schedule of one job, each apart."""
    return point.job_id, point.schedule_id, point.mode


def due(points: Iterable[RestorePoint], groups: Collection[Group], rule: Rule, *, now_ms: int) -> set[str]:
    """Ids of the ``points`` that ``rule`` does not keep, in each of ``groups`` by itself."""
    by_group: dict[Group, dict[str, Entry]] = {}
    for point in points:
        if group_of(point) in groups:
            entry = Entry(id=point.id, timestamp_ms=point.timestamp_ms)
            by_group.setdefault(group_of(point), {})[point.id] = entry
    verdicts = (one for entries in by_group.values() for one in judge(entries.values(), rule, now_ms=now_ms))
    return {verdict.entry.id for verdict in verdicts if not verdict.keep}


def choose(
    source: Iterable[RestorePoint],
    target: Collection[RestorePoint],
    *,
    filter: Filter,
    rule: Rule | None,
    now_ms: int,
) -> list[Choice]:
    """A choice for each point of ``source``, oldest first. ``rule``: of the target; ``None`` keeps everything."""
    there = {point.id for point in target}
    newest = {disk.path.rsplit("/", 1)[0]: point.id for point in _ordered(target) for disk in point.disks}
    first = [Choice(point=one, reason=_refused(one, there, newest, filter)) for one in _ordered(source)]
    if rule is None:
        return first
    wanted = [choice.point for choice in first if not choice.reason]
    gone = due([*target, *wanted], {group_of(point) for point in wanted}, rule, now_ms=now_ms)
    return [
        Choice(point=one.point, reason=f"the target keeps {rule}") if not one.reason and one.point.id in gone else one
        for one in first
    ]


def _ordered(points: Iterable[RestorePoint]) -> list[RestorePoint]:
    return sorted(points, key=lambda point: point.id)


def _refused(point: RestorePoint, there: Collection[str], newest: dict[str, str], filter: Filter) -> str:
    if point.id in there:
        return "the target has it"
    reason = filter.refuses(point)
    if reason or point.mode != MODE_DELTA:
        return reason
    later = [newest[path] for disk in point.disks if (path := disk.path.rsplit("/", 1)[0]) in newest]
    if later and max(later) > point.id:
        return f"the target's chain goes on to {max(later)} already, and nothing can be put before that"
    return ""
