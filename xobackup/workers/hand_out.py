"""The control node's side: VMs of a run are put on the board, and what workers say comes into the run's journal."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from xobackup.engine import events
from xobackup.engine.errors import Outcome
from xobackup.engine.report import Tried, VmReport
from xobackup.engine.turns.retry import pause_s
from xobackup.workers.errors import BoardUnavailable, WorkersError
from xobackup.workers.placing import Choice, Need, choose, reaches
from xobackup.workers.records import BEAT_S, LEASE_S, News, Task, Word
from xobackup.workers.wire import Order, order_data, read_report

if TYPE_CHECKING:
    from xobackup.engine.attempt import Turn
    from xobackup.engine.job import Job
    from xobackup.engine.view import VmView
    from xobackup.engine.world import World
    from xobackup.workers.board import Board

NEWS_S = 0.05
"""Between two looks at what workers said."""
AWAY_S = 2 * LEASE_S
"""How long a database that does not answer decides nothing; the board lets the run's tasks wait as long."""
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

    def reached(self, name: str) -> bool:
        return not reaches(self.here, [(name, self._sites.get(base_name(name), ()))])

    def need(self, job: Job, pool: str) -> Need:
        """What a VM of that pool needs."""
        return Need(
            pool=pool,
            pool_sites=self._sites.get(f"pool:{pool}", ()),
            remotes={remote.name: self._sites.get(remote.name, ()) for remote in job.remotes},
            targets={base_name(one.name): self._sites.get(base_name(one.name), ()) for one in job.targets},
        )

    def choice(self, job: Job, pool: str) -> Choice:
        """Who would do a VM of that pool now. Raises :class:`BoardUnavailable`."""
        if self.board is None:
            return choose(self.need(job, pool), [], here=self.here, loads={})
        return choose(self.need(job, pool), self.board.workers(), here=self.here, loads=self.board.waiting())

    def begin(self, job: Job, world: World, run_id: str) -> BoardHanding:
        return BoardHanding(self, job, world, run_id)

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
        if job.consistent is not None and not job.consistent.tag:
            return ("workers: a consistent group is backed up by this machine",)
        try:
            choices = {pool.name: self.choice(job, pool.name) for pool in job.pools}
        except BoardUnavailable as error:
            return (f"workers: {error}",)
        if self.away:
            return (f"workers: {self.away}",)
        return tuple(f"workers: VMs of {pool}: {_told(choice)}" for pool, choice in choices.items())


def base_name(name: str) -> str:
    """The target of one of its SRs (``dr1:Local storage``)."""
    return name.partition(":")[0]


def _told(choice: Choice) -> str:
    return f"they would wait: {choice.reason}" if choice.waits else choice.reason


class _Waiter:
    """An attempt that waits for its end."""

    def __init__(self, vm: VmView) -> None:
        self.vm = vm
        self.over = threading.Event()
        self.taken = False
        self.result: Mapping[str, Any] = {}


