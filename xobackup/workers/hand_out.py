"""The control node's side: VMs of a run are put on the board, and what workers say comes into the run's journal."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from xobackup.engine import events
from xobackup.engine.report import GroupReport, PoolReport, VmReport
from xobackup.workers.errors import BoardUnavailable, WorkersError
from xobackup.workers.failed import failed_report
from xobackup.workers.fulls import counting
from xobackup.workers.given import BoardGiven
from xobackup.workers.group_wire import GroupOrder, group_tasks, names_text, read_group_done
from xobackup.workers.hand_out_others import checks_need, hand_checks, hand_pool
from xobackup.workers.kinds import CHECKS, GROUP, POOL, VM, kind_of, queue_of
from xobackup.workers.linked import put_linked
from xobackup.workers.placing import Choice, Need, choose, reaches
from xobackup.workers.records import BEAT_S, About, News, Task, Word
from xobackup.workers.unplaced import forget_unplaced, mark_of, note_unplaced
from xobackup.workers.wire import Order, order_data, read_report

if TYPE_CHECKING:
    from xobackup.engine.attempt import Turn
    from xobackup.engine.context import RunContext
    from xobackup.engine.fulls import Counting
    from xobackup.engine.health.of_job import JobChecks
    from xobackup.engine.health.request import CheckResult
    from xobackup.engine.job import Job
    from xobackup.engine.view import VmView
    from xobackup.engine.world import World
    from xobackup.workers.board import Board

NEWS_S = 0.05
"""Between two looks at what workers said."""
LOOK_S = 0.5
"""How late a waiting attempt may notice that it shall stop."""
HINT = "see `xobackup workers`: who lives, and what it reaches"


class BoardHandOut:
    """See the module's head, and :class:`xobackup.engine.handing.HandOut`."""

    def __init__(
        self,
        board: Board | None,
        *,
        away: str = "",
        sites: Mapping[str, tuple[str, ...]],
        here: str,
        wait_s: float,
        fingerprint: Callable[[str], str],
    ) -> None:
        """``board``: ``None`` when its database is ``away``, and why. ``sites``: of every pool (``pool:NAME``),
        remote and target; ``here``: this machine's own; ``fingerprint``: of a job in this machine's configuration."""
        self.board = board
        self.away = away
        self.here = here
        self.wait_s = wait_s
        self.fingerprint = fingerprint
        self._sites = sites
        self.complained = ""
        """The last run that was told that the database is away."""

    def reached(self, name: str) -> bool:
        return not reaches(self.here, [(name, self._sites.get(base_name(name), ()))])

    def need(self, job: Job, pool: str) -> Need:
        """What a VM of that pool needs."""
        return self.need_of(pool, (remote.name for remote in job.remotes), (one.name for one in job.targets))

    def need_of(self, pool: str, remotes: Iterable[str], targets: Iterable[str] = ()) -> Need:
        """What a task needs that works on these."""
        return Need(
            pool=pool,
            pool_sites=self._sites.get(f"pool:{pool}", ()),
            remotes={name: self._sites.get(name, ()) for name in remotes},
            targets={base_name(name): self._sites.get(base_name(name), ()) for name in targets},
        )

    def choice(self, job: Job, pool: str, kind: str = VM) -> Choice:
        """Who would do a VM of that pool, or a task of another kind, now. Raises :class:`BoardUnavailable`."""
        return self.choice_for(self.need(job, pool), kind)

    def choice_for(self, need: Need, kind: str) -> Choice:
        """The same for anything. Raises :class:`BoardUnavailable`."""
        if self.board is None:
            return choose(need, [], here=self.here, loads={}, kind=kind)
        return choose(need, self.board.workers(), here=self.here, loads=self.board.waiting(), kind=kind)

    def counting(self, run_id: str) -> Counting | None:
        return None if self.board is None else counting(self.board, run_id, goes_on=True)

    def given(self, run_id: str, world: World) -> BoardGiven | None:
        return None if self.board is None else BoardGiven(self.board, run_id, world.limits.room, world.cancel)

    def begin(self, job: Job, world: World, run_id: str) -> BoardHanding:
        return BoardHanding(self, job, world, run_id)

    def told(self, job: Job) -> tuple[str, ...]:
        try:
            choices = {what: self.choice_for(need, kind) for what, kind, need in self._tasks(job)}
        except BoardUnavailable as error:
            return (f"workers: {error}",)
        if self.away:
            return (f"workers: {self.away}",)
        return tuple(f"workers: {what}: {_told(choice)}" for what, choice in choices.items())

    def _tasks(self, job: Job) -> Iterator[tuple[str, str, Need]]:
        """What of the job workers may do: what it is, of which kind, and what it needs."""
        for pool in job.pools:
            if job.selects_vms and (job.consistent is None or job.consistent.tag):
                yield f"VMs of {pool.name}", VM, self.need(job, pool.name)
            if job.selects_vms and job.consistent is not None:
                yield f"the consistent group of {pool.name}", GROUP, self.need(job, pool.name)
            if job.saves_pools and any(not self.reached(remote.name) for remote in job.remotes):
                yield f"the database of {pool.name}", POOL, self.need_of(pool.name, (one.name for one in job.remotes))
        if job.checks is not None:
            yield "health checks", CHECKS, checks_need(self, job.checks)


