"""The worker's side: it takes tasks, does them, tells the board what happens, and says that it lives.

A worker that the board did not hear of for :data:`~xobackup.workers.records.LEASE_S` has lost its tasks, and knows it
by its own monotonic counter, also after it was stopped: at its next word it stops what it does, before anything else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from xobackup.engine import events
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import Outcome
from xobackup.workers.errors import BoardUnavailable, TaskLost, WorkersError
from xobackup.workers.kinds import VM, kind_of, queues_of
from xobackup.workers.linked import member_ids
from xobackup.workers.records import BEAT_S, LEASE_S, Delivery, Worker
from xobackup.workers.wire import Order, read_order, report_data

if TYPE_CHECKING:
    from xobackup.clock import Clock
    from xobackup.engine.journal import Sink
    from xobackup.engine.report import VmReport
    from xobackup.workers.board import Board

Other = Callable[["Mapping[str, Any]", str, "Sink", CancelToken], "Mapping[str, Any]"]
"""Does a task of another kind: its order, an id for what is made on the pool, where its events go, the switch.
Returns the result, as JSON; raises ``WorkersError`` for what is wrong with us."""
WORDS_MAX = 10_000
"""What a worker keeps to say while its database is away."""
LOOK_S = 1.0
"""Between two looks at our own lease."""
TELL_S = 900.0
"""How long a worker tries to say how a task ended while its database is away."""
GOOD = (Outcome.OK, Outcome.SKIPPED)
LOST = "the database did not hear of this worker for too long: its tasks were given to others"


class Doing(Protocol):
    """:meth:`xobackup.workers.vm_task.VmTask.do`."""

    def __call__(self, order: Order, run_id: str, sink: Sink, cancel: CancelToken) -> VmReport: ...


class WorkerProcess:
    """See the module's head."""

    def __init__(
        self,
        board: Board,
        me: Worker,
        do: Doing,
        *,
        clock: Clock,
        new_id: Callable[[], str],
        log: Callable[[str], None] = lambda _told: None,
        others: Mapping[str, Other] | None = None,
        linger: Callable[[], None] = lambda: None,
    ) -> None:
        """``do``: VMs; ``others``: tasks of other kinds, by kind. ``linger``: returns when nobody needs the process
        any more, after its last task."""
        self._linger = linger
        self._board = board
        self._me = me
        self._do = do
        self._others = dict(others or {})
        self._clock = clock
        self._new_id = new_id
        self._log = log
        self._began_s = clock.monotonic_s()
        self._heard_s = clock.monotonic_s()
        """When the board last took our word."""
        self._stopping: Callable[[], bool] = lambda: False
        self._going: dict[str, _Words] = {}
        self._guard = threading.Lock()
        self._ended = threading.Event()

    def serve(self, stopping: Callable[[], bool]) -> None:
        """Take tasks until ``stopping``; then end those that were begun."""
        self._stopping = stopping
        self._beat(stopping())
        beating = threading.Thread(target=self._beat_on, args=(stopping,), name="beat", daemon=True)
        guarding = threading.Thread(target=self._guard_lease, name="lease", daemon=True)
        beating.start()
        guarding.start()
        queues = queues_of(self._me.site, list(self._others))
        try:
            self._board.dispatch.serve(self._me.id, queues, self._me.slots, self._work, stopping)
            self._linger()
        finally:
            self._ended.set()
            beating.join()
            guarding.join()
            with suppress(BoardUnavailable):
                self._board.leave(self._me.id)

    def stop_all(self, reason: str) -> None:
        """Stop what is being done, in good order."""
        for words in self._words():
            words.cancel.cancel(reason)

    @property
    def going(self) -> int:
        """How many tasks are being done."""
        return len(self._going)

    def _words(self) -> list[_Words]:
        with self._guard:
            return list(self._going.values())

    def _work(self, delivery: Delivery) -> None:
        words = _Words(self._board, delivery, self._alive)
        with self._guard:
            self._going[delivery.task.id] = words
        try:
            result = self._result(delivery, words)
            self._end(delivery, words, result)
        except TaskLost as error:
            self._log(str(error))
        finally:
            with self._guard:
                self._going.pop(delivery.task.id, None)

    def _result(self, delivery: Delivery, words: _Words) -> dict[str, Any] | None:
        """``None``: it was stopped because we were not heard of, which says nothing of the VM."""
        kind = kind_of(delivery.task.order)
        try:
            if kind != VM:
                other = self._other(kind, delivery, words)
                return None if words.is_lost else other
            order = read_order(delivery.task.order)
            run_id = self._new_id()
            self._log(f"begins vm {order.vm_name or order.vm} of job {order.job}")
            words.write(self._taken(delivery, run_id, vm=order.vm, vm_name=order.vm_name))
            report = self._do(order, run_id, words, words.cancel)
        except WorkersError as error:
            self._log(f"task {delivery.task.id} failed: {error}")
            return {"error": f"worker on {self._me.host}: {error}"}
        why = f": {report.reason}" if report.reason else ""
        self._log(f"ended vm {order.vm_name or order.vm}: {report.outcome}{why}")
        if words.is_lost and report.outcome not in GOOD:
            return None
        return {"report": report_data(report)}

    def _other(self, kind: str, delivery: Delivery, words: _Words) -> dict[str, Any]:
        """A task that is not one VM. Raises :class:`WorkersError`."""
        order = delivery.task.order
        do = self._others.get(kind)
        if do is None:
            raise WorkersError(
                f"it knows no task of the kind {kind!r}", hint="install the version of the control node"
            )
        run_id, about = self._new_id(), str(order.get("vm_name") or order.get("vm") or "")
        self._log(f"begins {kind} {about} of job {order.get('job', '')}")
        named = list(zip(order.get("vms", ()), order.get("names", ()), strict=False)) or [
            (str(order.get("vm") or ""), about)
        ]
        for vm, name in named:
            words.write(self._taken(delivery, run_id, vm=str(vm), vm_name=str(name)))
        result = dict(do(order, run_id, words, words.cancel))
        self._log(f"ended {kind} {about}")
        return result

    def _taken(self, delivery: Delivery, run_id: str, *, vm: str, vm_name: str) -> events.TakenByWorker:
        return events.TakenByWorker(
            vm=vm,
            vm_name=vm_name,
            worker=self._me.id,
            site=self._me.site,
            host=self._me.host,
            pid=self._me.pid,
            version=self._me.version,
            delivery=delivery.number,
            run_id=run_id,
        )

    def _end(self, delivery: Delivery, words: _Words, result: dict[str, Any] | None) -> None:
        """Say how it ended; while the database is away, again and again: until somebody else does the task, for
        :data:`TELL_S`, or for two leases when this worker drains."""
        while True:
            self._alive(words.cancel)
            try:
                if result is None:
                    self._board.give_back(delivery)
                else:
                    words.flush()
                    self._board.end(delivery, result)
            except BoardUnavailable as error:
                if self._clock.monotonic_s() - self._heard_s > (2 * LEASE_S if self._stopping() else TELL_S):
                    self._log(f"what came of a task is lost: {error}")
                    return
                self._clock.sleep(1.0)
            else:
                return

    def _alive(self, cancel: CancelToken) -> None:
        """Stop what is not ours any more."""
        if self._clock.monotonic_s() - self._heard_s > LEASE_S:
            cancel.cancel(LOST)

    def _guard_lease(self) -> None:
        """A beat may hang in the database; this does not."""
        while not self._ended.wait(LOOK_S):
            for words in self._words():
                self._alive(words.cancel)

    def _beat_on(self, stopping: Callable[[], bool]) -> None:
        while not self._ended.wait(BEAT_S):
            self._beat(stopping())

    def _beat(self, draining: bool) -> None:
        for words in self._words():
            self._alive(words.cancel)
        now_s = self._clock.monotonic_s()
        try:
            me = replace(self._me, draining=draining)
            up_s = now_s - self._began_s
            mine = [words.delivery.task for words in self._words()]
            doing = [one for task in mine for one in (task.id, *member_ids(task.order))]
            self._board.beat(me, now_s=self._clock.now_s(), up_s=up_s, doing=doing)
            self._heard_s = now_s
            for words in self._words():
                words.look()
            for task, lost in self._board.reap():
                self._log(f"task {task.id} was taken from worker {lost}, which was not heard of")
        except BoardUnavailable as error:
            self._log(str(error))


