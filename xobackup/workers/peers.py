"""How workers know each other: the certificate of each, where its relay is if it has one, and who may be led where.

A certificate is public. It belongs to one process, and means something only while the board hears of that worker.
What a worker may read through a relay is what the orders of tasks say that it is doing now; so when such a task ends,
is lost, or is given to somebody else, the right ends too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from xobackup.relay.errors import Refused
from xobackup.relay.lines import RelayAt
from xobackup.relay.server import Known
from xobackup.workers import schema
from xobackup.workers.errors import BoardUnavailable
from xobackup.workers.records import LEASE_S
from xobackup.workers.schema import DOING

if TYPE_CHECKING:
    from xobackup.workers.board import Board

FORGOTTEN_S = 86_400.0
"""A certificate whose worker is not heard of is dropped after that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A worker that lives. ``address``: of its relay, ``""`` without one. ``certificate``: PEM."""

    worker: str
    site: str
    address: str
    certificate: str
    draining: bool = False

    @property
    def relays(self) -> bool:
        """Whether new tasks may be led through it."""
        return bool(self.address) and not self.draining


def announce(board: Board, worker: str, *, address: str, certificate: str) -> None:
    """The worker has this certificate from now on, and a relay at ``address`` (``""``: none)."""
    table, workers = schema.peers, schema.workers
    with board.writing() as connection:
        connection.execute(sa.delete(table).where(table.c.worker == worker))
        row = {"worker": worker, "address": address, "certificate": certificate, "since": board.now}
        connection.execute(sa.insert(table).values(row))
        known = sa.select(workers.c.id)
        gone = sa.delete(table).where(table.c.since < board.now - FORGOTTEN_S, table.c.worker.not_in(known))
        connection.execute(gone)


def living_peers(board: Board) -> list[Peer]:
    """Those that live and have a certificate. Raises ``BoardUnavailable``."""
    table, workers = schema.peers, schema.workers
    columns = (table.c.worker, table.c.address, table.c.certificate, workers.c.site, workers.c.draining)
    found = sa.select(*columns).where(workers.c.id == table.c.worker, workers.c.seen >= board.now - LEASE_S)
    with board.reading() as connection:
        rows = connection.execute(found.order_by(table.c.worker)).all()
    return [
        Peer(
            worker=row.worker,
            site=row.site,
            address=row.address,
            certificate=row.certificate,
            draining=bool(row.draining),
        )
        for row in rows
    ]


def led_to(board: Board, worker: str) -> set[tuple[str, str]]:
    """Places, each with the site through whose relay, that tasks which this living worker does are led to."""
    tasks, workers = schema.tasks, schema.workers
    alive = sa.exists().where(workers.c.id == worker, workers.c.seen >= board.now - LEASE_S)
    its = sa.select(tasks.c.order).where(tasks.c.worker == worker, tasks.c.state == DOING, alive)
    with board.reading() as connection:
        orders = [row.order for row in connection.execute(its)]
    through = [order.get("through") for order in orders if isinstance(order, dict)]
    return {(str(place), str(site)) for one in through if isinstance(one, dict) for place, site in one.items()}


def relays_of(board: Board, site: str) -> list[RelayAt]:
    """The relays of a site that live, those that go on for longest first. Raises
    :class:`~xobackup.relay.errors.Refused` while the board cannot be asked."""
    try:
        found = [one for one in living_peers(board) if one.site == site and one.address]
    except BoardUnavailable as error:
        raise Refused(str(error), transient=True) from error
    staying = [one for one in found if not one.draining]
    return [RelayAt(worker=one.worker, address=one.address, certificate=one.certificate) for one in staying or found]


class BoardOfRelay:
    """What the relay of ``site`` asks the board: :class:`xobackup.relay.server.Board`. ``gives``: the places that
    this worker leads to."""

    def __init__(self, board: Board, *, site: str, gives: Sequence[str]) -> None:
        self._board = board
        self._site = site
        self._gives = frozenset(gives)

    def living(self) -> list[Known]:
        try:
            return [Known(worker=one.worker, certificate=one.certificate) for one in living_peers(self._board)]
        except BoardUnavailable as error:
            raise Refused(str(error), transient=True) from error

    def may(self, worker: str, place: str) -> bool:
        try:
            return place in self._gives and (place, self._site) in led_to(self._board, worker)
        except BoardUnavailable as error:
            raise Refused(str(error), transient=True) from error
