"""The control node's side: what of a run is given to workers, to whom, and what is made of their answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from xobackup.engine.report import GroupReport, PoolReport, VmReport
from xobackup.workers.errands import HINT, Errands, answered
from xobackup.workers.errors import BoardUnavailable, WorkersError
from xobackup.workers.failed import failed_report
from xobackup.workers.fulls import counting
from xobackup.workers.given import BoardGiven
from xobackup.workers.group_wire import GroupOrder, group_tasks, names_text, read_group_done
from xobackup.workers.hand_out_others import checks_need, hand_checks, hand_pool
from xobackup.workers.kinds import CHECKS, GROUP, POOL, VM, kind_of, queue_of
from xobackup.workers.mirror_hand_out import BoardMirroring, MirrorPlaces
from xobackup.workers.peers import living_peers
from xobackup.workers.placing import Choice, Need, choose, reaches
from xobackup.workers.records import About, News, Task
from xobackup.workers.wire import Order, order_data, read_report

if TYPE_CHECKING:
    from xobackup.engine.attempt import Turn
    from xobackup.engine.context import RunContext
    from xobackup.engine.fulls import Counting
    from xobackup.engine.health.of_job import JobChecks
    from xobackup.engine.health.request import CheckResult
    from xobackup.engine.job import Job
    from xobackup.engine.mirror.job import MirrorJob
    from xobackup.engine.view import VmView
    from xobackup.engine.world import World
    from xobackup.workers.board import Board


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
        reopen: Callable[[], Board] | None = None,
    ) -> None:
        """``board``: ``None`` when its database is ``away``, and why; ``reopen``: tries again. ``sites``: of every
        pool (``pool:NAME``), remote and target; ``here``: this machine's own; ``fingerprint``: of a job in this
        machine's configuration. To be closed."""
        self.board = board
        self.away = away
        self._reopen = reopen
        self.here = here
        self.wait_s = wait_s
        self.fingerprint = fingerprint
        self._sites = sites
        self.complained = ""
        """The last run that was told that the database is away."""

    def try_again(self) -> None:
        """Open a database that was away, if it can be by now."""
        if self.board is None and self._reopen is not None:
            try:
                self.board, self.away = self._reopen(), ""
            except WorkersError as error:
                self.away = str(error)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()

    def reached(self, name: str) -> bool:
        return not reaches(self.here, [(name, self._sites.get(base_name(name), ()))])

    def need(self, job: Job, pool: str) -> Need:
        """What a VM of that pool needs."""
        pools = {base_name(one.name): one.pool.name for one in job.targets}
        return self.need_of(pool, (remote.name for remote in job.remotes), pools, target_pools=pools)

    def need_of(
        self,
        pool: str,
        remotes: Iterable[str],
        targets: Iterable[str] = (),
        *,
        target_pools: Mapping[str, str] = MappingProxyType({}),
    ) -> Need:
        """What a task needs that works on these. ``target_pools``: of targets that may be reached through a relay."""
        return Need(
            pool=pool,
            pool_sites=self._sites.get(f"pool:{pool}", ()),
            remotes={name: self._sites.get(name, ()) for name in remotes},
            targets={base_name(name): self._sites.get(base_name(name), ()) for name in targets},
            target_pools=dict(target_pools),
        )

    def choice(self, job: Job, pool: str, kind: str = VM) -> Choice:
        """Who would do a VM of that pool, or a task of another kind, now. Raises :class:`BoardUnavailable`."""
        return self.choice_for(self.need(job, pool), kind)

    def choice_for(self, need: Need, kind: str) -> Choice:
        """The same for anything. Raises :class:`BoardUnavailable`."""
        if self.board is None:
            return choose(need, [], here=self.here, loads={}, kind=kind)
        workers, loads = self.board.workers(), self.board.waiting()
        peers = living_peers(self.board) if kind == VM else ()  # orders of other kinds lead through no relay
        return choose(need, workers, here=self.here, loads=loads, kind=kind, peers=peers)

    def counting(self, run_id: str) -> Counting | None:
        return None if self.board is None else counting(self.board, run_id, goes_on=True)

    def given(self, run_id: str, world: World) -> BoardGiven | None:
        return None if self.board is None else BoardGiven(self.board, run_id, world.limits.room, world.cancel)

    def begin(self, job: Job, world: World, run_id: str) -> BoardHanding:
        return BoardHanding(self, job, world, run_id)

    def begin_mirror(self, job: MirrorJob, world: World, run_id: str) -> BoardMirroring:
        return BoardMirroring(self._mirrors, job, world, run_id)

    def told_mirror(self, job: MirrorJob) -> tuple[str, ...]:
        return self._mirrors.told(job)

    @property
    def _mirrors(self) -> MirrorPlaces:
        return MirrorPlaces(
            source=self, sites=self._sites, here=self.here, wait_s=self.wait_s, fingerprint=self.fingerprint
        )

    @contextmanager
    def last_words(self, run_id: str) -> Iterator[list[Mapping[str, Any]]]:
        news = News()
        if self.board is not None:
            with suppress(BoardUnavailable):
                news = self.board.news(run_id)
        yield [word.event for word in news.words]
        if self.board is not None:
            with suppress(BoardUnavailable):  # then it keeps them for an hour, and nobody asks
                self.board.heard(run_id, news)

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