class BoardHanding:
    """One run's; see :class:`xobackup.engine.handing.Handing`."""

    def __init__(self, hand_out: BoardHandOut, job: Job, world: World, run_id: str) -> None:
        self._out = hand_out
        self._board = hand_out.board
        self._job = job
        self._world = world
        self._run = run_id
        self._waiters: dict[str, _Waiter] = {}
        self._owed: News = News()
        """What is in the journal and not acknowledged yet."""
        self._ghosts: list[str] = []
        """Tasks of which nobody knows whether they came on the board."""
        self._heard_s = world.clock.monotonic_s()
        """When the database last answered."""
        self._stop = threading.Event()
        self._away = hand_out.away
        """Why the database cannot be used."""
        try:
            if self._board is not None:
                self._board.begin_run(run_id, job=job.name, host=socket.gethostname())
        except BoardUnavailable as error:
            self._away = str(error)
        if self._away:
            self._write(events.Warned(message=f"no VM can be given to workers: {self._away}"))
        self._thread = threading.Thread(target=self._listen, name="workers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        with suppress(BoardUnavailable):
            if self._board is not None:
                self._take_in(self._board)
                self._board.end_run(self._run)

    def attempt(self, vm: VmView, turn: Turn) -> VmReport | None:
        began_s = self._world.clock.monotonic_s()
        began_at = self._world.clock.now_s()
        meter = self._world.progress.meter(vm.name or vm.uuid, stage="waiting")
        try:
            return self._attempt(vm, turn, meter.note)
        except WorkersError as error:
            spent_s = self._world.clock.monotonic_s() - began_s
            return self._failed(vm, turn, str(error), error.hint, began_at=began_at, duration_s=spent_s)
        finally:
            self._world.progress.drop(meter)

    def _attempt(self, vm: VmView, turn: Turn, note: Callable[[str], None]) -> VmReport | None:
        until_s, told = self._world.clock.monotonic_s() + self._out.wait_s, ""
        while not self._world.cancel.cancelled:
            choice = self._choice(vm)
            if choice.waits:
                if choice.reason != told:
                    told = choice.reason
                    note(told)
                    self._write(events.HandedOut(vm=vm.uuid, vm_name=vm.name, site="", reason=told))
                if self._world.clock.monotonic_s() >= until_s:
                    raise WorkersError(f"no worker came within {self._out.wait_s:.0f} s: {choice.reason}", hint=HINT)
                self._pause()
                continue
            if choice.queue is None:
                return None
            result = self._given(vm, turn, choice.queue, choice.reason, note)
            if result is not None:
                return self._report(result)
        return None  # the attempt here says that it was stopped

    def _choice(self, vm: VmView) -> Choice:
        alone = choose(self._out.need(self._job, vm.pool), [], here=self._out.here, loads={})
        if self._away:
            return alone
        try:
            return self._out.choice(self._job, vm.pool)
        except BoardUnavailable as error:
            away_s = self._world.clock.monotonic_s() - self._heard_s
            if away_s > AWAY_S and not alone.waits:
                return Choice(queue=None, reason=f"{error}: done here")
            return Choice(queue=None, waits=True, reason=str(error))

    def _given(
        self, vm: VmView, turn: Turn, queue: str, reason: str, note: Callable[[str], None]
    ) -> Mapping[str, Any] | None:
        """Put it on the board and wait. ``None``: nobody began it, and nobody will."""
        assert self._board is not None
        task = Task(
            id=self._world.new_id(), run=self._run, key=vm.uuid, queue=queue, order=order_data(self._order(vm, turn))
        )
        waiter = self._waiters[task.id] = _Waiter(vm)
        try:
            if not self._put(task):
                return None
            site = "" if queue == "*" else queue
            self._write(events.HandedOut(vm=vm.uuid, vm_name=vm.name, site=site, reason=reason))
            note(f"for a worker ({reason})")
            looked_s = self._world.clock.monotonic_s()
            while not waiter.over.wait(LOOK_S):
                now_s = self._world.clock.monotonic_s()
                late = now_s - looked_s > (AWAY_S if waiter.taken else BEAT_S)
                if not (self._world.cancel.cancelled or late):
                    continue
                looked_s = now_s
                if self._is_given_up(task, waiter, queue):
                    return None
            return waiter.result
        finally:
            self._waiters.pop(task.id, None)

    def _put(self, task: Task) -> bool:
        """Whether it is on the board. When nobody knows, it is withdrawn before another one is put there."""
        assert self._board is not None
        try:
            if self._ghosts:
                self._board.withdraw(self._run, self._ghosts)
                self._ghosts.clear()
            self._board.put([task])
        except BoardUnavailable:
            self._ghosts.append(task.id)
            self._pause()
            return False
        return True

    def _is_given_up(self, task: Task, waiter: _Waiter, queue: str) -> bool:
        """Whether the task is to be placed anew. A database that is away decides nothing, but not for ever."""
        assert self._board is not None
        stopping = self._world.cancel.cancelled
        try:
            if stopping or not (waiter.taken or self._choice(waiter.vm).queue == queue):
                return task.id in self._board.withdraw(self._run, [task.id])
            return not self._board.knows(task.id) and not waiter.over.is_set()
        except BoardUnavailable as error:
            if stopping and not waiter.taken:
                return True  # it is withdrawn with the run
            patience_s = AWAY_S if stopping else max(self._out.wait_s, AWAY_S)
            if self._world.clock.monotonic_s() - self._heard_s > patience_s:
                raise WorkersError(f"what its worker does is not known: {error}", hint=error.hint) from error
            return False

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

    def _report(self, result: Mapping[str, Any]) -> VmReport:
        if "report" in result:
            return read_report(result["report"])
        if "lost" in result:
            told = f"{result.get('deliveries')} workers were lost while they did it, the last one {result['lost']}"
            raise WorkersError(told, hint="their logs say more than this one knows")
        raise WorkersError(str(result.get("error", "the worker said nothing of what happened")), hint=HINT)

    def _failed(
        self, vm: VmView, turn: Turn, reason: str, hint: str, *, began_at: float, duration_s: float
    ) -> VmReport:
        """What an attempt says that never was one."""
        again = not turn.last
        tried = Tried(
            number=turn.number,
            began_s=round(began_at, 3),
            duration_s=duration_s,
            error=reason,
            error_class=WorkersError.__name__,
        )
        every = (*turn.before, tried)
        self._write(
            events.Failed(
                vm=vm.uuid,
                error=reason,
                error_class=WorkersError.__name__,
                hint=hint,
                attempt=turn.number,
                will_retry=again,
                retry_in_s=pause_s(turn.number, self._job.settings.retry_pause_s) if again else 0.0,
            )
        )
        if not again:
            ended = events.VmEnded(
                vm=vm.uuid,
                vm_name=vm.name,
                outcome=Outcome.FAILED.value,
                attempts=turn.number,
                duration_s=duration_s,
                read_bytes=0,
                reason=reason,
                tried=[asdict(one) for one in every],
            )
            self._write(ended)
        return VmReport(
            uuid=vm.uuid,
            name=vm.name,
            pool=vm.pool,
            outcome=Outcome.FAILED,
            reason=reason,
            attempts=turn.number,
            duration_s=duration_s,
            errors=(reason,),
            hint=hint,
            retryable=again,
            tried=every,
        )

    # -- what workers say

    def _listen(self) -> None:
        beat_s = self._world.clock.monotonic_s()
        while not self._stop.wait(NEWS_S):
            if self._away or self._board is None:
                continue
            with suppress(BoardUnavailable):  # it will be back, or the waiting attempts find out
                now_s = self._world.clock.monotonic_s()
                if now_s - beat_s >= BEAT_S:
                    if not self._board.beat_run(self._run):
                        self._board.begin_run(self._run, job=self._job.name, host=socket.gethostname())
                    self._board.reap(missing=True)
                    beat_s = now_s
                self._take_in(self._board)
                self._heard_s = self._world.clock.monotonic_s()

    def _take_in(self, board: Board) -> None:
        """Into the journal first, then off the board: who dies in between leaves it there."""
        board.heard(self._run, self._owed)
        self._owed = News()
        news = board.news(self._run)
        for word in news.words:
            self._hear(word)
        for task, result in news.ended:
            waiter = self._waiters.get(task)
            if waiter is not None:
                waiter.result = result
                waiter.over.set()
        self._owed = news
        board.heard(self._run, news)
        self._owed = News()

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