class Leased(CancelToken):
    """A switch that throws itself when the lease is over: who was stopped, and goes on, finds that at his next look,
    which comes before whatever he would begin."""

    def __init__(self, alive: Callable[[CancelToken], None]) -> None:
        super().__init__()
        self._alive = alive

    @property
    def cancelled(self) -> bool:
        self._alive(self)
        return super().cancelled

    def check(self) -> None:
        self._alive(self)
        super().check()


class _Words:
    """What happens to one task, on its way to the board: a :class:`~xobackup.engine.journal.Sink`."""

    def __init__(self, board: Board, delivery: Delivery, alive: Callable[[CancelToken], None]) -> None:
        self.delivery = delivery
        self.cancel = Leased(alive)
        self._board = board
        self._alive = alive
        self._kept: list[dict[str, Any]] = []
        self._guard = threading.Lock()

    def write(self, event: events.Event) -> None:
        self._alive(self.cancel)
        with self._guard:
            if len(self._kept) < WORDS_MAX:
                self._kept.append(events.as_record(event, 0.0))
        if event.durable and not self.is_lost:  # then it is decided at the end what is said
            with suppress(BoardUnavailable, TaskLost):
                self.flush()

    def close(self) -> None:
        """Nothing is open."""

    @property
    def is_lost(self) -> bool:
        """Whether it was stopped because the database did not hear of this worker."""
        return self.cancel.reason == LOST

    def flush(self) -> None:
        """Say what was kept. Raises :class:`TaskLost`, after having stopped the task."""
        with self._guard:
            if not self._kept:
                return
            try:
                self._board.tell(self.delivery, self._kept)
            except TaskLost as error:
                self._kept.clear()
                self.cancel.cancel(str(error))
                raise
            self._kept.clear()

    def look(self) -> None:
        """Is it still ours, and wanted?"""
        with suppress(TaskLost):
            if not self.is_lost:
                self.flush()
            try:
                wanted = self._board.standing(self.delivery)
            except TaskLost as error:
                self.cancel.cancel(str(error))
                return
            if not wanted:
                self.cancel.cancel("the control node asked to stop")
