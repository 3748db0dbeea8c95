"""The rows of :mod:`.shared` in one transaction that nobody else changes them in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from xobackup.clock import utc
from xobackup.service.store import Begun, Running, State
from xobackup.workers import node_tables as tables
from xobackup.workers.nodes import Node, SeenNode, read_nodes

if TYPE_CHECKING:
    from xobackup.workers.board import Board

FORGOTTEN_S = 8 * 86_400.0
"""What no node followed for so long is new when one does."""


def paused_rows(connection: sa.Connection) -> dict[str, str]:
    """Reasons, by schedule."""
    table = tables.pauses
    return {row.name: row.reason for row in connection.execute(sa.select(table).order_by(table.c.name))}


def write_paused(connection: sa.Connection, names: Mapping[str, str | None]) -> None:
    """Pause (a reason) or resume (``None``)."""
    connection.execute(sa.delete(tables.pauses).where(tables.pauses.c.name.in_(list(names))))
    rows = [{"name": name, "reason": reason} for name, reason in names.items() if reason is not None]
    if rows:
        connection.execute(sa.insert(tables.pauses), rows)


@dataclass(frozen=True, slots=True)
class Rows:
    """See the module's head. ``me``: whose changes these are; ``now_s``: by the database's clock."""

    board: Board
    connection: sa.Connection
    me: Node
    now_s: float

    def state(self, nodes: Sequence[SeenNode]) -> State:
        """All of it, as this node sees it."""
        settled = self.connection.execute(sa.select(tables.schedules)).all()
        runs = self.connection.execute(sa.select(tables.schedule_runs)).all()
        return State(
            settled={row.name: datetime.fromisoformat(row.settled) for row in settled},
            running={row.name: self._running(row, nodes) for row in runs},
        )

    def _running(self, row: Any, nodes: Sequence[SeenNode]) -> Running:
        fresh = {
            "nominal": datetime.fromisoformat(row.nominal),
            "began": utc(row.began),
            "host": row.host,
            "again": bool(row.again),
            "run_id": row.run_id,
        }
        if row.node == self.me.id:
            return Running(**fresh)
        node = next((one for one in nodes if one.node.id == row.node), None)
        seen = None if node is None else utc(self.now_s - node.age_s)
        return Running(node=row.node, seen=seen, gone=node is None or not node.alive, **fresh)

    def is_mine(self, schedule: str) -> bool:
        row = self._row(schedule)
        return row is not None and row.node == self.me.id

    def begin(
        self, schedule: str, nominal: datetime, *, since: datetime | None = None, instead_of: str | None = None
    ) -> Begun:
        """See :meth:`xobackup.service.store.ScheduleStore.begin`."""
        row = self._row(schedule)
        if instead_of is not None and (row is None or row.node != (instead_of or self.me.id)):
            return Begun.LATE
        if row is not None and row.node != self.me.id and self._lives(row.node):
            if since is not None or instead_of is not None:
                return Begun.LATE
            self.change(schedule, again=True)
            return Begun.ELSEWHERE
        known = self._settled(schedule)
        if since is not None and known != since:
            return Begun.LATE
        self._settle(schedule, known, nominal if known is None else max(known, nominal))
        self.connection.execute(sa.delete(tables.schedule_runs).where(tables.schedule_runs.c.name == schedule))
        new = {"name": schedule, "nominal": _text(nominal), "began": self.now_s, "again": False}
        new |= {"node": self.me.id, "host": self.me.host}
        self.connection.execute(sa.insert(tables.schedule_runs).values(new))
        return Begun.HERE

    def end(self, schedule: str, *, goes_on: bool) -> bool:
        """Ours has ended; returns whether one more was asked for, and goes on now."""
        row = self._row(schedule)
        assert row is not None, "it is ours"
        if goes_on or row.again:
            self.change(schedule, again=False)
            return bool(row.again) and not goes_on
        self.connection.execute(sa.delete(tables.schedule_runs).where(tables.schedule_runs.c.name == schedule))
        return False

    def change(self, schedule: str, **values: object) -> None:
        """Of whoever's run it is; the run's id only of ours."""
        table = tables.schedule_runs
        which = [table.c.name == schedule]
        if "run_id" in values:
            which.append(table.c.node == self.me.id)
        self.connection.execute(sa.update(table).where(*which).values(**values))

    def settle(self, schedule: str, nominal: datetime, *, since: datetime | None) -> bool:
        known = self._settled(schedule)
        if known != since:
            return False
        self._settle(schedule, known, nominal)
        return True

    def meet(self, timed: Collection[str], gone: Collection[str]) -> None:
        """New ``timed`` ones are settled up to now; forget those ``gone`` that no listed node follows, and what
        nobody knew for long."""
        known = set(self.connection.execute(sa.select(tables.schedules.c.name)).scalars())
        for name in sorted(set(timed) - known):
            self._settle(name, None, utc(self.now_s))
        others = [one.node for one in read_nodes(self.board, self.connection) if one.node.id != self.me.id]
        nobodys = {name for name in gone if not any(name in one.plan for one in others)}
        table = tables.schedules
        old = sa.select(table.c.name).where(
            table.c.known < self.now_s - FORGOTTEN_S, table.c.name.not_in(list(timed))
        )
        nobodys |= set(self.connection.execute(old).scalars())
        for one in (tables.schedules, tables.schedule_runs):
            self.connection.execute(sa.delete(one).where(one.c.name.in_(sorted(nobodys))))

    def know(self, names: Collection[str]) -> None:
        """Somebody follows these."""
        table = tables.schedules
        self.connection.execute(sa.update(table).where(table.c.name.in_(list(names))).values(known=self.now_s))

    def inherit(self, nodes: Collection[str]) -> None:
        """What these had is ours: they are gone for certain."""
        table = tables.schedule_runs
        taken = sa.update(table).where(table.c.node.in_(nodes)).values(node=self.me.id, host=self.me.host)
        self.connection.execute(taken)

    def _row(self, schedule: str) -> Any:
        table = tables.schedule_runs
        return self.connection.execute(sa.select(table).where(table.c.name == schedule)).one_or_none()

    def _lives(self, node: str) -> bool:
        table = tables.nodes
        alive = sa.select(table.c.id).where(table.c.id == node, table.c.seen >= self.now_s - table.c.lease)
        return self.connection.execute(alive).first() is not None

    def _settled(self, schedule: str) -> datetime | None:
        table = tables.schedules
        text = self.connection.execute(sa.select(table.c.settled).where(table.c.name == schedule)).scalar()
        return None if text is None else datetime.fromisoformat(text)

    def _settle(self, schedule: str, known: datetime | None, nominal: datetime) -> None:
        table = tables.schedules
        if known is None:
            row = {"name": schedule, "settled": _text(nominal), "known": self.now_s}
            self.connection.execute(sa.insert(table).values(row))
        else:
            changed = sa.update(table).where(table.c.name == schedule)
            self.connection.execute(changed.values(settled=_text(nominal), known=self.now_s))


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
