"""One VM's remote, decided from what was seen of all of them, and its plan there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from xobackup.engine.base import Full, Route
from xobackup.engine.job import FULL
from xobackup.engine.placing.choice import Member, Placement, choose
from xobackup.engine.plan import TipsByDisk, VmPlan, plan_vm
from xobackup.engine.space.check import remote_shortages, usages_of, wanted_bytes
from xobackup.engine.space.judge import SpaceCheck

if TYPE_CHECKING:
    from remotes.contract import Usage
    from xobackup.engine.context import RunContext
    from xobackup.engine.view import VmView

STARTS_AGAIN = (Full.FIRST_RUN, Full.REMOTE_EMPTY, Full.SNAPSHOT_GONE)
"""Reasons for a full that only say that the chain is not on this remote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of a VM on the remotes. By remote; one that could not be looked at has a problem instead."""

    tips: TipsByDisk
    newest_ms: Mapping[str, int]
    """Of the restore points that the job made in its mode."""
    problems: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """``placement`` is ``None``, and the plan refused, when no remote can take the VM."""

    placement: Placement | None
    plan: VmPlan


def decide(context: RunContext, vm: VmView, seen: Seen) -> Decided:
    """Choose, and note what the VM was given. The caller releases it (``context.given.release``)."""
    job = context.job
    plans = {name: plan_on(context, vm, seen.tips, name) for name in seen.newest_ms if name not in seen.problems}
    usages = usages_of(context.repositories, plans)
    with context.given.deciding():
        members = [
            _member(context, vm, plans[one.name], usages[one.name], newest_ms=seen.newest_ms[one.name])
            if one.name in plans
            else _absent(context, vm, one.name, seen.problems.get(one.name, ""))
            for one in job.remotes
        ]
        refuse = job.settings.space_check is SpaceCheck.REFUSE
        placement = choose(members, chained=job.settings.mode != FULL, refuse=refuse)
        if placement is None:
            told = "; ".join(f"{one.remote}: {one.problem or one.short}" for one in members)
            empty = plan_vm(job, vm, {}, terms=context.means.terms, remotes=())
            return Decided(placement=None, plan=replace(empty, refusal=f"no remote can take it: {told}"))
        plan = plans[placement.remote]
        if not plan.refusal:
            context.given.give(vm.uuid, placement.remote, usages[placement.remote], _wanted(plan, placement.remote))
    return Decided(placement=placement, plan=placed(plan, placement))


def plan_on(context: RunContext, vm: VmView, tips: TipsByDisk, remote: str) -> VmPlan:
    """The VM's plan if it goes to ``remote``."""
    there = {disk: {remote: known[remote]} for disk, known in tips.items() if remote in known}
    return plan_vm(context.job, vm, there, terms=context.means.terms, remotes=(remote,))


def placed(plan: VmPlan, placement: Placement) -> VmPlan:
    """The plan with the placement, also as the reason for what starts again because of it."""
    if not placement.left:
        return replace(plan, placement=placement)

    def there(route: Route) -> Route:
        if route.full not in STARTS_AGAIN:
            return route
        return replace(route, full=Full.REMOTE_LEFT, reason=placement.left)

    disks = tuple(replace(disk, routes=tuple(there(route) for route in disk.routes)) for disk in plan.disks)
    warning = f"{placement.left}; so it goes to remote {placement.remote}"
    return replace(plan, placement=placement, disks=disks, warnings=(*plan.warnings, warning))


def _absent(context: RunContext, vm: VmView, name: str, problem: str) -> Member:
    told = problem or context.unopened.get(name, "it could not be looked at")
    return Member(remote=name, problem=told, newest_ms=marked_ms(vm, context.job.id, name))


def _member(context: RunContext, vm: VmView, plan: VmPlan, usage: Usage | None, *, newest_ms: int) -> Member:
    (name,), given = plan.remotes, context.given
    left, wanted = given.left(vm.uuid, name, usage), _wanted(plan, name)
    short = remote_shortages([plan], {name: usage}, context.job.settings).get(name)
    routes = [route for disk in plan.disks for route in disk.routes]
    return Member(
        remote=name,
        problem=given.full(vm.uuid).get(name, ""),
        short=short.reason if short is not None and short.refusable else "",
        newest_ms=newest_ms,
        continues=bool(routes) and all(route.delta for route in routes),
        free_bytes=left,
        fits=left is None or wanted <= left,
        vms=given.vms_on(name, context.repositories[name]) if usage is None else 0,
        given=given.count(name),
    )


def _wanted(plan: VmPlan, remote: str) -> int:
    return plan.archive.bound_bytes if plan.archive is not None else wanted_bytes([plan], remote)[0]


def marked_ms(vm: VmView, job_id: str, remote: str) -> int:
    """The newest of the job's snapshots on the pool that says it is on ``remote``, as Unix time; 0: none does."""
    snapshots = (snapshot for disk in vm.disks for snapshot in disk.snapshots)
    moments = [one.datetime for one in snapshots if one.job_id == job_id and one.exported and remote in one.remotes]
    try:
        return int(datetime.strptime(max(moments), "%Y%m%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:  # none, or a mark that nobody of ours wrote
        return 0
