"""Everything that the board knows now, in one reading: who lives, what waits, who shares which limit. For people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from xobackup.workers import schema
from xobackup.workers.kinds import MEMBER, kind_of, site_of
from xobackup.workers.members import living_members
from xobackup.workers.nodes import SeenNode, nodes_of
from xobackup.workers.peers import living_peers
from xobackup.workers.records import LEASE_S, Seen
from xobackup.workers.sharing_schema import member_slots, members, shares, unplaced

if TYPE_CHECKING:
    from xobackup.workers.board import Board

TASKS_MAX = 2000
"""Of each kind, the oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A VM that waits. ``queue``: of which site, ``*``: of any, ``-``: of none that there is; ``busy``: another task
    of it is being done; ``reason``: why it is no task yet, else ``""``."""

    queue: str
    vm: str
    vm_name: str
    job: str
    age_s: float
    busy: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """A task in the hands of a worker."""

    worker: str
    order: Mapping[str, Any]
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRate:
    """A rate and what of it is used, bytes per second. ``limit``: as those say who use it; ``holders``: how many."""

    name: str
    limit: float
    shares: float
    used: float
    holders: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSeen:
    """A control node, or a command, that transfers."""

    id: str
    site: str
    host: str
    pid: int
    version: str
    age_s: float
    up_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardStanding:
    """``queued``: how many tasks wait, by queue, of which :data:`TASKS_MAX` are listed; ``places``: how many are
    taken, by the key of the gate."""

    workers: tuple[Seen, ...]
    waiting: tuple[Waiting, ...]
    queued: Mapping[str, int]
    doing: tuple[Doing, ...]
    members: tuple[MemberSeen, ...]
    rates: tuple[SharedRate, ...]
    places: Mapping[str, int]
    nodes: tuple[SeenNode, ...] = ()
    relays: Mapping[str, str] = field(default_factory=dict)
    """Their addresses, by worker."""


def standing_of(board: Board) -> BoardStanding:
    """Raises ``BoardUnavailable``."""
    workers, queued = board.workers(), Counter[str]()
    nodes, peers = nodes_of(board), living_peers(board)
    for queue, count in board.waiting().items():
        queued[site_of(queue)] += count
    with board.reading() as connection:
        return BoardStanding(
            workers=tuple(workers),
            waiting=tuple(
                sorted([*_waiting(board, connection), *_unplaced(board, connection)], key=lambda one: -one.age_s)
            ),
            queued=queued,
            doing=tuple(_doing(board, connection)),
            members=tuple(_members(board, connection)),
            nodes=tuple(nodes),
            relays={one.worker: one.address for one in peers if one.address},
            rates=tuple(_rates(board, connection)),
            places=_places(board, connection),
        )


def _waiting(board: Board, connection: sa.Connection) -> list[Waiting]:
    table = schema.tasks
    busy = table.c.key.in_(sa.select(table.c.key).where(table.c.state == schema.DOING))
    found = sa.select(table.c.queue, table.c.key, table.c.order, (board.now - table.c.put).label("age"), busy)
    found = found.where(table.c.state == schema.TODO).order_by(table.c.put).limit(TASKS_MAX)
    return [
        Waiting(
            queue=site_of(row[0]),
            vm=str(row[2].get("vm") or row[1]),
            vm_name=str(row[2].get("vm_name", "")),
            job=str(row[2].get("job", "")),
            age_s=row[3],
            busy=bool(row[4]),
        )
        for row in connection.execute(found)
    ]


def _unplaced(board: Board, connection: sa.Connection) -> list[Waiting]:
    living = sa.select(schema.runs.c.id).where(schema.runs.c.seen >= board.now - 2 * LEASE_S)
    found = sa.select(unplaced, (board.now - unplaced.c.since).label("age")).where(unplaced.c.run.in_(living))
    return [
        Waiting(queue=row.site, vm=row.vm, vm_name=row.vm_name, job=row.job, age_s=row.age, reason=row.reason)
        for row in connection.execute(found.order_by(unplaced.c.since).limit(TASKS_MAX))
    ]


def _doing(board: Board, connection: sa.Connection) -> list[Doing]:
    table = schema.tasks
    found = sa.select(table.c.worker, table.c.order, (board.now - table.c.taken).label("age"))
    found = found.where(table.c.state == schema.DOING).order_by(table.c.taken).limit(TASKS_MAX)
    return [
        Doing(worker=row[0], order=row[1], age_s=row[2])
        for row in connection.execute(found)
        if kind_of(row[1]) != MEMBER
    ]


def _members(board: Board, connection: sa.Connection) -> list[MemberSeen]:
    found = sa.select(members, (board.now - members.c.seen).label("age"), (board.now - members.c.since).label("up"))
    found = found.where(members.c.id.in_(living_members(board))).order_by(members.c.site, members.c.host)
    return [
        MemberSeen(
            id=row.id,
            site=row.site,
            host=row.host,
            pid=row.pid,
            version=row.version,
            age_s=row.age,
            up_s=row.up,
        )
        for row in connection.execute(found)
    ]


def _rates(board: Board, connection: sa.Connection) -> list[SharedRate]:
    living = sa.select(
        shares.c.name,
        sa.func.max(shares.c.limit_bytes_s),
        sa.func.sum(shares.c.share),
        sa.func.sum(shares.c.used),
        sa.func.count(),
    ).where(shares.c.until > board.now)
    return [
        SharedRate(name=row[0], limit=row[1], shares=row[2], used=row[3], holders=row[4])
        for row in connection.execute(living.group_by(shares.c.name).order_by(shares.c.name))
    ]


def _places(board: Board, connection: sa.Connection) -> dict[str, int]:
    taken: dict[str, int] = {}
    for table, its, living in (
        (schema.slots, schema.slots.c.worker, board.alive()),
        (member_slots, member_slots.c.member, living_members(board)),
    ):
        used = sa.select(table.c.place, sa.func.sum(table.c.taken)).where(its.in_(living)).group_by(table.c.place)
        for row in connection.execute(used):
            taken[row[0]] = taken.get(row[0], 0) + int(row[1])
    return dict(sorted(taken.items()))
