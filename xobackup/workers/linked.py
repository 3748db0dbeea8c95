"""Tasks that are begun, lost and ended together: a group of VMs, done by one worker.

The group is a task of its own (the *lead*), brought to workers like any other. Each of its VMs has a row too, with
the VM's key, that is brought to nobody: it becomes ``doing`` in the transaction that begins the lead, or nothing
does. So the unique index over keys that are being done keeps every other task of these VMs away, whoever asks, and
the other way round. Versions that know no groups may take the rows of a dead worker's group apart (they let each wait
for itself, in a queue that they do not serve); whoever is brought one puts it back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from xobackup.workers.kinds import GROUP, MEMBER, kind_of
from xobackup.workers.records import Task
from xobackup.workers.schema import DOING, TODO, tasks

if TYPE_CHECKING:
    from xobackup.workers.board import Board

LINKED = "linked"
"""The state of a row that waits with its lead."""
BEGINNING = 7201993
"""The advisory lock of whoever begins a group: two of them must not wait for each other's VMs."""
AGAIN_S = 1.0
"""Before a group is offered again of which a VM is being done elsewhere."""


def member_ids(order: Mapping[str, Any]) -> list[str]:
    """The rows that belong to a lead; none for every other task."""
    return [str(one) for one in order.get("linked", ())] if kind_of(order) == GROUP else []


def is_member(order: Mapping[str, Any]) -> bool:
    return kind_of(order) == MEMBER


def put_linked(board: Board, lead: Task, members: Sequence[Task]) -> None:
    """A group, and the rows of its VMs. Raises ``BoardUnavailable``."""
    with board.writing() as connection:
        now_s = connection.execute(sa.select(board.now)).scalar_one()
        fresh = {"delivery": 0, "put": now_s, "due": now_s, "taken": now_s}
        rows = [
            {"id": one.id, "run": one.run, "key": one.key, "queue": one.queue, "order": dict(one.order), **fresh}
            for one in (lead, *members)
        ]
        states = [TODO, *(LINKED for _ in members)]
        connection.execute(
            sa.insert(tasks), [{**row, "state": state} for row, state in zip(rows, states, strict=True)]
        )
        board.dispatch.send(connection, [lead])


def begun(board: Board, connection: sa.Connection, row: Any) -> bool:
    """After a task became ``doing``: its members too. ``False``: it cannot be, and what was written must not stay."""
    members = member_ids(row.order)
    if not members:
        return True
    if not board.is_sqlite:
        connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({BEGINNING})"))
    waiting = sa.update(tasks).where(tasks.c.id.in_(members), tasks.c.state.in_([LINKED, TODO]))
    done = connection.execute(
        waiting.values(state=DOING, worker=row.worker, delivery=row.delivery, taken=board.now)
    ).rowcount
    return bool(done == len(members))


def put_back(connection: sa.Connection, row: Any) -> None:
    """A member waits with its lead again."""
    back = sa.update(tasks).where(tasks.c.id == row.id)
    connection.execute(back.values(state=LINKED, worker="", due=sa.func.abs(tasks.c.due)))


def lost(connection: sa.Connection, row: Any, *, over: bool) -> None:
    """A lead was lost: its members wait with it, or are gone with it when it is ``over``."""
    members = member_ids(row.order)
    if members and over:
        connection.execute(sa.delete(tasks).where(tasks.c.id.in_(members)))
    elif members:
        back = sa.update(tasks).where(tasks.c.id.in_(members))
        connection.execute(back.values(state=LINKED, worker=""))


def ended(connection: sa.Connection, order: Mapping[str, Any]) -> None:
    """A lead has ended: its VMs are free."""
    members = member_ids(order)
    if members:
        connection.execute(sa.delete(tasks).where(tasks.c.id.in_(members)))


def postpone(board: Board, task: str) -> None:
    """A group that could not be begun is not offered at once again, so that what waits behind it is."""
    with board.writing() as connection:
        row = connection.execute(
            sa.select(tasks.c.order).where(tasks.c.id == task, tasks.c.state == TODO)
        ).one_or_none()
        if row is not None and member_ids(row.order):
            later = sa.update(tasks).where(tasks.c.id == task, tasks.c.state == TODO)
            connection.execute(later.values(due=board.now + AGAIN_S))
