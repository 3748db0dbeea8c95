"""Health checks that belong to a job: after its backups, what it has just published is booted, asked and removed.

A check comes after everything else of the run: no snapshot, lease or lock of a backup waits for it. What it finds is
said of the run, never of the backup: that is published, and stays. Sampled by age, those never checked come first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remotes.errors import RemoteError
from xobackup.engine import events
from xobackup.engine.errors import Cancelled, EngineError, Outcome
from xobackup.engine.full.described import with_disks
from xobackup.engine.health.check import check_point, plan_check
from xobackup.engine.health.guest import opted_out
from xobackup.engine.health.memory import last_checks, remember
from xobackup.engine.health.request import CheckRequest, CheckResult
from xobackup.engine.health.sample import due
from xobackup.repository.errors import RepositoryError
from xobackup.xapi.errors import XapiError

if TYPE_CHECKING:
    from xobackup.engine.job import PoolTarget, RemoteTarget
    from xobackup.engine.report import VmReport
    from xobackup.engine.world import World

_TROUBLE = (EngineError, XapiError, RepositoryError, RemoteError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobChecks:
    """What a job checks. ``remote``: from where; ``pool``: where it is booted."""

    pool: PoolTarget
    remote: RemoteTarget
    request: CheckRequest
    tags: tuple[str, ...] = ()
    """Only VMs that have one of these; none means all."""
    every_s: float = 0.0
    """Only VMs whose last check is that old."""
    vms_max: int | None = None
    """At most so many in one run, the oldest check first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eligible:
    """A VM that may be checked, and what it has."""

    uuid: str
    name: str
    tags: Any


def chosen(
    checks: JobChecks, vms: Iterable[Eligible], checked_s: Mapping[str, float], *, now_s: float
) -> tuple[list[str], dict[str, str]]:
    """Uuids of the VMs to check now, in their order; and of the others, why not. Pure."""
    reasons: dict[str, str] = {}
    candidates: list[str] = []
    for vm in vms:
        tags = vm.tags if isinstance(vm.tags, list) else []
        if opted_out(tags):
            reasons[vm.uuid] = "it has the tag xo:no-health-check"
        elif checks.tags and not set(checks.tags) & {tag for tag in tags if isinstance(tag, str)}:
            reasons[vm.uuid] = f"it has no tag {' or '.join(checks.tags)}"
        else:
            candidates.append(vm.uuid)
    found = due(candidates, checked_s, now_s=now_s, every_s=checks.every_s, vms_max=checks.vms_max)
    late = set(due(candidates, checked_s, now_s=now_s, every_s=checks.every_s, vms_max=None))
    for uuid in candidates:
        if uuid not in late:
            reasons[uuid] = f"it was checked {(now_s - checked_s[uuid]) / 86_400:.1f} days ago"
        elif uuid not in found:
            reasons[uuid] = f"{checks.vms_max} others were checked longer ago"
    return found, reasons


def run_checks(checks: JobChecks, world: World, reports: Collection[VmReport]) -> tuple[list[CheckResult], list[str]]:
    """Check what these reports say was published. The sentences tell which failed, and what kept others from it."""
    fresh = {
        report.uuid: report.points[checks.remote.name]
        for report in reports
        if report.outcome is Outcome.OK and checks.remote.name in report.points
    }
    if not fresh or world.cancel.cancelled:
        return [], []
    results: list[CheckResult] = []
    problems: list[str] = []
    try:
        _run(checks, world, fresh, results, problems)
    except Cancelled:
        pass  # the run says so
    except _TROUBLE as error:
        problems.append(f"health checks: {error}")
    for problem in problems:
        world.journal.write(events.Failed(error=problem, error_class="HealthCheck"))
    return results, [*problems, *(f"health check of {one.vm_name}: {one.reason}" for one in results if not one.ok)]


def _run(
    checks: JobChecks, world: World, fresh: Mapping[str, str], results: list[CheckResult], problems: list[str]
) -> None:
    repository = world.open_repository(checks.remote)
    with contextlib.closing(repository.remote), contextlib.closing(world.connect(checks.pool.address)) as session:
        points = {
            uuid: point
            for uuid, wanted in fresh.items()
            for point in repository.points(uuid).points
            if point.id == wanted
        }
        vms = [
            Eligible(uuid=uuid, name=point.vm_name, tags=point.metadata.get("vm", {}).get("tags"))
            for uuid, point in points.items()
        ]
        now_s = world.clock.now_s()
        wanted, _ = chosen(checks, vms, checked_times(world), now_s=now_s)
        for uuid in wanted:
            world.cancel.check()
            point = with_disks(repository, points[uuid])
            try:
                plan = plan_check(world, session, point, checks.request, remote=checks.remote.name)
                result = check_point(
                    world,
                    session,
                    repository,
                    plan,
                    checks.request,
                    remote=checks.remote.name,
                    pool=checks.pool.name,
                )
            except Cancelled:
                raise
            except _TROUBLE as error:
                problems.append(f"health check of {point.vm_name or uuid}: {error}")
                continue
            remember(world.state_directory, result, now_s=world.clock.now_s())
            results.append(result)
            world.journal.write(_event(result))


def checked_times(world: World) -> dict[str, float]:
    """When each VM was checked last (Unix time)."""
    return {uuid: float(data["checked_s"]) for uuid, data in last_checks(world.state_directory).items()}


def _event(result: CheckResult) -> events.HealthChecked:
    return events.HealthChecked(
        vm=result.vm_uuid,
        vm_name=result.vm_name,
        remote=result.remote,
        point=result.point,
        ok=result.ok,
        reason=result.reason,
        duration_s=result.rto_s,
        steps={step.name: step.seconds for step in result.steps},
    )
