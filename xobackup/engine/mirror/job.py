"""A mirror as a job: what one remote has, kept on others too, run after run, with a journal like that of any job.

No pool takes part. Every VM of the source is copied to one target after the other; what fails for one VM or one
target keeps none of the others from theirs.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING

from remotes.errors import RemoteError
from xobackup.engine import events
from xobackup.engine.errors import Cancelled, EngineError, Outcome, UsageError
from xobackup.engine.job import JOB_NAMESPACE, RemoteTarget
from xobackup.engine.journal import JsonLinesJournal, Tee, close_interrupted, journal_path
from xobackup.engine.mirror.choose import Choice, Filter
from xobackup.engine.mirror.copy import VmMirror, VmMirrored, Wish, plan_vm, refuse_same
from xobackup.engine.report import RunReport, VmReport, outcome_of
from xobackup.engine.run import version
from xobackup.repository.errors import LockHeld, RepositoryError

if TYPE_CHECKING:
    from schedules.retention import Rule
    from xobackup.engine.limits.gates import Gate
    from xobackup.engine.progress import Meter
    from xobackup.engine.world import World
    from xobackup.repository.repository import Repository

MIRROR = "mirror"
MS_PER_DAY = 86_400_000
_ERRORS = (RemoteError, RepositoryError, EngineError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorJob:
    """What is copied from where to where. ``id``: derived from the name when empty."""

    name: str
    source: RemoteTarget
    targets: tuple[RemoteTarget, ...]
    vms: tuple[str, ...] = ()
    """Uuids, or patterns of names; none means all."""
    jobs: tuple[str, ...] = ()
    """Ids of jobs whose restore points are meant; none means all."""
    schedules: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    days: float | None = None
    """Nothing older."""
    rule: Rule | None = None
    """Retention at the targets; ``None`` deletes nothing there."""
    verify: bool = False
    id: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", self.id or str(uuid.uuid5(JOB_NAMESPACE, self.name)))

    @property
    def destinations(self) -> tuple[str, ...]:
        return tuple(target.name for target in self.targets)

    def wish(self, now_s: float) -> Wish:
        """For the copying."""
        since_ms = 0 if self.days is None else round(now_s * 1000 - self.days * MS_PER_DAY)
        meant = Filter(jobs=self.jobs, schedules=self.schedules, tags=self.tags, since_ms=since_ms)
        return Wish(filter=meant, rule=self.rule, verify=self.verify)

    def means(self, vm: str, name: str) -> bool:
        return not self.vms or any(rule.lower() == vm or fnmatchcase(name, rule) for rule in self.vms)


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorPlan:
    """What one VM's run would copy to one target."""

    target: str
    vm: str
    name: str
    choices: tuple[Choice, ...]
    problem: str = ""
    """Why it cannot be told; of a target as a whole when ``vm`` is empty."""


@dataclass(slots=True)
class _Vm:
    """One VM, over all targets."""

    uuid: str
    name: str
    size_bytes: int = 0
    fulls: int = 0
    deltas: int = 0
    points: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    locked: bool = False


def plan_mirror(job: MirrorJob, world: World) -> Iterator[MirrorPlan]:
    """What :func:`run_mirror` would copy, VM by VM; touches nothing. Raises what opening the source raises."""
    with ExitStack() as held:
        source = _opened(world, job.source, held)
        wish = job.wish(world.clock.now_s())
        for target in job.targets:
            try:
                there = _opened(world, target, held)
                refuse_same(source, there)
            except _ERRORS as error:
                yield MirrorPlan(target=target.name, vm="", name="", choices=(), problem=str(error))
                continue
            for vm, name in _vms(job, source):
                try:
                    choices, problem = tuple(plan_vm(source, there, vm, wish, clock=world.clock)), ""
                except _ERRORS as error:
                    choices, problem = (), str(error)
                yield MirrorPlan(target=target.name, vm=vm, name=name, choices=choices, problem=problem)


