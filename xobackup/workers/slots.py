"""Places that all workers share: so many transfers from a pool, snapshots on an SR, deletions there, at a time.

A place is a gate of :mod:`xobackup.engine.limits.gates`, by its key, which names pool, SR or host by uuid. Who needs
several gets all of them at once or none, as within a process. A worker that was not heard of holds nothing. The
numbers are those of the worker that asks: all of them should say the same.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import sqlalchemy as sa

from xobackup.engine.limits.room import Room
from xobackup.workers import schema
from xobackup.workers.errors import BoardUnavailable

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.limits.gates import Gate
    from xobackup.workers.board import Board

LOOK_S = 0.5
"""Between two looks at places that are taken."""
TAKING = 7201991
"""The advisory lock of whoever takes places."""
PROCESS = "process"
"""The beginning of the key of a gate that belongs to one process."""


def take_slots(board: Board, worker: str, ticket: str, needs: Sequence[tuple[Gate, int]]) -> str:
    """Take them all; ``""`` when that was done, else what is in the way, as a sentence without a verb."""
    table = schema.slots
    with board.writing() as connection:
        if not board.is_sqlite:
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({TAKING})"))
        used = (
            sa.select(table.c.place, sa.func.sum(table.c.taken))
            .where(table.c.place.in_([gate.key for gate, _ in needs]), table.c.worker.in_(board.alive()))
            .group_by(table.c.place)
        )
        taken = {row[0]: int(row[1]) for row in connection.execute(used)}
        full = [gate for gate, count in needs if taken.get(gate.key, 0) + count > gate.room]
        if full:
            return ", ".join(f"{one.name}: {taken[one.key]} of {one.room} {one.what} by all workers" for one in full)
        rows = [{"place": gate.key, "taken": count, "worker": worker, "ticket": ticket} for gate, count in needs]
        connection.execute(sa.insert(table), rows)
    return ""


def free_slots(board: Board, tickets: Sequence[str]) -> None:
    """Give back what was taken with these."""
    with board.writing() as connection:
        connection.execute(sa.delete(schema.slots).where(schema.slots.c.ticket.in_(tickets)))


class SharedRoom(Room):
    """A room whose gates hold over all workers, but for those of this process alone. Inside the process everybody
    waits as ever; who has his turn there waits for the others."""

    def __init__(self, board: Board, worker: str) -> None:
        super().__init__()
        self._board = board
        self._worker = worker
        self._owed: list[str] = []
        """Tickets that could not be given back."""

    @contextmanager
    def through(
        self, gates: tuple[Gate, ...], cancel: CancelToken, *, count: int = 1, told: Callable[[str], None]
    ) -> Iterator[None]:
        shared = [(gate, min(count, gate.room)) for gate in gates if not gate.key.startswith(PROCESS)]
        with super().through(gates, cancel, count=count, told=told):
            if not shared:
                yield
                return
            ticket = uuid.uuid4().hex
            try:
                self._take(ticket, shared, cancel, told)
                yield
            finally:
                self._owed.append(ticket)
                with suppress(BoardUnavailable):
                    self._pay()

    def _take(
        self, ticket: str, shared: Sequence[tuple[Gate, int]], cancel: CancelToken, told: Callable[[str], None]
    ) -> None:
        woken, said = threading.Event(), ""
        with cancel.waking(woken.set):
            while True:
                try:
                    self._pay()
                    reason = take_slots(self._board, self._worker, ticket, shared)
                except BoardUnavailable as error:
                    reason = str(error)
                if not reason:
                    return
                if reason != said:
                    said = reason
                    told(reason)
                woken.wait(LOOK_S)
                cancel.check()

    def _pay(self) -> None:
        owed = list(self._owed)
        if owed:
            free_slots(self._board, owed)
            self._owed = [one for one in self._owed if one not in owed]
