"""Tasks of one run, put on the board and waited for; what their workers say comes into the run's journal.

For everything that a conductor gives away: what an order says, and who is chosen for it, is the caller's. A word
leaves the board only when it is in the journal, so that a conductor that dies loses none. A database that does not
answer decides nothing for :data:`AWAY_S`; one that was away when the run began is asked again as long as it runs.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from xobackup.engine import events
from xobackup.workers.errors import BoardUnavailable, WorkersError
from xobackup.workers.linked import put_linked
from xobackup.workers.placing import Choice
from xobackup.workers.records import ANYWHERE, BEAT_S, LEASE_S, About, News, Task, Word
from xobackup.workers.unplaced import forget_unplaced, mark_of, note_unplaced

if TYPE_CHECKING:
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


class Source(Protocol):
    """Where the board is had from."""

    @property
    def board(self) -> Board | None: ...

    @property
    def away(self) -> str:
        """Why there is none."""
        ...

    def try_again(self) -> None:
        """Open it, if it can be by now."""
        ...


class _Waiter:
    """Somebody who waits for the end of a task."""

    def __init__(self, about: VmView | About, patience_s: float) -> None:
        """``patience_s``: how long a database may be away before it is given up what the worker does."""
        self.about = about
        self.patience_s = patience_s
        self.over = threading.Event()
        self.taken = False
        self.result: Mapping[str, Any] = {}


class Errands:
    """One run's; see the module's head."""

    def __init__(self, source: Source, world: World, *, run: str, job: str, told: bool = False) -> None:
        """``told``: that the database is away was said already."""
        self._source = source
        self._world = world
        self._run = run
        self._job = job
        self._waiters: dict[str, _Waiter] = {}
        self._unplaced: set[str] = set()
        self._owed: News = News()
        """What is in the journal and not acknowledged yet."""
        self._ghosts: list[str] = []
        """Tasks of which nobody knows whether they came on the board."""
        self._heard_s = world.clock.monotonic_s()
        """When the database last answered."""
        self._stop = threading.Event()
        self.away = source.away
        """Why the database cannot be used."""
        self._begin()
        if self.away and not told:
            self.write(events.Warned(message=f"no VM can be given to workers: {self.away}"))
        self._thread = threading.Thread(target=self._listen, name="workers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        board = self._board
        with suppress(BoardUnavailable):
            if board is not None:
                self._take_in(board)
                board.end_run(self._run)

    def write(self, event: events.Event) -> None:
        self._world.journal.write(event)

    def chosen(self, choose: Callable[[], Choice], alone: Choice) -> Choice:
        """Who would do it now; ``alone``: as if there were no workers, which holds while the database is away."""
        if self.away:
            return alone
        try:
            return choose()
        except BoardUnavailable as error:
            if self._silent_s > AWAY_S and not alone.waits:
                return Choice(queue=None, reason=f"{error}: done here")
            return Choice(queue=None, waits=True, reason=str(error))

    def done(
        self,
        about: VmView | About,
        *,
        choose: Callable[[], Choice],
        tasks: Callable[[Choice], Sequence[Task]],
        wait_s: float,
        note: Callable[[str], None],
    ) -> Mapping[str, Any] | None:
        """What a worker made of it. ``None``: it is to be done here (also when the run was stopped). Waits up to
        ``wait_s`` for somebody who can. ``tasks``: the first one is brought, the others are its members. Raises
        :class:`WorkersError`."""
        try:
            return self._placed(about, choose, tasks, wait_s, note)
        finally:
            if mark_of(about) in self._unplaced:
                self._note_waiting(about, None)

    def _placed(
        self,
        about: VmView | About,
        choose: Callable[[], Choice],
        tasks: Callable[[Choice], Sequence[Task]],
        wait_s: float,
        note: Callable[[str], None],
    ) -> Mapping[str, Any] | None:
        until_s, told = self._world.clock.monotonic_s() + wait_s, ""
        while not self._world.cancel.cancelled:
            choice = choose()
            if choice.waits:
                if choice.reason != told:
                    told = choice.reason
                    note(told)
                    self.write(events.HandedOut(vm=about.uuid, vm_name=about.name, site="", reason=told))
                    self._note_waiting(about, choice)
                if self._world.clock.monotonic_s() >= until_s:
                    raise WorkersError(f"no worker came within {wait_s:.0f} s: {choice.reason}", hint=HINT)
                self._stop.wait(LOOK_S)
                continue
            if choice.queue is None:
                return None
            if told:
                told = ""
                self._note_waiting(about, None)
            result = self._given(_Waiter(about, max(wait_s, AWAY_S)), choice, choose, tasks(choice), note)
            if result is not None:
                return result
        return None

    def _given(
        self,
        waiter: _Waiter,
        choice: Choice,
        choose: Callable[[], Choice],
        tasks: Sequence[Task],
        note: Callable[[str], None],
    ) -> Mapping[str, Any] | None:
        """Put it on the board and wait. ``None``: nobody began it, and nobody will."""
        board = self._board
        if board is None:
            return None
        lead = tasks[0]
        self._waiters[lead.id] = waiter
        try:
            if not self._put(board, tasks):
                return None
            site = "" if choice.queue in (None, ANYWHERE) else str(choice.queue)
            about = waiter.about
            self.write(events.HandedOut(vm=about.uuid, vm_name=about.name, site=site, reason=choice.reason))
            note(f"for a worker ({choice.reason})")
            looked_s = self._world.clock.monotonic_s()
            while not waiter.over.wait(LOOK_S):
                now_s = self._world.clock.monotonic_s()
                late = now_s - looked_s > (AWAY_S if waiter.taken else BEAT_S)
                if not (self._world.cancel.cancelled or late):
                    continue
                looked_s = now_s
                if self._is_given_up(board, lead, waiter, lambda: choose().same_way(choice)):
                    return None
            return waiter.result
        finally:
            self._waiters.pop(lead.id, None)

    def _put(self, board: Board, tasks: Sequence[Task]) -> bool:
        """Whether it is on the board. When nobody knows, it is withdrawn before another one is put there."""
        lead, *members = tasks
        try:
            if self._ghosts:
                board.withdraw(self._run, self._ghosts)
                self._ghosts.clear()
            if members:
                put_linked(board, lead, members)
            else:
                board.put([lead])
        except BoardUnavailable:
            self._ghosts.append(lead.id)
            self._stop.wait(LOOK_S)
            return False
        return True

    def _is_given_up(self, board: Board, lead: Task, waiter: _Waiter, well_placed: Callable[[], bool]) -> bool:
        """Whether the task is to be placed anew. A database that is away decides nothing, but not for ever."""
        stopping = self._world.cancel.cancelled
        try:
            if stopping or not (waiter.taken or well_placed()):
                return lead.id in board.withdraw(self._run, [lead.id])
            return not board.knows(lead.id) and not waiter.over.is_set()
        except BoardUnavailable as error:
            if stopping and not waiter.taken:
                return True  # it is withdrawn with the run
            if self._silent_s > (AWAY_S if stopping else waiter.patience_s):
                raise WorkersError(f"what its worker does is not known: {error}", hint=error.hint) from error
            return False

    def _note_waiting(self, about: VmView | About, choice: Choice | None) -> None:
        """For whoever looks at the board: it waits for a worker to come; ``None``: no longer."""
        board = self._board
        with suppress(BoardUnavailable):
            if board is not None and choice is not None:
                self._unplaced.add(mark_of(about))
                note_unplaced(board, self._run, self._job, about, choice)
            elif board is not None:
                forget_unplaced(board, self._run, mark_of(about))
                self._unplaced.discard(mark_of(about))

    # -- the board

    @property
    def _board(self) -> Board | None:
        return None if self.away else self._source.board

    @property
    def _silent_s(self) -> float:
        return self._world.clock.monotonic_s() - self._heard_s

    def _begin(self) -> None:
        board = self._source.board
        if board is None:
            return
        try:
            board.begin_run(self._run, job=self._job, host=socket.gethostname())
        except BoardUnavailable as error:
            self.away = str(error)
        else:
            self.away, self._heard_s = "", self._world.clock.monotonic_s()

    def _listen(self) -> None:
        beat_s = self._world.clock.monotonic_s()
        while not self._stop.wait(NEWS_S):
            now_s = self._world.clock.monotonic_s()
            due = now_s - beat_s >= BEAT_S
            if due:
                beat_s = now_s
            if due and self.away:
                self._source.try_again()
                self._begin()
            board = self._board
            if board is None:
                continue
            with suppress(BoardUnavailable):  # it will be back, or the waiting attempts find out
                if due:
                    if not board.beat_run(self._run):
                        self._begin()
                    board.reap(missing=True)
                self._take_in(board)
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
                record |= {"vm": waiter.about.uuid, "vm_name": waiter.about.name}
        event = events.from_record(record)
        if event is not None:
            self.write(event)


def answered(result: Mapping[str, Any], key: str) -> Any:
    """What the worker answered under ``key``. Raises :class:`WorkersError`: it did not come to that."""
    if key in result:
        return result[key]
    if "lost" in result:
        told = f"{result.get('deliveries')} workers were lost while they did it, the last one {result['lost']}"
        raise WorkersError(told, hint="their logs say more than this one knows")
    raise WorkersError(str(result.get("error", "the worker said nothing of what happened")), hint=HINT)