def run_mirror(job: MirrorJob, outside: World) -> RunReport:
    """Copy what the targets lack. Never raises for what happens to single VMs or remotes."""
    began_s = outside.clock.monotonic_s()
    run_id = outside.new_id()
    with _journalled(job, outside, run_id) as world:
        problems: list[str] = []
        vms: list[VmReport] = []
        with ExitStack() as held:
            source, targets = _open_all(job, world, held, problems)
            if source is not None and targets:
                vms = _work_off(job, world, source, targets, problems)
        outcome = outcome_of(vms, problems=bool(problems), cancelled=world.cancel.cancelled)
        report = RunReport(
            run_id=run_id,
            job=job.name,
            outcome=outcome,
            vms=tuple(vms),
            duration_s=world.clock.monotonic_s() - began_s,
            problems=tuple(problems),
        )
        world.journal.write(
            events.RunEnded(
                run_id=run_id,
                outcome=outcome.value,
                ok=report.count(Outcome.OK),
                failed=report.count(Outcome.FAILED),
                skipped=report.count(Outcome.SKIPPED),
                duration_s=report.duration_s,
                reason=world.cancel.reason or "; ".join(problems),
            )
        )
    return report


@contextmanager
def _journalled(job: MirrorJob, world: World, run_id: str) -> Iterator[World]:
    last_words = None if world.hand_out is None else world.hand_out.last_words
    close_interrupted(world.journal_directory, world.clock, last_words)
    file = JsonLinesJournal(journal_path(world.journal_directory, run_id, world.clock), world.clock)
    try:
        world = replace(world, journal=Tee(world.journal, file))
        started = events.RunStarted(
            run_id=run_id, verb=MIRROR, job=job.name, job_id=job.id, version=version(), host=socket.gethostname(),
            pid=os.getpid(), reason=world.reason, schedule=world.schedule,
        )  # fmt: skip
        world.journal.write(started)
        yield world
    finally:
        file.close()


def _opened(world: World, target: RemoteTarget, held: ExitStack) -> Repository:
    repository = world.open_repository(target)
    held.callback(repository.remote.close)
    return repository


def _open_all(
    job: MirrorJob, world: World, held: ExitStack, problems: list[str]
) -> tuple[Repository | None, dict[str, Repository]]:
    """The source and those targets that can be opened; the others are told."""
    opened: dict[str, Repository] = {}
    source: Repository | None = None
    for target in (job.source, *job.targets):
        try:
            repository = _opened(world, target, held)
            if source is None:
                source = repository
                source.vms()  # it answers, or nothing can be copied
            else:
                for other in (source, *opened.values()):
                    refuse_same(other, repository)
                opened[target.name] = repository
        except _ERRORS as error:
            problem = f"remote {target.name}: {error}"
            problems.append(problem)
            hint = str(getattr(error, "hint", "") or "")
            world.journal.write(
                events.Failed(remote=target.name, error=problem, error_class=type(error).__name__, hint=hint)
            )
            if target is job.source:
                return None, {}
    return source, opened


def _vms(job: MirrorJob, source: Repository) -> list[tuple[str, str]]:
    """Uuid and name of the source's VMs that are meant, or might be: one whose listing fails has no name, and is told
    of when it is copied."""
    found = []
    for vm in source.vms():
        try:
            points = source.points(vm).points
        except _ERRORS:
            found.append((vm, ""))
            continue
        name = points[-1].vm_name if points else ""
        if job.means(vm, name):
            found.append((vm, name))
    return found


def _work_off(
    job: MirrorJob, world: World, source: Repository, targets: dict[str, Repository], problems: list[str]
) -> list[VmReport]:
    try:
        vms = _vms(job, source)
    except _ERRORS as error:
        problems.append(f"remote {job.source.name}: {error}")
        return []
    if job.vms and not vms:
        problems.append(f"remote {job.source.name}: no VM there is called {' or '.join(job.vms)}")
    reports = []
    for vm, name in vms:
        if world.cancel.cancelled:
            break
        reports.append(_one(job, world, source, targets, _Vm(uuid=vm, name=name or vm)))
    return reports


@contextmanager
def _turn(world: World, gates: tuple[Gate, ...], meter: Meter) -> Iterator[None]:
    """A place on the lines between sites that are crossed; what is waited for is on the meter."""
    with world.limits.room.through(gates, world.cancel, told=meter.note):
        meter.note("")
        yield


