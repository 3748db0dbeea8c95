"""A mirror as a job: what one remote has, kept on others too, run after run, with a journal like that of any job.

No pool takes part. Every VM of the source is copied to one target after the other; what fails for one VM or one
target keeps none of the others from theirs.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from xobackup.engine import events
from xobackup.engine.errors import Cancelled, EngineError, Outcome, UsageError
from xobackup.engine.job import JOB_NAMESPACE, RemoteTarget
from xobackup.engine.journal import JsonLinesJournal, Tee, close_interrupted, journal_path
from xobackup.engine.mirror.choose import Choice, Filter
from xobackup.engine.mirror.copy import Wish, plan_vm, refuse_same
from xobackup.engine.mirror.one import MIRROR, MIRROR_ERRORS, VmCopied, copy_vm
from xobackup.engine.report import RunReport, VmReport, outcome_of
from xobackup.engine.run import version

if TYPE_CHECKING:
    from schedules.retention import Rule
    from xobackup.engine.handing import MirrorHanding
    from xobackup.engine.world import World
    from xobackup.repository.repository import Repository

MS_PER_DAY = 86_400_000


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
    left_to: str = ""
    """Of a target as a whole: who will see what is to be copied, as one of the two is not reached from here."""


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

    def add(self, target: str, copied: VmCopied, cancelled: bool) -> None:
        """What became of it at one target. ``cancelled``: the run was stopped, and what was copied with it."""
        self.size_bytes += copied.size_bytes
        self.fulls += copied.fulls
        self.deltas += copied.deltas
        if copied.point:
            self.points[target] = copied.point
        self.warnings += copied.warnings
        self.errors += copied.errors
        self.locked = self.locked or copied.locked
        if copied.stopped and not cancelled:
            self.errors.append(f"{target}: {copied.stopped}")


def plan_mirror(job: MirrorJob, world: World) -> Iterator[MirrorPlan]:
    """What :func:`run_mirror` would copy, VM by VM; touches nothing. Raises what opening the source raises."""
    with ExitStack() as held:
        far = {one.name for one in (job.source, *job.targets) if not _near(world, one)}
        source = None if job.source.name in far else _opened(world, job.source, held)
        wish = job.wish(world.clock.now_s())
        for target in job.targets:
            if source is None or target.name in far:
                missing = job.source.name if source is None else target.name
                told = f"{missing} is not reached from here: what is to be copied is seen by the worker that does it"
                yield MirrorPlan(target=target.name, vm="", name="", choices=(), left_to=told)
                continue
            try:
                there = _opened(world, target, held)
                refuse_same(source, there)
            except MIRROR_ERRORS as error:
                yield MirrorPlan(target=target.name, vm="", name="", choices=(), problem=str(error))
                continue
            for vm, name in mirrored_vms(job, source):
                try:
                    choices, problem = tuple(plan_vm(source, there, vm, wish, clock=world.clock)), ""
                except MIRROR_ERRORS as error:
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
            ends = _open_all(job, world, held, problems)
            if ends is not None and ends.targets:
                handing = None if world.hand_out is None else world.hand_out.begin_mirror(job, world, run_id)
                if handing is not None:
                    held.callback(handing.close)
                with suppress(Cancelled):
                    vms = _work_off(job, world, ends, handing, problems)
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


def _near(world: World, remote: RemoteTarget) -> bool:
    return world.hand_out is None or world.hand_out.reached(remote.name)


def _opened(world: World, target: RemoteTarget, held: ExitStack) -> Repository:
    repository = world.open_repository(target)
    held.callback(repository.remote.close)
    return repository


@dataclass(slots=True)
class _Ends:
    """The remotes, by what could be opened; ``None``: they are not reached from here, and left to workers."""

    source: Repository | None = None
    targets: dict[str, Repository | None] = field(default_factory=dict)


def _open_all(job: MirrorJob, world: World, held: ExitStack, problems: list[str]) -> _Ends | None:
    """``None``: the source cannot be opened. A target that cannot be is told, and left out."""
    ends = _Ends()
    for target in (job.source, *job.targets):
        try:
            repository = _opened(world, target, held) if _near(world, target) else None
            if target is not job.source:
                for other in (ends.source, *ends.targets.values()):
                    if other is not None and repository is not None:
                        refuse_same(other, repository)
                ends.targets[target.name] = repository
            elif repository is not None:
                repository.vms()  # it answers, or nothing can be copied
                ends.source = repository
        except MIRROR_ERRORS as error:
            problem = f"remote {target.name}: {error}"
            problems.append(problem)
            hint = str(getattr(error, "hint", "") or "")
            world.journal.write(
                events.Failed(remote=target.name, error=problem, error_class=type(error).__name__, hint=hint)
            )
            if target is job.source:
                return None
    return ends


def mirrored_vms(job: MirrorJob, source: Repository) -> list[tuple[str, str]]:
    """Uuid and name of the source's VMs that are meant, or might be: one whose listing fails has no name, and is told
    of when it is copied."""
    found = []
    for vm in source.vms():
        try:
            points = source.points(vm).points
        except MIRROR_ERRORS:
            found.append((vm, ""))
            continue
        name = points[-1].vm_name if points else ""
        if job.means(vm, name):
            found.append((vm, name))
    return found


def _work_off(
    job: MirrorJob, world: World, ends: _Ends, handing: MirrorHanding | None, problems: list[str]
) -> list[VmReport]:
    try:
        if ends.source is not None:
            vms = mirrored_vms(job, ends.source)
        elif handing is not None:
            vms = handing.vms()
        else:
            raise EngineError("it cannot be reached from here")
    except MIRROR_ERRORS as error:
        world.cancel.check()
        problems.append(f"remote {job.source.name}: {error}")
        hint = str(getattr(error, "hint", "") or "")
        kind = type(error).__name__
        world.journal.write(events.Failed(remote=job.source.name, error=problems[-1], error_class=kind, hint=hint))
        return []
    if job.vms and not vms:
        problems.append(f"remote {job.source.name}: no VM there is called {' or '.join(job.vms)}")
    reports = []
    for vm, name in vms:
        if world.cancel.cancelled:
            break
        reports.append(_one(job, world, ends, handing, _Vm(uuid=vm, name=name or vm)))
    return reports


def _one(job: MirrorJob, world: World, ends: _Ends, handing: MirrorHanding | None, vm: _Vm) -> VmReport:
    began_s = world.clock.monotonic_s()
    for target in ends.targets:
        if world.cancel.cancelled:
            break
        copied = None if handing is None else handing.copy(target, vm.uuid, vm.name)
        if copied is None and not world.cancel.cancelled:
            copied = _here(job, world, ends, target, vm)
        if copied is not None:
            vm.add(target, copied, world.cancel.cancelled)
    return _ended(world, vm, world.clock.monotonic_s() - began_s)


def _here(job: MirrorJob, world: World, ends: _Ends, name: str, vm: _Vm) -> VmCopied:
    source, target = ends.source, ends.targets[name]
    if source is None or target is None:
        missing = job.source.name if source is None else name
        error = f"{name}: remote {missing} cannot be reached from here"
        world.journal.write(events.Failed(vm=vm.uuid, remote=name, error=error, error_class="Unreachable"))
        return VmCopied(errors=(error,))
    wish = job.wish(world.clock.now_s())
    return copy_vm(world, wish, source=(job.source.name, source), target=(name, target), vm=vm.uuid, name=vm.name)


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
