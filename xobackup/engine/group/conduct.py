"""The attempts of VMs that belong together.

Everything that takes time or may fail is done for all of them before the first snapshot: locks, plans, checks, hooks.
Then the snapshots, at the same moment by name and as close together as the pool allows; then all are thawed; then the
exports, as many at a time as the job says. While the snapshots are taken all members are frozen together: that is
what makes the group consistent, not just simultaneous.

A member whose export fails is tried again from the same snapshot, so that it still belongs to the group. Snapshots
that will not be exported are removed; after a crash the next run of the job removes them, because no remote has them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from xobackup.engine import events
from xobackup.engine.attempt import Attempt, Turn
from xobackup.engine.group.judge import Member, judge
from xobackup.engine.group.place import placed
from xobackup.engine.group.span import Span
from xobackup.engine.report import GroupReport, VmReport
from xobackup.engine.taking.dropping import drop_taken

if TYPE_CHECKING:
    from xobackup.engine.context import RunContext
    from xobackup.engine.errors import GroupFailed
    from xobackup.engine.job import Consistent, Job
    from xobackup.engine.taking.taken import Taken
    from xobackup.engine.turns.work import Unit
    from xobackup.engine.view import VmView
    from xobackup.engine.world import World


One = TypeVar("One")
Result = TypeVar("Result")
ALONE = "its restore point does not belong to the consistent group: the group's snapshots had been taken before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A snapshot of the group whose export will be tried again."""

    context: RunContext
    taken: Taken
    group_id: str


