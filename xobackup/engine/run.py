"""A run of a job: the conductor. It opens what is needed, gives each VM its attempts, reports.

One VM's failure never touches another. A failed VM is tried again, if the job says so, after all others had their
turn. Stopping (a signal, the switch) lets every VM clean up and then ends the journal.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import metadata

from remotes import faces
from xobackup.engine import events
from xobackup.engine.attempt import Turn, attempt_vm
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import Cancelled, EngineError, Outcome
from xobackup.engine.group.conduct import GroupWork
from xobackup.engine.group.handed import HandedGroup
from xobackup.engine.group.plan import plan_group
from xobackup.engine.handing import Handing
from xobackup.engine.health.of_job import Eligible, JobChecks, checked_times, chosen, last_told, run_checks
from xobackup.engine.health.request import CheckResult
from xobackup.engine.hooks.freezing import thaw_interrupted
from xobackup.engine.hooks.hook import hook_data
from xobackup.engine.hooks.of_run import RunHooks
from xobackup.engine.job import Job
from xobackup.engine.journal import JsonLinesJournal, Tee, close_interrupted, journal_path
from xobackup.engine.limits.told import job_throttle, limits_told
from xobackup.engine.limits.turnstile import Turnstile
from xobackup.engine.opening import Opened, open_all
from xobackup.engine.plan import RunPlan, VmPlan
from xobackup.engine.plans import limit_told, plans_of, shortages
from xobackup.engine.pools.run import left_to_workers, plan_pools, save_pools
from xobackup.engine.report import GroupReport, PoolReport, RunReport, VmReport, outcome_of
from xobackup.engine.select import Skipped, Why
from xobackup.engine.throttle import Throttle
from xobackup.engine.turns.work import AttemptUnit, Unit, Work
from xobackup.engine.unmatched import unmatched_rules
from xobackup.engine.unprotected import unprotected
from xobackup.engine.view import VmView
from xobackup.engine.world import World


def run_job(job: Job, outside: World) -> RunReport:
    """Back up every VM the job selects, then the pools' own databases if it says so. Never raises for what happens to
    single VMs, pools or remotes."""
    began_s = outside.clock.monotonic_s()
    run_id = outside.new_id()
    with _journalled(job, outside, run_id, "run") as world:
        hooks = RunHooks(job, world, run_id)
        did = _Did()
        try:
            if hooks.before():
                _do(job, world, run_id, did)
                if job.checks is not None:
                    did.checks, troubles = _check(job, job.checks, world, run_id, did.vms)
                    did.problems += troubles
        except BaseException as error:
            hooks.after(Outcome.FAILED, [str(error) or type(error).__name__])
            raise
        problems = [*hooks.problems, *did.problems]
        hooks.after(did.outcome(problems, world.cancel), problems)
        problems = [*hooks.problems, *did.problems]
        report = RunReport(
            run_id=run_id,
            job=job.name,
            outcome=did.outcome(problems, world.cancel),
            vms=tuple(did.vms),
            pools=tuple(did.pools),
            duration_s=world.clock.monotonic_s() - began_s,
            problems=tuple(problems),
            hooks=tuple(hooks.results),
            group=did.group,
            storage=did.storage,
            checks=tuple(did.checks),
        )
        world.journal.write(
            events.RunEnded(
                run_id=run_id,
                outcome=report.outcome.value,
                ok=report.count(Outcome.OK),
                failed=report.count(Outcome.FAILED),
                skipped=report.count(Outcome.SKIPPED),
                duration_s=report.duration_s,
                reason=world.cancel.reason or "; ".join(problems),
            )
        )
    return report


@dataclass(slots=True)
class _Did:
    """What a run has done so far."""

    vms: list[VmReport] = field(default_factory=list)
    pools: list[PoolReport] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    group: GroupReport | None = None
    storage: dict[str, faces.Traffic] = field(default_factory=dict)
    checks: list[CheckResult] = field(default_factory=list)

    def outcome(self, problems: list[str], cancel: CancelToken) -> Outcome:
        return outcome_of([*self.vms, *self.pools], problems=bool(problems), cancelled=cancel.cancelled)


def _do(job: Job, world: World, run_id: str, did: _Did) -> None:
    with ExitStack() as held:
        opened = open_all(job, world, run_id, held, recover=True)
        did.problems += opened.problems
        did.vms += [_skipped_report(one) for one in opened.skipped if one.matched]
        _tell_unprotected(world, opened)
        thaw_interrupted(job, world, opened.contexts)
        reports, did.group = _work_off(job, world, opened)
        did.vms += reports
        with _handing(job, world, run_id, wanted=left_to_workers(job, world)) as handing:
            did.pools += save_pools(job, world, opened.contexts, handing)
        did.storage.update(_tell_traffic(world, opened))


def _check(
    job: Job, checks: JobChecks, world: World, run_id: str, reports: list[VmReport]
) -> tuple[list[CheckResult], list[str]]:
    """By a worker that reaches where VMs are booted, and what from; else here."""
    wanted = not world.cancel.cancelled and any(report.points for report in reports)
    with _handing(job, world, run_id, wanted=wanted) as handing:
        done = handing.checks(checks, reports) if handing is not None else None
    return run_checks(checks, world, reports) if done is None else done


def _tell_unprotected(world: World, opened: Opened) -> None:
    """Which VMs of the pools nobody backs up: the pools were asked anyway."""
    if not world.all_jobs:
        return  # nothing says what others select
    for context in opened.contexts:
        found = unprotected(world.all_jobs, opened.seen, context.pool)
        vms = sum(
            vm.pool == context.pool and not (vm.is_template or vm.is_snapshot or vm.is_control_domain)
            for vm in opened.seen
        )
        world.journal.write(events.PoolSeen(pool=context.pool, vms=vms, unprotected=found))


def _tell_traffic(world: World, opened: Opened) -> dict[str, faces.Traffic]:
    """What the run asked of remotes that count it: requests are often paid for."""
    found = {name: faces.traffic(repository.remote) for name, repository in opened.repositories.items()}
    counted = {name: traffic for name, traffic in found.items() if traffic is not None}
    for name, traffic in counted.items():
        world.journal.write(
            events.StorageUsed(
                remote=name,
                requests=dict(traffic.requests),
                repeated=traffic.repeated,
                sent_bytes=traffic.sent_bytes,
                received_bytes=traffic.received_bytes,
            )
        )
    return counted


def plan_job(job: Job, world: World) -> RunPlan:
    """What :func:`run_job` would do now, without touching anything."""
    with ExitStack() as held:
        opened = open_all(job, world, "plan", held, recover=False)
        plans, skipped = plans_of(job, opened)
        return RunPlan(
            job=job.name,
            vms=tuple(plans),
            skipped=(*opened.skipped, *skipped),
            problems=tuple(opened.problems),
            pools=tuple(plan_pools(job, opened.contexts)),
            hooks=tuple(hook_data(hook) for hook in job.hooks),
            limits=(*limits_told(job, world), *(world.hand_out.told(job) if world.hand_out is not None else ())),
            warnings=(*shortages(job, opened, plans), *_unmatched(job, opened)),
            checks=_checks_told(job, world, plans),
            group=plan_group(job, [vm for _, vm in opened.vms]),
        )


def _checks_told(job: Job, world: World, plans: Sequence[VmPlan]) -> tuple[str, ...]:
    """Which VMs will be booted for trial, and why others not, as sentences."""
    if job.checks is None:
        return ()
    vms = [Eligible(uuid=one.vm.uuid, name=one.vm.name, tags=list(one.vm.tags)) for one in plans if not one.refusal]
    names = {vm.uuid: vm.name or vm.uuid for vm in vms}
    checked = checked_times(world)
    wanted, left = chosen(job.checks, vms, checked, now_s=world.clock.now_s())
    pool, sr = job.checks.pool.name, job.checks.request.sr
    where = f"on SR {sr} of {pool}" if job.checks.remote else f"by a clone of its replica in {pool}"
    told = [
        f"health check of {names[uuid]} {where}: {last_told(checked.get(uuid), world.clock.now_s())}"
        for uuid in wanted
    ]
    return (*told, *(f"no health check of {names[uuid]}: {reason}" for uuid, reason in left.items()))


def _unmatched(job: Job, opened: Opened) -> tuple[str, ...]:
    if len(opened.contexts) < len(job.pools) or not job.selects_vms:
        return ()  # what a rule means may well be in the pool we could not ask
    return unmatched_rules(job, opened.seen, [vm for _, vm in opened.vms])


@contextmanager
def _journalled(job: Job, world: World, run_id: str, verb: str) -> Iterator[World]:
    """The world with this run's journal file added to its sinks, and its first event written."""
    last_words = None if world.hand_out is None else world.hand_out.last_words
    close_interrupted(world.journal_directory, world.clock, last_words)
    file = JsonLinesJournal(journal_path(world.journal_directory, run_id, world.clock), world.clock)
    try:
        world = replace(
            world,
            journal=Tee(world.journal, file),
            throttle=Throttle(None, world.clock),
        )
        world = replace(world, throttle=job_throttle(job, world))
        world.journal.write(
            events.RunStarted(
                run_id=run_id,
                verb=verb,
                job=job.name,
                job_id=job.id,
                version=version(),
                host=socket.gethostname(),
                pid=os.getpid(),
                limits=list(limits_told(job, world)),
                reason=world.reason,
                schedule=world.schedule,
            )
        )
        yield world
    finally:
        file.close()