class BoardHanding:
    """One run's; see :class:`xobackup.engine.handing.Handing`."""

    def __init__(self, hand_out: BoardHandOut, job: Job, world: World, run_id: str) -> None:
        self.out = hand_out
        self.job = job
        self.world = world
        self.run = run_id
        told = hand_out.complained == run_id  # a run may begin here several times
        self._errands = Errands(hand_out, world, run=run_id, job=job.name, told=told)
        if self._errands.away:
            hand_out.complained = run_id

    def close(self) -> None:
        self._errands.close()

    def attempt(self, vm: VmView, turn: Turn) -> VmReport | None:
        began_s, began_at = self.world.clock.monotonic_s(), self.world.clock.now_s()
        meter = self.world.progress.meter(vm.name or vm.uuid, stage="waiting")
        try:
            result = self._done(vm, lambda queue, choice: [self._task(vm, turn, queue, choice)], meter.note)
            return None if result is None else read_report(answered(result, "report"))
        except WorkersError as error:
            spent_s = self.world.clock.monotonic_s() - began_s
            return failed_report(self.world, self.job, vm, turn, error, began_at=began_at, duration_s=spent_s)
        finally:
            self.world.progress.drop(meter)

    def pool(self, context: RunContext) -> PoolReport | None:
        return hand_pool(self, context)

    def checks(self, checks: JobChecks, reports: Collection[VmReport]) -> tuple[list[CheckResult], list[str]] | None:
        return hand_checks(self, checks, reports)

    def other(self, about: About, order: Mapping[str, Any], *, key: str, need: Need, answer: str) -> Any:
        """A task that is no VM: what its worker answered under ``answer``; ``None``: to be done here. Raises
        :class:`WorkersError`."""
        meter = self.world.progress.meter(about.name, stage="waiting")

        def tasks(queue: str, _choice: Choice) -> list[Task]:
            return [Task(id=self.world.new_id(), run=self.run, key=key, queue=queue, order=order)]

        try:
            result = self._done(about, tasks, meter.note, kind=kind_of(order), need=need)
            return None if result is None else answered(result, answer)
        finally:
            self.world.progress.drop(meter)

    def group(
        self, vms: Sequence[VmView], turns: Mapping[str, Turn]
    ) -> tuple[Sequence[VmReport], GroupReport | None] | None:
        began_s, began_at = self.world.clock.monotonic_s(), self.world.clock.now_s()
        first, names = vms[0], [vm.name or vm.uuid for vm in vms]
        meter = self.world.progress.meter(names_text(names), stage="waiting")
        try:
            result = self._done(first, partial(self._group_tasks, vms), meter.note, kind=GROUP)
            if result is None:
                return None
            done = read_group_done(answered(result, "done"))
            if sorted(one.uuid for one in done.reports) != sorted(vm.uuid for vm in vms):
                raise WorkersError("the worker's word is not about all VMs of the group", hint=HINT)
            return done.reports, done.group
        except WorkersError as error:
            spent_s = self.world.clock.monotonic_s() - began_s
            return [
                failed_report(self.world, self.job, vm, turns[vm.uuid], error, began_at=began_at, duration_s=spent_s)
                for vm in vms
            ], None
        finally:
            self.world.progress.drop(meter)

    def _done(
        self,
        about: VmView | About,
        tasks: Callable[[str, Choice], list[Task]],
        note: Callable[[str], None],
        *,
        kind: str = VM,
        need: Need | None = None,
    ) -> Mapping[str, Any] | None:
        """By whoever can. ``tasks``: for a queue, and who was chosen."""
        wanted = need or self.out.need(self.job, about.pool)
        alone = choose(wanted, [], here=self.out.here, loads={}, kind=kind)
        return self._errands.done(
            about,
            choose=lambda: self._errands.chosen(lambda: self.out.choice_for(wanted, kind), alone),
            tasks=lambda choice: tasks(queue_of(choice.queue or "", kind), choice),
            wait_s=self.out.wait_s,
            note=note,
        )

    def _task(self, vm: VmView, turn: Turn, queue: str, choice: Choice) -> Task:
        order = order_data(self._order(vm, turn, choice))
        return Task(id=self.world.new_id(), run=self.run, key=vm.uuid, queue=queue, order=order)

    def _group_tasks(self, vms: Sequence[VmView], queue: str, _choice: Choice) -> list[Task]:
        named = {vm.uuid: vm.name or vm.uuid for vm in vms}
        new_id, mark = self.world.new_id(), self.out.fingerprint(self.job.name)
        interval = self.job.settings.full_interval
        told = GroupOrder.of(new_id, self.run, self.job.name, vms[0].pool, named, interval=interval, fingerprint=mark)
        return group_tasks(told, new_id, queue)

    def _order(self, vm: VmView, turn: Turn, choice: Choice) -> Order:
        return Order(
            run=self.run,
            job=self.job.name,
            pool=vm.pool,
            vm=vm.uuid,
            vm_name=vm.name,
            full_interval=self.job.settings.full_interval,
            fingerprint=self.out.fingerprint(self.job.name),
            number=turn.number,
            last=turn.last,
            before=turn.before,
            through=dict(choice.through),
        )
