"""Health checks that belong to a job: after its backups, what it has just published is booted, asked and removed.

A check comes after everything else of the run: no snapshot, lease or lock of a backup waits for it. What it finds is
said of the run, never of the backup: that is published, and stays. Sampled by age, those never checked come first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from remotes.errors import RemoteError
from xobackup.engine import events
from xobackup.engine.errors import Cancelled, EngineError, Outcome
from xobackup.engine.full.described import with_disks
from xobackup.engine.health.check import check_point, plan_check
from xobackup.engine.health.guest import opted_out
from xobackup.engine.health.memory import last_checks, remember
from xobackup.engine.health.replica import check_replica, find_replicas
from xobackup.engine.health.request import CheckRequest, CheckResult
from xobackup.engine.health.sample import due
from xobackup.engine.leftovers.clean import recover
from xobackup.engine.replication.site import open_site
from xobackup.repository.errors import RepositoryError
from xobackup.xapi.errors import XapiError

if TYPE_CHECKING:
    from xobackup.engine.job import PoolTarget, RemoteTarget, SrTarget
    from xobackup.engine.replication.points import ReplicaPoint
    from xobackup.engine.replication.site import ReplicaSite
    from xobackup.engine.report import VmReport
    from xobackup.engine.world import World

_TROUBLE = (EngineError, XapiError, RepositoryError, RemoteError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobChecks:
    """What a job checks. ``remote``: from where; ``pool``: where it is booted."""

    pool: PoolTarget
    remote: RemoteTarget | None
    """``None``: the replicas on ``targets`` are checked."""
    request: CheckRequest
    targets: tuple[SrTarget, ...] = ()
    elsewhere: bool = False
    """``pool`` is none that the run itself works on: what dead checks left there is removed first."""
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


def last_told(checked_s: float | None, now_s: float) -> str:
    """Why it is a VM's turn. Pure."""
    if checked_s is None:
        return "never checked"
    if checked_s > now_s:
        return "last checked in the future, by this machine's clock"
    return f"last checked {(now_s - checked_s) / 86_400:.1f} days ago"


def run_checks(
    checks: JobChecks, world: World, reports: Collection[VmReport], *, checked_s: Mapping[str, float] | None = None
) -> tuple[list[CheckResult], list[str]]:
    """Check what these reports say was published. The sentences tell which failed, and what kept others from it.

    ``checked_s``: when each VM was checked last (Unix time), where another machine remembers it.
    """
    fresh = {report.uuid: report for report in reports if report.outcome is Outcome.OK and report.points}
    if not fresh or world.cancel.cancelled:
        return [], []
    known = checked_times(world) if checked_s is None else checked_s
    work = _Work(checks=checks, world=world, checked_s=known)
    try:
        if checks.remote is not None:
            work.restore_points(checks.remote, fresh)
        else:
            work.replicas(fresh)
    except Cancelled:
        pass  # the run says so
    except _TROUBLE as error:
        work.problems.append(f"health checks: {error}")
    for problem in work.problems:
        world.journal.write(events.Failed(error=problem, error_class="HealthCheck"))
    failed = [f"health check of {one.vm_name}: {one.reason}" for one in work.results if not one.ok]
    return work.results, [*work.problems, *failed]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One VM after the other."""

    checks: JobChecks
    world: World
    checked_s: Mapping[str, float]
    results: list[CheckResult] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def restore_points(self, remote: RemoteTarget, fresh: Mapping[str, VmReport]) -> None:
        """Restored to the pool of the checks."""
        checks, world = self.checks, self.world
        fresh = {uuid: report for uuid, report in fresh.items() if remote.name in report.points}
        if not fresh:
            return
        repository = world.open_repository(remote)
        with contextlib.closing(repository.remote), contextlib.closing(world.connect(checks.pool.address)) as session:
            if checks.elsewhere:
                recover(world, session, next((str(one["uuid"]) for one in session.records("pool").values()), ""))
            points = {
                uuid: point
                for uuid, report in fresh.items()
                for point in repository.points(uuid).points
                if point.id == report.points[remote.name]
            }
            vms = [
                Eligible(uuid=uuid, name=point.vm_name, tags=point.metadata.get("vm", {}).get("tags"))
                for uuid, point in points.items()
            ]

            def check(uuid: str) -> CheckResult:
                point = with_disks(repository, points[uuid])
                plan = plan_check(world, session, point, checks.request, remote=remote.name)
                return check_point(
                    world, session, repository, plan, checks.request, remote=remote.name, pool=checks.pool.name
                )

            self._each(vms, check)

    def replicas(self, fresh: Mapping[str, VmReport]) -> None:
        """Cloned where they are. A VM with replicas on several SRs is checked on the first."""
        world, names = self.world, {target.name: target for target in self.checks.targets}
        with contextlib.closing(world.connect(self.checks.pool.address)) as session:
            pool_uuid = next((str(one["uuid"]) for one in session.records("pool").values()), "")
            found: dict[str, tuple[ReplicaSite, ReplicaPoint]] = {}
            for name, target in names.items():
                made = {uuid: one.points[name] for uuid, one in fresh.items() if name in one.points}
                if wanted := {uuid: point for uuid, point in made.items() if uuid not in found}:
                    site = open_site(target, session, pool_uuid)
                    found |= {uuid: (site, point) for uuid, point in find_replicas(site, wanted).items()}
                    self.problems.extend(
                        f"health check of {fresh[uuid].name}: {name} has no usable restore point {wanted[uuid]}"
                        for uuid in wanted
                        if uuid not in found
                    )
            vms = [
                Eligible(uuid=uuid, name=fresh[uuid].name, tags=session.call("VM.get_tags", point.ref))
                for uuid, (_, point) in found.items()
            ]

            def check(uuid: str) -> CheckResult:
                site, point = found[uuid]
                return check_replica(world, site, point, self.checks.request, vm_name=fresh[uuid].name or uuid)

            self._each(vms, check)

    def _each(self, vms: Sequence[Eligible], check: Callable[[str], CheckResult]) -> None:
        """Those whose turn it is; raises :class:`Cancelled`."""
        names = {vm.uuid: vm.name or vm.uuid for vm in vms}
        wanted, _ = chosen(self.checks, vms, self.checked_s, now_s=self.world.clock.now_s())
        for uuid in wanted:
            self.world.cancel.check()
            try:
                result = check(uuid)
            except Cancelled:
                raise
            except _TROUBLE as error:
                self.problems.append(f"health check of {names[uuid]}: {error}")
                continue
            remember(self.world.state_directory, result, now_s=self.world.clock.now_s())
            self.results.append(result)
            self.world.journal.write(_event(result))


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