def version() -> str:
    """This program's version, ``""`` when it runs from a tree that is not installed."""
    try:
        return metadata.version("xobackup")
    except metadata.PackageNotFoundError:
        return ""


def _work_off(job: Job, world: World, opened: Opened) -> tuple[list[VmReport], GroupReport | None]:
    """Every VM, as :mod:`xobackup.engine.turns` gives them their turns."""
    refused: dict[str, str] = {}
    if job.settings.unexpected_fulls_max is not None:
        plans, _ = plans_of(job, opened)
        refused = {plan.vm.uuid: plan.refusal for plan in plans if plan.refusal == limit_told(job)}

    def refusal(vm: VmView) -> EngineError | None:
        return EngineError(refused[vm.uuid]) if vm.uuid in refused else None

    run_id = opened.vms[0][0].run_id if opened.vms else ""
    with _handing(job, world, run_id, wanted=bool(opened.vms)) as handing:
        return _give_turns(job, world, opened, refusal, handing)


@contextmanager
def _handing(job: Job, world: World, run_id: str, *, wanted: bool) -> Iterator[Handing | None]:
    """Workers elsewhere, where there are any, and something for them to do."""
    if world.hand_out is None or not wanted:
        yield None
        return
    handing = world.hand_out.begin(job, world, run_id)
    try:
        yield handing
    finally:
        handing.close()