class GroupWork:
    """A run's group and everything that is not in it. One per run; :meth:`close` it."""

    def __init__(self, job: Job, world: World, consistent: Consistent, members: Iterable[VmView]) -> None:
        self._settings = job.settings
        self._world = world
        self._consistent = consistent
        self._members = {vm.uuid for vm in members}
        self._slots = threading.BoundedSemaphore(job.settings.vms_max)
        self._kept: dict[str, Kept] = {}
        self._left_out: dict[str, str] = {}
        self._failed: GroupFailed | None = None
        """Why there will be no group in this run."""
        self.report: GroupReport | None = None

    def attempt(self, unit: Unit, turns: Mapping[str, Turn]) -> list[VmReport]:
        """One attempt for what belongs together, or for a VM of its own."""
        if not any(vm.uuid in self._members for _, vm in unit):
            with self._slots:
                return [_whole(Attempt(context, vm, turns[vm.uuid])) for context, vm in unit]
        if self.report is not None:
            return self._again(unit, turns)
        return self._together(unit, turns)

    def close(self) -> None:
        """Remove snapshots that nobody came back for."""
        while self._kept:
            _, kept = self._kept.popitem()
            drop_taken(kept.context.session, kept.taken)

    # -- all together

    def _together(self, unit: Unit, turns: Mapping[str, Turn]) -> list[VmReport]:
        group_id, self._left_out = self._world.new_id(), {}
        attempts = [Attempt(context, vm, self._refused(turns[vm.uuid]), group=group_id) for context, vm in unit]
        with ExitStack() as held:
            for attempt in attempts:
                held.enter_context(attempt)
            _each(attempts, lambda one: one.take(one.backup.prepare), self._settings.vms_max)
            self._judge(attempts)
            with placed(attempts, self._world, self._consistent.snapshots_max) as at_a_time:
                _each(attempts, lambda one: one.take(one.backup.freeze), self._consistent.snapshots_max)
                self._judge(attempts)
                span = self._snapshots(attempts, at_a_time)
                _each(attempts, lambda one: one.take(one.backup.thaw), self._consistent.snapshots_max)
            self._judge(attempts)
            if any(attempt.going for attempt in attempts):
                self._taken(group_id, attempts, span)
            troubled_first = sorted(attempts, key=lambda one: one.going)  # what they froze is thawed before exports
            at_a_time = max(self._settings.vms_max, self._consistent.snapshots_max)
            return _each(troubled_first, self._export, at_a_time)

    def _refused(self, turn: Turn) -> Turn:
        return turn if self._failed is None else replace(turn, refusal=turn.refusal or self._failed)

    def _snapshots(self, attempts: Sequence[Attempt], at_a_time: int) -> Span:
        span = Span(self._world.clock)
        going = [attempt for attempt in attempts if attempt.going]
        if not going:
            return span
        moment = max(attempt.backup.moment for attempt in going)

        def snapshot(attempt: Attempt) -> None:
            with span.one():
                attempt.take(lambda: attempt.backup.at(moment), attempt.backup.snapshot)

        _each(going, snapshot, at_a_time)
        return span

    def _judge(self, attempts: Sequence[Attempt]) -> None:
        """End the attempts of those whom the others' trouble concerns."""
        members = [
            Member(uuid=one.vm.uuid, name=one.vm.name, error=one.error, patient=one.turn.patient) for one in attempts
        ]
        verdict = judge(members, self._consistent.if_one_fails)
        self._left_out.update(verdict.left_out)
        self._failed = self._failed or verdict.final
        for attempt in attempts:
            if attempt.vm.uuid in verdict.ends:
                attempt.give_up(verdict.ends[attempt.vm.uuid])

    def _taken(self, group_id: str, attempts: Sequence[Attempt], span: Span) -> None:
        going = [attempt for attempt in attempts if attempt.going]
        members = sorted(attempt.vm.uuid for attempt in going)
        for attempt in going:
            attempt.backup.join(members)
        names = {attempt.vm.uuid: attempt.vm.name for attempt in attempts}
        self.report = GroupReport(
            id=group_id,
            vms=tuple(members),
            span_s=span.seconds,
            left_out={names.get(uuid, uuid) or uuid: reason for uuid, reason in self._left_out.items()},
        )
        self._world.journal.write(
            events.GroupTaken(group=group_id, vms=members, span_s=span.seconds, left_out=[*self.report.left_out])
        )

    def _export(self, attempt: Attempt) -> VmReport:
        """From the snapshot to the verdict, and away with everything held."""
        backup = attempt.backup
        if attempt.going:
            with self._slots:
                attempt.take(backup.transfer, backup.publish, backup.let_go)
        self._keep(attempt)
        attempt.end()
        return attempt.report()

    # -- once more

    def _again(self, unit: Unit, turns: Mapping[str, Turn]) -> list[VmReport]:
        """From the group's snapshot where it was kept, else from one of its own."""

        def one(pair: tuple[RunContext, VmView]) -> VmReport:
            context, vm = pair
            kept = self._kept.get(vm.uuid)
            attempt = Attempt(
                context,
                vm,
                turns[vm.uuid],
                group=kept.group_id if kept is not None else "",
                taken=kept.taken if kept is not None else None,
            )
            with self._slots, attempt:
                backup = attempt.backup
                if kept is None:
                    attempt.take(backup.prepare, lambda: backup.warn(ALONE), *backup.stages[1:])
                elif attempt.take(backup.prepare, backup.resume):
                    del self._kept[vm.uuid]
                    attempt.take(backup.transfer, backup.publish, backup.let_go)
                    self._keep(attempt)
            return attempt.report()

        return _each(unit, one, self._settings.vms_max)

    def _keep(self, attempt: Attempt) -> None:
        """The snapshot of a member that will be tried again."""
        if attempt.again:
            taken = attempt.backup.keep()
            if taken is not None:
                self._kept[attempt.vm.uuid] = Kept(context=attempt.context, taken=taken, group_id=attempt.group)


def _each(ones: Sequence[One], do: Callable[[One], Result], at_a_time: int) -> list[Result]:
    """In threads; the results in order. All have ended when this returns."""
    with ThreadPoolExecutor(max_workers=max(1, min(at_a_time, len(ones))), thread_name_prefix="group") as threads:
        return list(threads.map(do, ones))


def _whole(attempt: Attempt) -> VmReport:
    with attempt:
        attempt.take(*attempt.backup.stages)
    return attempt.report()