def base_name(name: str) -> str:
    """The target of one of its SRs (``dr1:Local storage``)."""
    return name.partition(":")[0]


def _told(choice: Choice) -> str:
    return f"they would wait: {choice.reason}" if choice.waits else choice.reason


class _Waiter:
    """An attempt that waits for its end."""

    def __init__(self, vm: VmView | About) -> None:
        self.vm = vm
        self.over = threading.Event()
        self.taken = False
        self.result: Mapping[str, Any] = {}


class BoardHanding:
    """One run's; see :class:`xobackup.engine.handing.Handing`."""

    def __init__(self, hand_out: BoardHandOut, job: Job, world: World, run_id: str) -> None:
        self._out = hand_out
        self._board = hand_out.board
        self._job = self.job = job
        self._world = self.world = world
        self._run = self.run = run_id
        self.out = hand_out
        self._waiters: dict[str, _Waiter] = {}
        self._unplaced: set[str] = set()
        self._stop = threading.Event()
        self._away = hand_out.away
        """Why the database cannot be used."""
        try:
            if self._board is not None:
                self._board.begin_run(run_id, job=job.name, host=socket.gethostname())
        except BoardUnavailable as error:
            self._away = str(error)
        if self._away and hand_out.complained != run_id:  # a run may begin here several times
            hand_out.complained = run_id
            self._write(events.Warned(message=f"no VM can be given to workers: {self._away}"))
        self._thread = threading.Thread(target=self._listen, name="workers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        with suppress(BoardUnavailable):
            if self._board is not None:
                self._take_in(self._board.news(self._run))
                self._board.end_run(self._run)

    def attempt(self, vm: VmView, turn: Turn) -> VmReport | None:
        began_s = self._world.clock.monotonic_s()
        began_at = self._world.clock.now_s()
        meter = self._world.progress.meter(vm.name or vm.uuid, stage="waiting")
        try:
            return self._attempt(vm, turn, meter.note)
        except WorkersError as error:
            spent_s = self._world.clock.monotonic_s() - began_s
            return failed_report(self.world, self.job, vm, turn, error, began_at=began_at, duration_s=spent_s)
        finally:
            self._world.progress.drop(meter)
            self._waits_no_more(vm)

    def pool(self, context: RunContext) -> PoolReport | None:
        return hand_pool(self, context)

    def checks(self, checks: JobChecks, reports: Collection[VmReport]) -> tuple[list[CheckResult], list[str]] | None:
        return hand_checks(self, checks, reports)

    def other(self, about: About, order: Mapping[str, Any], *, key: str, need: Need, answer: str) -> Any:
        """A task that is no VM: what its worker answered under ``answer``; ``None``: to be done here. Raises
        :class:`WorkersError`."""
        meter = self.world.progress.meter(about.name, stage="waiting")

        def tasks(queue: str) -> list[Task]:
            return [Task(id=self.world.new_id(), run=self.run, key=key, queue=queue, order=order)]

        try:
            result = self._placed(about, tasks, meter.note, kind=kind_of(order), need=need)
            return None if result is None else self._checked(result, answer)
        finally:
            self.world.progress.drop(meter)
            self._waits_no_more(about)

    def _waits_no_more(self, vm: VmView | About) -> None:
        if mark_of(vm) in self._unplaced:
            self._note_waiting(vm, None)

    def _note_waiting(self, vm: VmView | About, choice: Choice | None) -> None:
        """For whoever looks at the board: it waits for a worker to come; ``None``: no longer."""
        with suppress(BoardUnavailable):
            if self._board is not None and choice is not None:
                self._unplaced.add(mark_of(vm))
                note_unplaced(self._board, self._run, self._job.name, vm, choice)
            elif self._board is not None:
                forget_unplaced(self._board, self._run, mark_of(vm))
                self._unplaced.discard(mark_of(vm))

    def group(
        self, vms: Sequence[VmView], turns: Mapping[str, Turn]
    ) -> tuple[Sequence[VmReport], GroupReport | None] | None:
        began_s, began_at = self._world.clock.monotonic_s(), self._world.clock.now_s()
        first, names = vms[0], [vm.name or vm.uuid for vm in vms]
        meter = self._world.progress.meter(names_text(names), stage="waiting")
        try:
            result = self._placed(first, partial(self._group_tasks, vms), meter.note, kind=GROUP)
            if result is None:
                return None
            done = read_group_done(self._checked(result, "done"))
            if sorted(one.uuid for one in done.reports) != sorted(vm.uuid for vm in vms):
                raise WorkersError("the worker's word is not about all VMs of the group", hint=HINT)
            return done.reports, done.group
        except WorkersError as error:
            spent_s = self._world.clock.monotonic_s() - began_s
            return [
                failed_report(self.world, self.job, vm, turns[vm.uuid], error, began_at=began_at, duration_s=spent_s)
                for vm in vms
            ], None
        finally:
            self._world.progress.drop(meter)
            self._waits_no_more(first)

    def _attempt(self, vm: VmView, turn: Turn, note: Callable[[str], None]) -> VmReport | None:
        result = self._placed(vm, lambda queue: [self._task(vm, turn, queue)], note)
        return None if result is None else read_report(self._checked(result, "report"))

    def _placed(
        self,
        vm: VmView | About,
        tasks: Callable[[str], list[Task]],
        note: Callable[[str], None],
        *,
        kind: str = VM,
        need: Need | None = None,
    ) -> Mapping[str, Any] | None:
        """Given to whoever can, when there is somebody; what came of it. ``None``: to be done here. ``tasks``: for a
        queue; the first one is brought, the others are its members."""
        need = need or self._out.need(self._job, vm.pool)
        until_s, told = self._world.clock.monotonic_s() + self._out.wait_s, ""
        while not self._world.cancel.cancelled:
            choice = self._choice(need, kind)
            if choice.waits:
                if choice.reason != told:
                    told = choice.reason
                    note(told)
                    self._write(events.HandedOut(vm=vm.uuid, vm_name=vm.name, site="", reason=told))
                    self._note_waiting(vm, choice)
                if self._world.clock.monotonic_s() >= until_s:
                    raise WorkersError(f"no worker came within {self._out.wait_s:.0f} s: {choice.reason}", hint=HINT)
                self._pause()
                continue
            if choice.queue is None:
                return None
            if told:
                told = ""
                self._note_waiting(vm, None)
            again = partial(self._choice, need, kind)
            result = self._given(vm, tasks(queue_of(choice.queue, kind)), choice, note, again)
            if result is not None:
                return result
        return None  # the attempt here says that it was stopped

    def _choice(self, need: Need, kind: str) -> Choice:
        if not self._away:
            return self._out.choice_for(need, kind)
        return choose(need, [], here=self._out.here, loads={}, kind=kind)

    def _given(
        self,
        vm: VmView | About,
        tasks: list[Task],
        choice: Choice,
        note: Callable[[str], None],
        again: Callable[[], Choice],
    ) -> Mapping[str, Any] | None:
        """Put it on the board and wait. ``again``: who would do it now. ``None``: nobody began it, nor will."""
        assert self._board is not None
        queue, reason = choice.queue or "", choice.reason
        task, *members = tasks
        waiter = self._waiters[task.id] = _Waiter(vm)
        try:
            if members:
                put_linked(self._board, task, members)
            else:
                self._board.put([task])
            site = "" if queue == "*" else queue
            self._write(events.HandedOut(vm=vm.uuid, vm_name=vm.name, site=site, reason=reason))
            note(f"for a worker ({reason})")
            looked_s = self._world.clock.monotonic_s()
            while not waiter.over.wait(LOOK_S):
                now_s = self._world.clock.monotonic_s()
                late = not waiter.taken and now_s - looked_s > BEAT_S
                if not (self._world.cancel.cancelled or late):
                    continue
                looked_s = now_s
                elsewhere = self._world.cancel.cancelled or again().queue != queue
                if elsewhere and task.id in self._board.withdraw(self._run, [task.id]):
                    return None
            return waiter.result
        finally:
            self._waiters.pop(task.id, None)

    def _task(self, vm: VmView, turn: Turn, queue: str) -> Task:
        order = order_data(self._order(vm, turn))
        return Task(id=self._world.new_id(), run=self._run, key=vm.uuid, queue=queue, order=order)

    def _group_tasks(self, vms: Sequence[VmView], queue: str) -> list[Task]:
        named = {vm.uuid: vm.name or vm.uuid for vm in vms}
        new_id, mark = self._world.new_id(), self._out.fingerprint(self._job.name)
        interval = self._job.settings.full_interval
        told = GroupOrder.of(
            new_id, self._run, self._job.name, vms[0].pool, named, interval=interval, fingerprint=mark
        )
        return group_tasks(told, new_id, queue)

    def _order(self, vm: VmView, turn: Turn) -> Order:
        return Order(
            run=self._run,
            job=self._job.name,
            pool=vm.pool,
            vm=vm.uuid,
            vm_name=vm.name,
            full_interval=self._job.settings.full_interval,
            fingerprint=self._out.fingerprint(self._job.name),
            number=turn.number,
            last=turn.last,
            before=turn.before,
        )

    def _checked(self, result: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        """What the worker answered under ``key``. Raises :class:`WorkersError`: it did not come to that."""
        if isinstance(found := result.get(key), Mapping):
            return found
        if "lost" in result:
            told = f"{result.get('deliveries')} workers were lost while they did it, the last one {result['lost']}"
            raise WorkersError(told, hint="their logs say more than this one knows")
        raise WorkersError(str(result.get("error", "the worker said nothing of what happened")), hint=HINT)

    # -- what workers say

    def _listen(self) -> None:
        beat_s = self._world.clock.monotonic_s()
        while not self._stop.wait(NEWS_S):
            if self._away or self._board is None:
                continue
            with suppress(BoardUnavailable):  # it will be back, or the waiting attempts find out
                now_s = self._world.clock.monotonic_s()
                if now_s - beat_s >= BEAT_S:
                    self._board.beat_run(self._run)
                    self._board.reap(missing=True)
                    beat_s = now_s
                self._take_in(self._board.news(self._run))

    def _take_in(self, news: News) -> None:
        for word in news.words:
            self._hear(word)
        for task, result in news.ended:
            waiter = self._waiters.get(task)
            if waiter is not None:
                waiter.result = result
                waiter.over.set()

    def _hear(self, word: Word) -> None:
        waiter = self._waiters.get(word.task)
        record = dict(word.event)
        if waiter is not None:
            waiter.taken = record.get("kind") != events.WorkerLost.kind
            if not waiter.taken:
                record |= {"vm": waiter.vm.uuid, "vm_name": waiter.vm.name}
        event = events.from_record(record)
        if event is not None:
            self._write(event)

    def _write(self, event: events.Event) -> None:
        self._world.journal.write(event)

    def _pause(self) -> None:
        self._stop.wait(LOOK_S)