def _give_turns(
    job: Job, world: World, opened: Opened, refusal: Callable[[VmView], EngineError | None], handing: Handing | None
) -> tuple[list[VmReport], GroupReport | None]:
    single = partial(_elsewhere, handing, partial(_placed, world, _single))
    if job.consistent is None:
        units: list[Unit] = [(pair,) for pair in opened.vms]
        return Work(job, world, units, attempt=single, refusal=refusal).run(), None
    together = tuple(pair for pair in opened.vms if job.consistent.has(pair[1].tags))
    units = [*([together] if together else []), *((pair,) for pair in opened.vms if pair not in together)]
    group = GroupWork(job, world, job.consistent, [vm for _, vm in together])
    here = partial(_placed, world, group.attempt)
    members = {vm.uuid for _, vm in together}
    handed = HandedGroup(group, handing, here=here, single=partial(_elsewhere, handing, here), members=members)
    try:
        reports = Work(job, world, units, attempt=handed.attempt, refusal=refusal).run()
    finally:
        group.close()
    return reports, handed.report


def _elsewhere(
    handing: Handing | None, here: AttemptUnit, unit: Unit, turns: Mapping[str, Turn]
) -> Sequence[VmReport]:
    """By a worker; what no worker can do, or must not even begin, here."""
    _, vm = unit[0]
    turn = turns[vm.uuid]
    if handing is not None and turn.refusal is None and (report := handing.attempt(vm, turn)) is not None:
        return [report]
    return here(unit, turns)


def _placed(world: World, attempt: AttemptUnit, unit: Unit, turns: Mapping[str, Turn]) -> Sequence[VmReport]:
    """With places in this process for all of the unit."""
    first, vm = unit[0]
    with ExitStack() as place:
        with suppress(Cancelled):  # then each attempt says so
            place.enter_context(Turnstile(first, vm=vm.uuid, name=vm.name).vms(len(unit), world.cancel))
        return attempt(unit, turns)


def _single(unit: Unit, turns: Mapping[str, Turn]) -> list[VmReport]:
    return [attempt_vm(context, vm, turns[vm.uuid]) for context, vm in unit]


def _skipped_report(one: Skipped) -> VmReport:
    missing = one.why is Why.NOT_FOUND
    return VmReport(
        uuid=one.uuid,
        name=one.name,
        pool="",
        outcome=Outcome.FAILED if missing else Outcome.SKIPPED,
        reason=one.reason,
        errors=(one.reason,) if missing else (),
    )
