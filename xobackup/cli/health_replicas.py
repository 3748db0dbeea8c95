"""``xobackup health-check --replica``: clones of replicas are booted where they are, asked, and removed."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xobackup.cli.errors import NotThere
from xobackup.cli.health_results import Done, Wanted, found_out, sampled, write_report
from xobackup.cli.output import Output

if TYPE_CHECKING:
    from xobackup.config.model import Configuration
    from xobackup.engine.health.replica import Checkable, Place
    from xobackup.engine.health.request import CheckRequest, CheckResult
    from xobackup.engine.job import SrTarget

LATEST = "latest"


def check_replicas(
    output: Output,
    configuration: Configuration,
    target: str,
    wanted: Wanted,
    request: CheckRequest,
    *,
    report: Path | None,
) -> Done:
    """One VM after the other. ``target``: of the configuration, or one of its SRs (``TARGET:SR``)."""
    from xobackup.cli.shared_limits import limited_world
    from xobackup.cli.verbs.replicas import job_names
    from xobackup.engine.health.guest import opted_out
    from xobackup.engine.health.replica import check_replica, find_checkable
    from xobackup.engine.leftovers.clean import recover
    from xobackup.engine.replication.site import open_site

    targets = _targets(configuration, target)
    jobs = job_names(configuration)
    results: list[CheckResult] = []
    with (
        limited_world(output, configuration) as world,
        contextlib.closing(world.connect(targets[0].pool.address)) as session,
    ):
        pool_uuid = next((str(one["uuid"]) for one in session.records("pool").values()), "")
        if not wanted.dry_run:
            recover(world, session, pool_uuid)
        known = find_checkable([open_site(one, session, pool_uuid) for one in targets], jobs)
        named = [_find(known, vm, target) for vm in wanted.vms]
        candidates = named or [one for one in known if not opted_out(list(one.tags))]
        of = {one.vm_uuid: one for one in candidates}
        uuids = sampled(output, world, list(of), wanted)
        for uuid in uuids:
            name, place = of[uuid].name, _place(of[uuid], wanted.point)
            _tell_plan(output, name, place, request)
            if not wanted.dry_run:
                tell = lambda text: output.note(f"  {text}")  # noqa: E731
                done = check_replica(world, place.site, place.point, request, vm_name=name, tell=tell)
                found_out(output, world, done)
                results.append(done)
        if report is not None and not wanted.dry_run:
            write_report(report, results, world)
    return Done(results=results, refused=0, vms=len(uuids))


def _targets(configuration: Configuration, given: str) -> list[SrTarget]:
    from xobackup.cli.jobs import sr_targets

    name, _, _ = given.partition(":")
    of = sr_targets(configuration, name, True) if name in configuration.targets else []
    found = [one for one in of if given in (name, one.name)]
    if not found:
        known = ", ".join([*sorted(configuration.targets), *(one.name for one in of)]) or "none"
        raise NotThere(f"--replica: there is no target {given!r} (known: {known})", hint="see docs/replication.md")
    return found


def _find(known: Sequence[Checkable], given: str, target: str) -> Checkable:
    found = [one for one in known if given == one.vm_uuid] or [one for one in known if given == one.name]
    if len(found) == 1:
        return found[0]
    if found:
        uuids = ", ".join(one.vm_uuid for one in found)
        raise NotThere(
            f"{len(found)} VMs at {target} are called {given!r}: {uuids}", hint="give the uuid of the one you mean"
        )
    raise NotThere(
        f"target {target} has no replica of a VM {given!r} that can be used", hint="see `xobackup replicas`"
    )


def _place(vm: Checkable, given: str) -> Place:
    """The newest of the restore points meant; on the first SR of the target where several have it."""
    if given == LATEST:
        return vm.places[0]
    found = [one for one in vm.places if one.point.id.startswith(given)]
    ids = {one.point.id for one in found}
    if given in ids or len(ids) == 1:
        return next(one for one in found if given not in ids or one.point.id == given)
    known = ", ".join(list(dict.fromkeys(one.point.id for one in vm.places))[:5])
    problem = "matches several restore points" if ids else "is no restore point that can be used"
    raise NotThere(f"--point: {given!r} {problem} of the replica of {vm.name} (newest first: {known})")


def _tell_plan(output: Output, name: str, place: Place, request: CheckRequest) -> None:
    point, target = place.point, place.site.target
    size_bytes = sum(disk.virtual_size_bytes for disk in point.disks)
    output.record(
        "health-check-plan",
        {
            "vm": point.vm_uuid,
            "point": point.id,
            "pool": target.pool.name,
            "size_bytes": size_bytes,
            "replica": place.site.name,
        },
    )
    output.say(f"{name} ({point.id}): a clone of its replica at {place.site.name}, {request.network or 'no network'}")
