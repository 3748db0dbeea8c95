"""Places that everybody shares: so many transfers from a pool, snapshots on an SR, deletions there, at a time.

A place is a gate of :mod:`xobackup.engine.limits.gates`, by its key, which names pool, SR or host by uuid. Who needs
several gets all of them at once or none, as within a process. A worker that was not heard of holds nothing. The
numbers are those of the process that asks: all of them should say the same. Control nodes and commands take places as
members (:mod:`xobackup.workers.members`), in a table of their own, which older workers neither know nor clear.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import sqlalchemy as sa

from xobackup.engine.limits.room import Room
from xobackup.workers import schema
from xobackup.workers import sharing_schema as members
from xobackup.workers.errors import BoardUnavailable
from xobackup.workers.members import living_members
from xobackup.workers.records import LEASE_S

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


def take_slots(
    board: Board, holder: str, ticket: str, needs: Sequence[tuple[Gate, int]], *, member: bool = False
) -> str:
    """Take them all; ``""`` when that was done, else what is in the way, as a sentence without a verb. ``member``:
    the holder is no worker."""
    mine = members.member_slots if member else schema.slots
    with board.writing() as connection:
        if not board.is_sqlite:
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({TAKING})"))
        taken = _taken(board, connection, [gate.key for gate, _ in needs])
        full = [gate for gate, count in needs if taken[gate.key] + count > gate.room]
        if full:
            return ", ".join(f"{one.name}: {taken[one.key]} of {one.room} {one.what} by all workers" for one in full)
        who = {"member" if member else "worker": holder}
        rows = [{"place": gate.key, "taken": count, "ticket": ticket, **who} for gate, count in needs]
        connection.execute(sa.insert(mine), rows)
    return ""


def _taken(board: Board, connection: sa.Connection, places: Sequence[str]) -> Counter[str]:
    """By everybody who lives."""
    taken: Counter[str] = Counter()
    for table, its, living in (
        (schema.slots, schema.slots.c.worker, board.alive()),
        (members.member_slots, members.member_slots.c.member, living_members(board)),
    ):
        used = (
            sa.select(table.c.place, sa.func.sum(table.c.taken))
            .where(table.c.place.in_(places), its.in_(living))
            .group_by(table.c.place)
        )
        for row in connection.execute(used):
            taken[row[0]] += int(row[1])
    return taken


def free_slots(board: Board, tickets: Sequence[str], *, member: bool = False) -> None:
    """Give back what was taken with these."""
    table = members.member_slots if member else schema.slots
    with board.writing() as connection:
        connection.execute(sa.delete(table).where(table.c.ticket.in_(tickets)))


class SharedRoom(Room):
    """A room whose gates hold over all workers and members, but for those of this process alone. Inside the process
    everybody waits as ever; who has his turn there waits for the others."""

    def __init__(self, board: Board, holder: str, *, member: bool = False) -> None:
        """``member``: the holder is no worker; then a database that is away for :data:`~records.LEASE_S` is not
        waited for, and the limits hold in this process alone."""
        super().__init__()
        self._board = board
        self._holder = holder
        self._member = member
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
        woken, said, away = threading.Event(), "", 0
        with cancel.waking(woken.set):
            while True:
                try:
                    self._pay()
                    reason = take_slots(self._board, self._holder, ticket, shared, member=self._member)
                    away = 0
                except BoardUnavailable as error:
                    reason, away = str(error), away + 1
                    if self._member and away * LOOK_S >= LEASE_S:
                        return
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
            free_slots(self._board, owed, member=self._member)
            self._owed = [one for one in self._owed if one not in owed]
