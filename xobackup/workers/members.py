"""Processes that transfer and are no workers, a control node for one: they say that they live, so that their places
count with those of workers. Nobody gives them tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from xobackup.workers.errors import BoardUnavailable
from xobackup.workers.records import BEAT_S, LEASE_S
from xobackup.workers.shares import SharedRates
from xobackup.workers.sharing_schema import member_slots, members

if TYPE_CHECKING:
    from xobackup.clock import Clock
    from xobackup.engine.limits.process import ProcessLimits
    from xobackup.workers.board import Board

GONE_S = 86_400.0
"""What is known of one that said nothing for so long is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What one says of itself."""

    id: str
    site: str
    host: str
    pid: int
    version: str


def living_members(board: Board) -> sa.Select[tuple[str]]:
    """Their ids."""
    return sa.select(members.c.id).where(members.c.seen >= board.now - LEASE_S)


def beat_member(board: Board, member: Member, *, up_s: float) -> None:
    """It lives. What the dead held is cleared away. Raises ``BoardUnavailable``."""
    told = {name: getattr(member, name) for name in ("site", "host", "pid", "version")}
    row = {**told, "since": board.now - up_s, "seen": board.now}
    with board.writing() as connection:
        if not connection.execute(sa.update(members).where(members.c.id == member.id).values(row)).rowcount:
            connection.execute(sa.insert(members).values({"id": member.id, **row}))
        connection.execute(sa.delete(member_slots).where(member_slots.c.member.not_in(living_members(board))))
        connection.execute(sa.delete(members).where(members.c.seen < board.now - GONE_S))


def leave_member(board: Board, member: str) -> None:
    """It is gone, in good order. Raises ``BoardUnavailable``."""
    with board.writing() as connection:
        connection.execute(sa.delete(member_slots).where(member_slots.c.member == member))
        connection.execute(sa.delete(members).where(members.c.id == member))


class Membership:
    """One process's, while it lives: its sign of life, its places, its shares. Begun by :meth:`join`."""

    def __init__(self, board: Board, me: Member, clock: Clock, *, tell: Callable[[str], None]) -> None:
        """``tell`` hears when the database goes away, and when it is back."""
        from xobackup.workers.slots import SharedRoom

        self._board = board
        self._me = me
        self._clock = clock
        self._tell = tell
        self._began_s = clock.monotonic_s()
        self._away = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="member", daemon=True)
        self._room = SharedRoom(board, me.id, member=True)
        self._rates = SharedRates(board, me.id, clock, goes_on=True)

    def join(self) -> None:
        """Say for the first time that it lives. Raises ``BoardUnavailable``."""
        self._beat()
        self._thread.start()
        self._rates.start()

    def hold(self, limits: ProcessLimits) -> None:
        """These limits hold over everybody from now on."""
        limits.hold_over_all(self._room, self._rates)

    def leave(self) -> None:
        """Give everything back."""
        self._ended.set()
        self._rates.close()
        self._thread.join()
        with suppress(BoardUnavailable):
            leave_member(self._board, self._me.id)
        self._board.close()

    def _beat(self) -> None:
        beat_member(self._board, self._me, up_s=self._clock.monotonic_s() - self._began_s)

    def _beat_on(self) -> None:
        while not self._ended.wait(BEAT_S):
            try:
                self._beat()
            except BoardUnavailable as error:
                if not self._away:
                    self._tell(f"limits hold in this process alone while this lasts: {error}")
                self._away = True
            else:
                self._away = False
