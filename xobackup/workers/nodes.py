"""Control nodes that share schedules: who lives, with which clock, and what each runs.

A node that was not heard of for its own lease is gone, whatever the lease of who asks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from xobackup.workers import node_tables as tables

if TYPE_CHECKING:
    from xobackup.workers.board import Board

KEPT_S = 86_400.0
"""A node that said nothing for so long is not listed any more."""
SHARING = 7201992
"""The advisory lock of whoever changes what nodes share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What a control node says of itself. ``plan``: its schedules, each with what tells two definitions apart."""

    id: str
    host: str
    pid: int
    version: str
    lease_s: float
    plan: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenNode:
    """A node as the board knows it. Ages by the database's clock."""

    node: Node
    age_s: float
    up_s: float
    skew_s: float
    """Its clock minus the database's."""
    running: tuple[str, ...] = ()
    """The schedules whose runs it has."""

    @property
    def alive(self) -> bool:
        return self.age_s <= self.node.lease_s


def lock_sharing(board: Board, connection: sa.Connection) -> None:
    """One after the other, until the transaction ends."""
    if not board.is_sqlite:  # there every writer is alone anyway
        connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({SHARING})"))


def beat_node(board: Board, connection: sa.Connection, node: Node, *, skew_s: float, up_s: float) -> None:
    """The node lives."""
    table = tables.nodes
    row = {"host": node.host, "pid": node.pid, "version": node.version, "lease": node.lease_s}
    row |= {"plan": dict(node.plan), "since": board.now - up_s, "seen": board.now, "skew": skew_s}
    if not connection.execute(sa.update(table).where(table.c.id == node.id).values(row)).rowcount:
        connection.execute(sa.insert(table).values({"id": node.id, **row}))
        connection.execute(sa.delete(table).where(table.c.seen < board.now - KEPT_S))


def forget_nodes(connection: sa.Connection, nodes: Collection[str]) -> None:
    """They are gone, in good order or for certain."""
    connection.execute(sa.delete(tables.nodes).where(tables.nodes.c.id.in_(nodes)))


def nodes_of(board: Board) -> list[SeenNode]:
    """Those that were heard of within a day, by host."""
    with board.reading() as connection:
        return read_nodes(board, connection)


def read_nodes(board: Board, connection: sa.Connection) -> list[SeenNode]:
    """The same, in a transaction of the caller's."""
    table, runs = tables.nodes, tables.schedule_runs
    now = board.now.label("now")
    rows = connection.execute(sa.select(table, now).order_by(table.c.host, table.c.since)).all()
    running = connection.execute(sa.select(runs.c.name, runs.c.node).order_by(runs.c.name)).all()
    return [
        SeenNode(
            node=Node(
                id=row.id, host=row.host, pid=row.pid, version=row.version, lease_s=row.lease, plan=dict(row.plan)
            ),
            age_s=row.now - row.seen,
            up_s=row.now - row.since,
            skew_s=row.skew,
            running=tuple(one.name for one in running if one.node == row.id),
        )
        for row in rows
        if row.now - row.seen < KEPT_S
    ]
