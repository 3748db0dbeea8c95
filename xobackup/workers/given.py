"""What the VMs of a run were given of the remotes that it spreads them over, over everybody who does VMs of the run
(:mod:`xobackup.engine.placing.given`). While the database is away each process knows of its own only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from xobackup.engine.limits.gates import Gate
from xobackup.workers import schema
from xobackup.workers.errors import BoardUnavailable
from xobackup.workers.sharing_schema import given as table

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.limits.room import Room
    from xobackup.workers.board import Board


class BoardGiven:
    """One run's; see :class:`xobackup.engine.placing.given.Elsewhere`."""

    def __init__(self, board: Board, run: str, room: Room, cancel: CancelToken) -> None:
        """``room``: whose gates hold over all processes: one at a time decides; ``cancel`` ends the wait for that."""
        self._board = board
        self._run = run
        self._room = room
        self._cancel = cancel
        self._gate = Gate(key=f"placing {run}", name="remotes of the run", what="decisions", room=1)

    @contextmanager
    def deciding(self) -> Iterator[None]:
        with self._room.through((self._gate,), self._cancel, told=lambda _: None):
            yield

    def give(self, vm: str, remote: str, storage: str, size_bytes: int) -> None:
        this = sa.and_(table.c.run == self._run, table.c.vm == vm)
        row = {"remote": remote, "storage": storage, "size_bytes": size_bytes, "active": True}
        with suppress(BoardUnavailable), self._board.writing() as connection:
            connection.execute(sa.delete(table).where(table.c.run.not_in(sa.select(schema.runs.c.id))))
            if not connection.execute(sa.update(table).where(this).values(row)).rowcount:
                connection.execute(sa.insert(table).values({"run": self._run, "vm": vm, **row}))

    def release(self, vm: str) -> None:
        this = sa.and_(table.c.run == self._run, table.c.vm == vm)
        with suppress(BoardUnavailable), self._board.writing() as connection:
            connection.execute(sa.update(table).where(this).values(active=False))

    def promised(self, vm: str, storage: str) -> int | None:
        others = [table.c.run == self._run, table.c.vm != vm, table.c.storage == storage, table.c.active]
        return self._asked(sa.select(sa.func.coalesce(sa.func.sum(table.c.size_bytes), 0)).where(*others))

    def count(self, remote: str) -> int | None:
        its = [table.c.run == self._run, table.c.remote == remote]
        return self._asked(sa.select(sa.func.count()).select_from(table).where(*its))

    def _asked(self, question: sa.Select[Any]) -> int | None:
        """``None``: the database is away."""
        try:
            with self._board.reading() as connection:
                return int(connection.execute(question).scalar_one())
        except BoardUnavailable:
            return None