def _one(job: MirrorJob, world: World, source: Repository, targets: dict[str, Repository], vm: _Vm) -> VmReport:
    began_s = world.clock.monotonic_s()
    for name, target in targets.items():
        if world.cancel.cancelled:
            break
        world.journal.write(events.PhaseBegan(vm=vm.uuid, phase=f"copy to {name}"[:32]))
        since_s = world.clock.monotonic_s()
        error = ""
        meter = world.progress.meter(vm.name, stage=MIRROR)
        try:
            wish = job.wish(world.clock.now_s())
            limited = world.limits.copying(job.source.name, name, world.clock)
            turn = partial(_turn, world, world.limits.link_gates([job.source.name, name]), meter)
            copying = VmMirror(
                source, target, vm.uuid, wish, clock=world.clock, cancel=world.cancel, throttle=limited, turn=turn
            )
            done = copying.run(meter)
            error = _note(world, vm, job.source.name, name, done)
        except Cancelled as stopped:
            error = str(stopped)
        except _ERRORS as failed:
            vm.locked = vm.locked or isinstance(failed, LockHeld)
            error = f"{name}: {failed}"
            vm.errors.append(error)
            hint = str(getattr(failed, "hint", "") or "")
            kind = type(failed).__name__
            world.journal.write(events.Failed(vm=vm.uuid, remote=name, error=error, error_class=kind, hint=hint))
        finally:
            world.progress.drop(meter)
            world.journal.write(
                events.PhaseEnded(
                    vm=vm.uuid,
                    phase=f"copy to {name}"[:32],
                    ok=not error,
                    duration_s=world.clock.monotonic_s() - since_s,
                    error=error,
                )
            )
    return _ended(world, vm, world.clock.monotonic_s() - began_s)


def _note(world: World, vm: _Vm, source: str, target: str, done: VmMirrored) -> str:
    """What became of one VM at one target, into the journal; the first error."""
    for identity, copied in done.copied.items():
        vm.size_bytes += copied.size_bytes
        vm.fulls += len(copied.fulls)
        vm.deltas += not copied.fulls
        vm.points[target] = max(identity, vm.points.get(target, ""))
        world.journal.write(
            events.PointPublished(vm=vm.uuid, remote=target, point=identity, size_bytes=copied.size_bytes)
        )
        for reason in copied.fulls:
            vm.warnings.append(f"{target}: {identity}: full, {reason}")
            world.journal.write(events.Warned(vm=vm.uuid, remote=target, message=f"{identity}: full, {reason}"))
    if done.deleted:
        reason = "the job's retention at the target"
        world.journal.write(events.PointsExpired(vm=vm.uuid, remote=target, points=done.deleted, reason=reason))
    for note in done.notes:
        vm.warnings.append(f"{target}: {note}")
        world.journal.write(events.Warned(vm=vm.uuid, remote=target, message=note))
    for identity, error in done.failed.items():
        told = f"{target}: {identity}: {error}" if identity else f"{target}: {error}"
        vm.errors.append(told)
        world.journal.write(events.Failed(vm=vm.uuid, remote=target, error=told, error_class="Mirror"))
    if done.damaged:
        identity, damage = next(iter(done.damaged.items()))
        found = f"restore point {identity} cannot be copied: {damage}"
        world.journal.write(
            events.Examined(uuid=vm.uuid, name=vm.name, remote=source, what="blocks", damage=found, whole=False)
        )
    return next(iter(done.failed.values()), "")


def _ended(world: World, vm: _Vm, duration_s: float) -> VmReport:
    outcome = Outcome.FAILED if vm.errors else Outcome.CANCELLED if world.cancel.cancelled else Outcome.OK
    reason = "; ".join(vm.errors) or (world.cancel.reason if outcome is Outcome.CANCELLED else "")
    world.journal.write(
        events.VmEnded(
            vm=vm.uuid,
            vm_name=vm.name,
            outcome=outcome.value,
            attempts=1,
            duration_s=duration_s,
            read_bytes=vm.size_bytes,
            reason=reason,
        )
    )
    return VmReport(
        uuid=vm.uuid,
        name=vm.name,
        pool="",
        outcome=outcome,
        reason=reason,
        duration_s=duration_s,
        read_bytes=vm.size_bytes,
        points=vm.points,
        mode=MIRROR,
        fulls=vm.fulls,
        deltas=vm.deltas,
        warnings=tuple(vm.warnings),
        errors=tuple(vm.errors),
        locked=vm.locked,
    )


def check_mirror(job: MirrorJob) -> Sequence[str]:
    """Everything that cannot work in such a job, as sentences."""
    problems = []
    if job.source.name in job.destinations:
        problems.append(f"source {job.source.name!r} is one of its remotes")
    urls = [target.url for target in (job.source, *job.targets)]
    if len(set(urls)) != len(urls):
        problems.append("two of its remotes are the same place")
    return problems


def refuse_bad(job: MirrorJob) -> MirrorJob:
    """The job, unless it cannot work. Raises :class:`UsageError`."""
    for problem in check_mirror(job):
        raise UsageError(f"job {job.name!r}: {problem}")
    return job
