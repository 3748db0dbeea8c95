"""What is over on the board, and what begins again: tasks of workers that were lost, runs that nobody conducts.

Everybody reaps, as often as he likes: each row is taken once, by whoever comes first. Nothing that is being done by a
worker that lives is touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from xobackup.workers import linked, schema
from xobackup.workers.records import BEAT_S, DELIVERIES_MAX, LEASE_S, RUN_KEPT_S, Task
from xobackup.workers.schema import DOING, DONE, TODO

if TYPE_CHECKING:
    from xobackup.workers.board import Board

GONE_S = 86_400.0
"""A worker that said nothing for so long is not listed any more."""
DROPPED_S = 4 * BEAT_S
"""Longer than anybody needs between taking a task and saying that he does it."""


def reap(board: Board, *, missing: bool) -> list[tuple[Task, str]]:
    """See :meth:`xobackup.workers.board.Board.reap`."""
    table, runs = schema.tasks, schema.runs
    stale = [table.c.state == DOING, table.c.worker.not_in(board.alive())]
    with board.writing() as connection:
        silent = sa.select(runs.c.id).where(runs.c.seen < board.now - 2 * LEASE_S)
        _forget_tasks(board, connection, silent, table.c.state.in_([TODO, linked.LINKED]))
        forget_runs(board, connection, sa.select(runs.c.id).where(runs.c.seen < board.now - RUN_KEPT_S))
        rows = connection.execute(sa.select(table).where(*stale).with_for_update(skip_locked=True)).all()
        again = [(task, row.worker) for row in rows if (task := begin_again(board, connection, row)) is not None]
        board.dispatch.free(connection, [row.id for row in rows])
        board.dispatch.send(connection, [task for task, _ in again])
        if missing:
            _send_missing(board, connection)
        connection.execute(sa.delete(schema.slots).where(schema.slots.c.worker.not_in(board.alive())))
        sweep(connection)
        connection.execute(sa.delete(schema.workers).where(schema.workers.c.seen < board.now - GONE_S))
    return again


def begin_again(board: Board, connection: sa.Connection, row: Any) -> Task | None:
    """Let a task wait again whose worker lost it, unless it was lost too often or is not wanted; then it ends."""
    if linked.is_member(row.order):  # its lead says what becomes of it
        linked.put_back(connection, row)
        return None
    this = sa.update(schema.tasks).where(schema.tasks.c.id == row.id)
    told = {"kind": "worker-lost", "worker": row.worker, "delivery": row.delivery}
    connection.execute(sa.insert(schema.events).values(run=row.run, task=row.id, at=board.now, event=told))
    over = row.delivery >= DELIVERIES_MAX or row.due < 0
    linked.lost(connection, row, over=over)
    if over:
        result: Mapping[str, Any] = {"lost": row.worker, "deliveries": row.delivery}
        connection.execute(this.values(state=DONE, result=result))
        return None
    connection.execute(this.values(state=TODO, worker="", taken=board.now))
    return task_of(row)


def forget_runs(board: Board, connection: sa.Connection, runs: Any) -> None:
    """What is being done of them may end; its word goes nowhere."""
    _forget_tasks(board, connection, runs, schema.tasks.c.state != DOING)
    connection.execute(sa.delete(schema.events).where(schema.events.c.run.in_(runs)))
    connection.execute(sa.delete(schema.runs).where(schema.runs.c.id.in_(runs)))


def sweep(connection: sa.Connection) -> None:
    """What is over of runs that nobody waits for."""
    table, told = schema.tasks, schema.events
    known = sa.select(schema.runs.c.id)
    connection.execute(sa.delete(table).where(table.c.run.not_in(known), table.c.state != DOING))
    connection.execute(sa.delete(told).where(told.c.run.not_in(known)))


def task_of(row: Any) -> Task:
    return Task(id=row.id, run=row.run, key=row.key, queue=row.queue, order=row.order)


def _forget_tasks(board: Board, connection: sa.Connection, runs: Any, which: sa.ColumnElement[bool]) -> None:
    table = schema.tasks
    over = sa.delete(table).where(table.c.run.in_(runs), which).returning(table.c.id)
    board.dispatch.free(connection, [row.id for row in connection.execute(over)])


def _send_missing(board: Board, connection: sa.Connection) -> None:
    table = schema.tasks
    long = sa.select(table).where(table.c.state == TODO, table.c.taken < board.now - DROPPED_S)
    waiting = {row.id: task_of(row) for row in connection.execute(long)}
    if waiting:
        lost = board.dispatch.missing(connection, list(waiting))
        board.dispatch.free(connection, lost)
        board.dispatch.send(connection, [waiting[task] for task in lost])
