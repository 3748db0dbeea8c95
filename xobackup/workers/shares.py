"""Rates that all processes share, by the board's database: each says about once a second what it would transfer, and
gets its part (:mod:`xobackup.engine.limits.fairness`). No transaction per block: transfers only look at what their
process has, and count.

Times of leases are by the database's clock there and by the process's own counter here, taken before the transaction
begins: so a lease is over here before it is over there.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from weakref import ref

import sqlalchemy as sa

from xobackup.engine.limits.fairness import GONE_S, SHARE_S, Claim, allowed, lowered, renewed
from xobackup.workers.errors import BoardUnavailable
from xobackup.workers.sharing_schema import shares as table

if TYPE_CHECKING:
    from xobackup.clock import Clock
    from xobackup.workers.board import Board

RENEW_S = 1.0
SHARING = 7201992
"""The advisory lock of whoever takes his shares."""
IDLE_S = 5.0
"""A share that nobody used for so long is given back."""
HEADROOM = 1.5
"""Who did not have to wait may do this much more than he did."""
REMEMBERED = 3
"""Of so many rounds the largest demand counts."""


class BoardShare:
    """One limiter's part of one rate; thread-safe. See :class:`xobackup.engine.throttle.Share`."""

    def __init__(self, rates: SharedRates, name: str, holder: str) -> None:
        self.name = name
        self.holder = holder
        self._rates = rates
        self._guard = threading.Lock()
        self._claim: Claim | None = None
        self._limit = 0.0
        self._passed = 0
        self._waited = False
        self._used_s = -IDLE_S
        self._measured_s = rates.now_s()
        self._demands: deque[float] = deque(maxlen=REMEMBERED)

    def rate(self, limit_bytes_s: float) -> float:
        now_s = self._rates.now_s()
        with self._guard:
            self._limit = limit_bytes_s
            return allowed(
                self._claim,
                limit=limit_bytes_s,
                now_s=now_s,
                unheard_s=self._rates.unheard_s(now_s),
                goes_on=self._rates.goes_on,
            )

    def passes(self, size_bytes: int) -> None:
        with self._guard:
            self._passed += size_bytes
            self._used_s = self._rates.now_s()
            new = self._claim is None
        if new:
            self._rates.hurry()

    def waits(self) -> None:
        with self._guard:
            self._waited = True
            self._used_s = self._rates.now_s()

    # -- of the one who renews it

    def wish(self) -> Wish | None:
        """What to ask for; ``None``: nothing, nobody uses it."""
        now_s = self._rates.now_s()
        with self._guard:
            if now_s - self._used_s >= IDLE_S or self._limit <= 0:
                return None
            used = self._passed / max(RENEW_S / 2, now_s - self._measured_s)
            all_of_it = self._waited or self._claim is None  # who has nothing yet cannot say how much he needs
            self._demands.append(self._limit if all_of_it else min(self._limit, used * HEADROOM))
            self._passed, self._waited, self._measured_s = 0, False, now_s
            return Wish(share=self, limit=self._limit, demand=max(self._demands), used=used)

    def expect(self, coming: Claim | None) -> None:
        """It is about to be written; ``None``: that nothing is held any more."""
        with self._guard:
            self._claim = None if coming is None else lowered(self._claim, coming)

    def settle(self, claim: Claim, began_s: float) -> None:
        """It is written, in a transaction that began then by our own counter."""
        with self._guard:
            self._claim = replace(claim, until_s=began_s + SHARE_S, gone_s=began_s + GONE_S)

    @property
    def held(self) -> bool:
        return self._claim is not None

    @property
    def busy(self) -> bool:
        """There will be something to say of it."""
        return self.held or self._rates.now_s() - self._used_s < IDLE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What one share asks for, in bytes per second."""

    share: BoardShare
    limit: float
    demand: float
    used: float


class SharedRates:
    """All shares of one process; see the module's head and :class:`xobackup.engine.limits.process.Shares`."""

    def __init__(self, board: Board, holder: str, clock: Clock, *, goes_on: bool) -> None:
        """``holder``: this process's id. ``goes_on``: it transfers also when the database was away for long."""
        self.goes_on = goes_on
        self._board = board
        self._holder = holder
        self._clock = clock
        self._numbers = itertools.count(1)
        self._shares: dict[str, ref[BoardShare]] = {}
        """By holder. Whoever had one that is not there any more has ended."""
        self._guard = threading.Lock()
        self._hurry = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._unheard_s: float | None = None
        """When the first word was begun that the database has not taken; ``None``: it took the last one."""

    def unheard_s(self, now_s: float) -> float:
        """Since when the database takes no word of ours; now, when it does."""
        since_s = self._unheard_s
        return now_s if since_s is None else since_s

    def now_s(self) -> float:
        return self._clock.monotonic_s()

    def of(self, name: str) -> BoardShare:
        with self._guard:
            share = BoardShare(self, name, f"{self._holder}/{next(self._numbers)}")
            self._shares[share.holder] = ref(share)
        return share

    def hurry(self) -> None:
        """Somebody has no share yet."""
        self._hurry.set()

    def start(self) -> None:
        """Renew in a thread of its own, until :meth:`close`."""
        self._thread = threading.Thread(target=self._renew_on, name="shares", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Everything is given back; the database may be away."""
        self._ended.set()
        self._hurry.set()
        if self._thread is not None:
            self._thread.join()
        for share in self._all():
            share.expect(None)
        with suppress(BoardUnavailable), self._board.writing() as connection:
            connection.execute(sa.delete(table).where(table.c.holder.startswith(f"{self._holder}/", autoescape=True)))

    def renew(self) -> None:
        """One word, in one transaction: what is wished for, what is given back. Raises ``BoardUnavailable``."""
        with self._guard:
            over = [holder for holder, share in self._shares.items() if share() is None]
        every = self._all()
        wishes = [wish for share in every if (wish := share.wish()) is not None]
        wishing = {wish.share for wish in wishes}
        for share in every:
            if share not in wishing and share.held:
                share.expect(None)
                over.append(share.holder)
        if not wishes and not over:
            self._unheard_s = None
            return
        began_s = self.now_s()
        if self._unheard_s is None:
            self._unheard_s = began_s
        with self._board.writing() as connection:
            made = self._made(connection, wishes, over)
        self._unheard_s = None
        for wish, claim in made:
            wish.share.settle(claim, began_s)
        with self._guard:
            self._shares = {
                holder: share for holder, share in self._shares.items() if holder not in over or share() is not None
            }

    def _made(
        self, connection: sa.Connection, wishes: Sequence[Wish], over: Sequence[str]
    ) -> list[tuple[Wish, Claim]]:
        if not self._board.is_sqlite:
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({SHARING})"))
        now_s = connection.execute(sa.select(self._board.now)).scalar_one()
        gone = sa.or_(table.c.gone <= now_s, table.c.gone > now_s + 2 * GONE_S)  # or the database's clock went back
        connection.execute(sa.delete(table).where(sa.or_(gone, table.c.holder.in_(over))))
        known: dict[str, dict[str, Claim]] = {wish.share.name: {} for wish in wishes}
        for row in connection.execute(sa.select(table).where(table.c.name.in_(list(known)))):
            known[row.name][row.holder] = Claim(
                demand=row.demand, share=row.share, floor=row.floor, until_s=row.until, gone_s=row.gone
            )
        made: list[tuple[Wish, Claim]] = []
        for wish in wishes:
            name, holder = wish.share.name, wish.share.holder
            claim = renewed(known[name], holder, demand=wish.demand, limit=wish.limit, now_s=now_s)
            known[name][holder] = claim
            wish.share.expect(claim)
            made.append((wish, claim))
        if made:
            connection.execute(sa.delete(table).where(table.c.holder.in_([wish.share.holder for wish, _ in made])))
            connection.execute(sa.insert(table), [_row(wish, claim) for wish, claim in made])
        return made

    def _all(self) -> list[BoardShare]:
        with self._guard:
            return [share for one in self._shares.values() if (share := one()) is not None]

    def _renew_on(self) -> None:
        while not self._ended.is_set():
            with suppress(BoardUnavailable):  # shares fall back by themselves
                self.renew()
            self._ended.wait(RENEW_S)  # not more often, whoever hurries
            self._hurry.clear()
            if not self._ended.is_set() and not self._busy():
                self._hurry.wait()

    def _busy(self) -> bool:
        with self._guard:
            gone = any(share() is None for share in self._shares.values())
        return gone or any(share.busy for share in self._all())


def _row(wish: Wish, claim: Claim) -> dict[str, object]:
    return {
        "name": wish.share.name,
        "holder": wish.share.holder,
        "limit_bytes_s": wish.limit,
        "demand": claim.demand,
        "share": claim.share,
        "floor": claim.floor,
        "used": wish.used,
        "until": claim.until_s,
        "gone": claim.gone_s,
    }
