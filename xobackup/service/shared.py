"""What must be remembered of schedules, in the engine's database: for several control nodes, none of them special.

* A schedule has one row that says whose its run is. Every change is a transaction of its own, one after the other by
  one lock, and looks at what it finds before it writes.
* A node says that it lives every few seconds. One that was not heard of for its lease is gone: another one begins its
  runs again. It knows that by its own monotonic counter, a beat earlier, and stops them by itself.
* What is due is decided by the database's clock; how far it is from this machine's is learned at every word.
* A process that ended without a word is known to be gone by whoever holds the lock of its state directory next, on
  the same machine since the same start: what was its is taken at once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from xobackup.clock import Clock, utc
from xobackup.engine.errors import EngineError
from xobackup.service.state import ServeLock, write_whole
from xobackup.service.store import Begun, Look
from xobackup.service.store_rows import Rows, paused_rows, write_paused
from xobackup.texts import duration_text
from xobackup.workers.errors import WorkersError
from xobackup.workers.nodes import Node, SeenNode, beat_node, forget_nodes, lock_sharing, read_nodes
from xobackup.workers.records import SKEW_S

if TYPE_CHECKING:
    from xobackup.workers.board import Board

NAME = "node.json"
LEASE_S = 120.0
BEATS = 6
"""So many in a lease, and at least one in :data:`BEAT_MOST_S`."""
BEAT_MOST_S = 5.0
LOOK_S = 1.0
"""Between two looks at our own lease."""
KNOWN_EVERY_S = 3600.0
FORMER_MAX = 8


NOBODY = Node(id="", host="", pid=0, version="", lease_s=LEASE_S, plan={})
"""Who only looks."""


class StoreAway(EngineError):
    """The database with the schedules did not do what it was asked."""

    transient = True


@dataclass(slots=True)
class _Heard:
    """What the database last said."""

    at_s: float
    """On the monotonic counter, before it was asked."""
    offset_s: float = 0.0
    """The database's clock minus this machine's."""


class SharedStore:
    """A :class:`~xobackup.service.store.ScheduleStore`; see the module's head. Thread-safe."""

    is_shared = True

    def __init__(self, directory: Path, open_board: Callable[[], Board], me: Node, *, clock: Clock) -> None:
        """``open_board``: asked again until it has given one. Raises ``AlreadyServed``."""
        self._lock = ServeLock(directory)
        self._path = directory / NAME
        self._open = open_board
        self._board: Board | None = None
        self._opening = threading.Lock()
        self._me = me
        self._clock = clock
        self._began_s = clock.monotonic_s()
        self._heard = _Heard(at_s=self._began_s)
        self._known_s = float("-inf")
        self._skew_s = 0.0
        self._paused: Mapping[str, str] | None = None
        self._former = self._remembered()
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self.beat_s = min(BEAT_MOST_S, me.lease_s / BEATS)
        self.problem = ""

    # -- who lives

    def watch(self, when_lost: Callable[[], None]) -> None:
        """Say from now on that this node lives; ``when_lost``: called at once when others may have its runs."""

        def beat_on() -> None:
            while not self._ended.wait(self.beat_s):
                with suppress(StoreAway):  # the rounds tell it
                    self.beat()

        def guard() -> None:  # a beat may hang in the database, this does not
            while not self._ended.wait(min(LOOK_S, self.beat_s)):
                if self.lost():
                    when_lost()

        for name, act in (("node", beat_on), ("lease", guard)):
            thread = threading.Thread(target=act, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def lost(self) -> str:
        if self._clock.monotonic_s() - self._heard.at_s <= self._me.lease_s - self.beat_s:
            return ""
        return "the engine database did not hear of this node for too long: another one may have begun it again"

    def beat(self) -> None:
        """This node lives. Raises :class:`StoreAway`."""
        with self._changing():
            pass

    def now(self) -> datetime:
        return utc(self._clock.now_s() + self._heard.offset_s)

    # -- what is remembered

    def look(self) -> Look:
        with self._changing() as rows:
            seen = read_nodes(rows.board, rows.connection)
            look = Look(now=utc(rows.now_s), state=rows.state(seen), paused=paused_rows(rows.connection))
        self._paused = look.paused
        self.problem = self._judged(seen)
        return look

    def begin(
        self, schedule: str, nominal: datetime, *, since: datetime | None = None, instead_of: str | None = None
    ) -> Begun:
        with self._changing() as rows:
            return rows.begin(schedule, _instant(nominal), since=since, instead_of=instead_of)

    def end(self, schedule: str, *, goes_on: bool, then: Sequence[str], nominal: datetime) -> dict[str, Begun]:
        with self._changing() as rows:
            if not rows.is_mine(schedule):
                return {}
            again = rows.end(schedule, goes_on=goes_on)
            begun = {name: rows.begin(name, _instant(nominal)) for name in then}
            return ({schedule: Begun.HERE} if again else {}) | begun

    def heard(self, schedule: str) -> None:
        with self._changing() as rows:
            rows.change(schedule, again=False)

    def settle(self, schedule: str, nominal: datetime, *, since: datetime | None) -> bool:
        with self._changing() as rows:
            return rows.settle(schedule, _instant(nominal), since=since)

    def meet(self, plan: Mapping[str, str], timed: Set[str]) -> None:
        gone = set(self._me.plan) - set(plan)
        self._me = replace(self._me, plan=dict(plan))
        with self._changing() as rows:
            rows.know(plan)
            rows.meet(timed, gone)

    def note_run(self, schedule: str, run_id: str) -> None:
        with suppress(StoreAway), self._changing() as rows:
            rows.change(schedule, run_id=run_id)

    def paused(self) -> Mapping[str, str]:
        return self.look().paused if self._paused is None else self._paused

    def change_paused(self, names: Mapping[str, str | None]) -> Mapping[str, str]:
        with self._changing() as rows:
            write_paused(rows.connection, names)
            self._paused = paused_rows(rows.connection)
            return self._paused

    def close(self, *, in_order: bool = True) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        board, self._board = self._board, None
        if board is not None:
            with suppress(WorkersError):
                if in_order:
                    with board.writing() as connection:
                        lock_sharing(board, connection)
                        forget_nodes(connection, [self._me.id])
            board.close()
        self._lock.close()

    # -- inside

    @contextmanager
    def _changing(self) -> Iterator[Rows]:
        """One transaction, alone; with it this node is heard of."""
        with self._away():
            board = self._opened()
            asked_s, asked_at = self._clock.monotonic_s(), self._clock.now_s()
            with board.writing() as connection:
                lock_sharing(board, connection)
                now_s = float(connection.execute(sa.select(board.now)).scalar_one())
                took_s = self._clock.monotonic_s() - asked_s
                offset_s = now_s - (asked_at + took_s / 2)
                up_s = asked_s - self._began_s
                beat_node(board, connection, self._me, skew_s=-offset_s, up_s=up_s)
                rows = Rows(board, connection, self._me, now_s)
                if self._former:
                    rows.inherit(self._former)
                    forget_nodes(connection, self._former)
                if asked_s - self._known_s > KNOWN_EVERY_S:
                    rows.know(self._me.plan)
                    self._known_s = asked_s
                yield rows
            self._former = []
            self._heard = _Heard(at_s=asked_s, offset_s=offset_s)

    @contextmanager
    def _away(self) -> Iterator[None]:
        try:
            yield
        except WorkersError as error:
            self._drop()
            raise StoreAway(str(error), hint=error.hint) from error

    def _drop(self) -> None:
        """The next one opens it anew, and makes the tables should they be gone."""
        with self._opening:
            board, self._board = self._board, None
            if board is not None:
                board.close()

    def _opened(self) -> Board:
        with self._opening:
            if self._board is None:
                self._board = self._open()
            return self._board

    def _judged(self, seen: Sequence[SeenNode]) -> str:
        """What is wrong with this node among the others."""
        told = []
        if abs(self._skew_s + self._heard.offset_s) > max(1.0, abs(self._skew_s) / 5):
            self._skew_s = -self._heard.offset_s  # not another text for every millisecond
        skew_s = self._skew_s
        if abs(skew_s) > SKEW_S:
            side = "ahead of" if skew_s > 0 else "behind"
            told.append(
                f"this machine's clock is {duration_text(abs(skew_s))} {side} that of the engine database, "
                "which schedules follow"
            )
        for one in seen:
            if one.node.id == self._me.id or not one.alive:
                continue
            told += [
                f"schedule {name} is defined otherwise on {one.node.host} ({one.node.pid})"
                for name, fingerprint in sorted(self._me.plan.items())
                if one.node.plan.get(name, fingerprint) != fingerprint
            ]
        return "; ".join(told)

    def _remembered(self) -> list[str]:
        """The nodes that earlier processes of this state directory were, if they are gone for certain; and note that
        this is one."""
        place, former = self._lock.place(), []
        with suppress(OSError, ValueError, TypeError, KeyError):
            kept = json.loads(self._path.read_bytes())
            if place and kept["place"] == place:
                former = [str(one) for one in kept["nodes"]][-FORMER_MAX:]
        with suppress(OSError):  # a full disk: then the lease has to pass
            write_whole(self._path, {"place": place, "nodes": [*former, self._me.id]})
        return former


def _instant(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


def look_at_shared(board: Board) -> Look:
    """What the nodes remember, for somebody who is none. Raises ``WorkersError``."""
    with board.reading() as connection:
        now_s = float(connection.execute(sa.select(board.now)).scalar_one())
        rows = Rows(board, connection, NOBODY, now_s)
        return Look(now=utc(now_s), state=rows.state(read_nodes(board, connection)), paused=paused_rows(connection))


def change_paused_shared(board: Board, names: Mapping[str, str | None]) -> Mapping[str, str]:
    """Pause (a reason) or resume (``None``) schedules on all nodes; what is paused then. Raises ``WorkersError``."""
    with board.writing() as connection:
        lock_sharing(board, connection)
        write_paused(connection, names)
        return paused_rows(connection)
