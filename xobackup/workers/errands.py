"""Tasks of one run, put on the board and waited for; what their workers say comes into the run's journal.

For everything that a conductor gives away: what the order says and who is chosen for it is the caller's.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from xobackup.engine import events
from xobackup.workers.errors import BoardUnavailable, WorkersError
from xobackup.workers.records import ANYWHERE, BEAT_S, News, Task, Word

if TYPE_CHECKING:
    from xobackup.engine.world import World
    from xobackup.workers.board import Board
    from xobackup.workers.placing import Choice

NEWS_S = 0.05
"""Between two looks at what workers said."""
LOOK_S = 0.5
"""How late a waiting attempt may notice that it shall stop."""
HINT = "see `xobackup workers`: who lives, and what it reaches"


class _Waiter:
    """Somebody who waits for the end of a task of the VM ``vm`` (``""``: of none). ``key``: of the task."""

    def __init__(self, vm: str, vm_name: str, key: str) -> None:
        self.key = key
        self.vm = vm
        self.vm_name = vm_name
        self.over = threading.Event()
        self.taken = False
        self.result: Mapping[str, Any] = {}


class Errands:
    """One run's; see the module's head. :attr:`away`: why the database cannot be used."""

    def __init__(self, board: Board | None, away: str, world: World, *, run: str, job: str) -> None:
        self.away = away
        self._board = board
        self._world = world
        self._run = run
        self._waiters: dict[str, _Waiter] = {}
        self._stop = threading.Event()
        try:
            if board is not None:
                board.begin_run(run, job=job, host=socket.gethostname())
        except BoardUnavailable as error:
            self.away = str(error)
        if self.away:
            self.write(events.Warned(message=f"no VM can be given to workers: {self.away}"))
        self._thread = threading.Thread(target=self._listen, name="workers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        with suppress(BoardUnavailable):
            if self._board is not None:
                self._take_in(self._board.news(self._run))
                self._board.end_run(self._run)

    def write(self, event: events.Event) -> None:
        self._world.journal.write(event)

    def done(
        self,
        *,
        vm: str,
        vm_name: str,
        choose: Callable[[], Choice],
        order: Callable[[Choice], Mapping[str, Any]],
        key: str,
        wait_s: float,
        note: Callable[[str], None],
    ) -> Mapping[str, Any] | None:
        """What a worker made of the order. ``None``: it is to be done here (also when the run was stopped). Waits
        up to ``wait_s`` for somebody who can. Raises :class:`WorkersError`."""
        until_s, told = self._world.clock.monotonic_s() + wait_s, ""
        while not self._world.cancel.cancelled:
            choice = choose()
            if choice.waits:
                if choice.reason != told:
                    told = choice.reason
                    note(told)
                    self.write(events.HandedOut(vm=vm, vm_name=vm_name, site="", reason=told))
                if self._world.clock.monotonic_s() >= until_s:
                    raise WorkersError(f"no worker came within {wait_s:.0f} s: {choice.reason}", hint=HINT)
                self._stop.wait(LOOK_S)
                continue
            if choice.queue is None:
                return None
            result = self._given(_Waiter(vm, vm_name, key), choice, choose, order(choice), note)
            if result is not None:
                return result
        return None

    def _given(
        self,
        waiter: _Waiter,
        choice: Choice,
        choose: Callable[[], Choice],
        order: Mapping[str, Any],
        note: Callable[[str], None],
    ) -> Mapping[str, Any] | None:
        """Put it on the board and wait. ``None``: nobody began it, and nobody will."""
        assert self._board is not None and choice.queue is not None
        task = Task(id=self._world.new_id(), run=self._run, key=waiter.key, queue=choice.queue, order=order)
        self._waiters[task.id] = waiter
        try:
            self._board.put([task])
            site = "" if choice.queue == ANYWHERE else choice.queue
            self.write(events.HandedOut(vm=waiter.vm, vm_name=waiter.vm_name, site=site, reason=choice.reason))
            note(f"for a worker ({choice.reason})")
            looked_s = self._world.clock.monotonic_s()
            while not waiter.over.wait(LOOK_S):
                now_s = self._world.clock.monotonic_s()
                late = not waiter.taken and now_s - looked_s > BEAT_S
                if not (self._world.cancel.cancelled or late):
                    continue
                looked_s = now_s
                elsewhere = self._world.cancel.cancelled or not choose().same_way(choice)
                if elsewhere and task.id in self._board.withdraw(self._run, [task.id]):
                    return None
            return waiter.result
        finally:
            self._waiters.pop(task.id, None)

    # -- what workers say

    def _listen(self) -> None:
        beat_s = self._world.clock.monotonic_s()
        while not self._stop.wait(NEWS_S):
            if self.away or self._board is None:
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
                record |= {"vm": waiter.vm, "vm_name": waiter.vm_name}
        event = events.from_record(record)
        if event is not None:
            self.write(event)


def complaint(result: Mapping[str, Any]) -> WorkersError:
    """Why a worker gave no report."""
    if "lost" in result:
        told = f"{result.get('deliveries')} workers were lost while they did it, the last one {result['lost']}"
        return WorkersError(told, hint="their logs say more than this one knows")
    return WorkersError(str(result.get("error", "the worker said nothing of what happened")), hint=HINT)
