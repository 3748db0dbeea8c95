"""Opening what a run needs: remotes, pools, and the VMs that the job selects there. What cannot be opened is told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from xobackup.engine import events
from xobackup.engine.context import RunContext
from xobackup.engine.errors import EngineError
from xobackup.engine.fulls import FullsLimit
from xobackup.engine.job import Job
from xobackup.engine.known_remotes import recognise
from xobackup.engine.leftovers.clean import end_tasks
from xobackup.engine.leftovers.clean import recover as recover_pool
from xobackup.engine.placing.given import Given
from xobackup.engine.reading.means import means_of
from xobackup.engine.replication.site import ReplicaSite, open_site
from xobackup.engine.select import Skipped, Why, select_vms
from xobackup.engine.survey import survey
from xobackup.engine.target import SINK_ERRORS
from xobackup.engine.view import VmView
from xobackup.engine.world import World
from xobackup.xapi.errors import XapiError

if TYPE_CHECKING:
    from xobackup.repository.repository import Repository


@dataclass(slots=True)
class Opened:
    """What a run found when it opened everything."""

    contexts: list[RunContext] = field(default_factory=list)
    vms: list[tuple[RunContext, VmView]] = field(default_factory=list)
    seen: list[VmView] = field(default_factory=list)
    """All VMs of the pools."""
    skipped: list[Skipped] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    repositories: dict[str, Repository] = field(default_factory=dict)
    """Those that could be opened."""


def open_all(job: Job, world: World, run_id: str, held: ExitStack, *, recover: bool) -> Opened:
    """Remotes, pools and the VMs chosen; what cannot be opened becomes a problem."""
    opened = Opened()
    repositories = opened.repositories
    unopened: dict[str, str] = {}
    far = {name for name in job.destinations if world.hand_out is not None and not world.hand_out.reached(name)}
    for remote in job.remotes:
        if remote.name in far:
            continue
        try:
            repository = world.open_repository(remote)
            held.callback(repository.remote.close)
            recognise(world, remote.name, repository, writing=recover)
            repositories[remote.name] = repository
        except (*SINK_ERRORS, EngineError) as error:
            unopened[remote.name] = str(error)
            _problem(world, opened, f"remote {remote.name}: {error}", error, remote=remote.name)
    sites = _open_sites(job, world, run_id, held, opened, recover=recover, far=far)
    if job.destinations and not repositories and not sites and not far:
        return opened
    views: list[tuple[RunContext, VmView]] = []
    counted, elsewhere = world.count_full, world.given_elsewhere
    if world.hand_out is not None:
        counted, elsewhere = world.hand_out.counting(run_id), world.hand_out.given(run_id, world)
    fulls, given = FullsLimit(job.settings.unexpected_fulls_max, counted), Given(elsewhere)
    for pool in job.pools:
        try:
            session = world.connect(pool.address)
            held.callback(session.close)
            if recover:
                held.callback(end_tasks, session, run_id)
            seen = survey(session, pool.name)
            if recover and recover_pool(world, session, seen.pool_uuid):
                seen = survey(session, pool.name)
            means = means_of(session, job.settings)
        except XapiError as error:
            _problem(world, opened, f"pool {pool.name}: {error}", error)
            continue
        through = world.limits.across(world.throttle, [f"pool:{pool.name}"], world.clock)
        context = RunContext(
            world=replace(world, throttle=through),
            job=job,
            run_id=run_id,
            session=session,
            pool=pool.name,
            pool_uuid=seen.pool_uuid,
            repositories=repositories,
            sites=sites,
            means=means,
            fulls=fulls,
            given=given,
            unopened=unopened,
        )
        opened.contexts.append(context)
        views += [(context, view) for view in seen.vm_views()]
    opened.seen = [view for _, view in views]
    if job.selects_vms:
        _choose(job, world, opened, views)
    return opened


def _open_sites(
    job: Job, world: World, run_id: str, held: ExitStack, opened: Opened, *, recover: bool, far: Collection[str]
) -> dict[str, ReplicaSite]:
    """The targets for replicas, but for those that are ``far``; what dead runs left there is taken back."""
    sites: dict[str, ReplicaSite] = {}
    for target in job.targets:
        if target.name in far:
            continue
        try:
            session = world.connect(target.pool.address)
            held.callback(session.close)
            if recover:
                held.callback(end_tasks, session, run_id)
            pool_uuid = next((str(one["uuid"]) for one in session.records("pool").values()), "")
            if recover:
                recover_pool(world, session, pool_uuid)
            sites[target.name] = open_site(target, session, pool_uuid)
        except (XapiError, EngineError) as error:
            _problem(world, opened, f"target {target.name}: {error}", error, remote=target.name)
    return sites


def _choose(job: Job, world: World, opened: Opened, views: Sequence[tuple[RunContext, VmView]]) -> None:
    selection = select_vms(job, [view for _, view in views])
    contexts = {(view.pool, view.uuid): context for context, view in views}
    for view in selection.chosen:
        if any(other.uuid == view.uuid for _, other in opened.vms):
            told = f"vm {view.name} ({view.uuid}) is in several pools of the job; the one in {view.pool} is left out"
            _problem(world, opened, told, EngineError(told))
            continue
        opened.vms.append((contexts[view.pool, view.uuid], view))
    unknown = len(opened.contexts) < len(job.pools)  # then a uuid may well be in the pool we could not ask
    opened.skipped = [one for one in selection.skipped if not (unknown and one.why is Why.NOT_FOUND)]
    for one in opened.skipped:
        if one.matched:
            event = events.VmSkippedEvent(vm=one.uuid, vm_name=one.name, why=one.why.value, reason=one.reason)
            world.journal.write(event)


def _problem(world: World, opened: Opened, told: str, error: BaseException, *, remote: str = "") -> None:
    opened.problems.append(told)
    world.journal.write(
        events.Failed(
            remote=remote, error=told, error_class=type(error).__name__, hint=getattr(error, "hint", "") or ""
        )
    )
