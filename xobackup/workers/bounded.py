"""Connections to PostgreSQL in which nothing hangs: whatever swallows packets, bytes or a whole server in between.

Three bounds. The TCP of both machines gives up on a peer that is silent (:data:`TCP`, and the same for the server in
:data:`SETTINGS`: while it waits for the rest of what a client sends it knows no other bound, and keeps the locks of
the transaction). The server gives up on a statement, or on a transaction whose client went away or was stopped with a
lock in its hands. And we give up on an answer that does not come within :data:`CALL_S`, which is below the lease of a
worker: then the connection is closed and the call has failed, as that of a server that went away.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from time import monotonic
from typing import Any

import psycopg

CONNECT_S = 5
"""How long a server may take to let us in."""
CALL_S = 12.0
TCP: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 2,
    "tcp_user_timeout": 12_000,
    "connect_timeout": CONNECT_S,
}
SETTINGS = (
    "SET statement_timeout = '10s'",
    "SET idle_in_transaction_session_timeout = '10s'",
    "SET tcp_keepalives_idle = 5",
    "SET tcp_keepalives_interval = 3",
    "SET tcp_keepalives_count = 2",
    "SET tcp_user_timeout = 12000",
)


class BoundedConnection(psycopg.Connection[Any]):
    """For SQLAlchemy."""

    def wait(self, gen: Any, *more: Any, **named: Any) -> Any:
        try:
            return super().wait(_bounded(gen), *more, **named)
        except _TooLate as late:
            self.close()
            raise psycopg.OperationalError(str(late)) from None


class BoundedAsyncConnection(psycopg.AsyncConnection[Any]):
    """For Procrastinate. Only listening may take as long as it likes."""

    _listens = False

    async def wait(self, gen: Any, *more: Any, **named: Any) -> Any:
        if self._listens:
            return await super().wait(gen, *more, **named)
        try:
            return await super().wait(_bounded(gen), *more, **named)
        except _TooLate as late:
            await self.close()
            raise psycopg.OperationalError(str(late)) from None

    async def notifies(self, **named: Any) -> AsyncGenerator[psycopg.Notify]:
        self._listens = True
        try:
            async for one in super().notifies(**named):
                yield one
        finally:
            self._listens = False


class _TooLate(Exception):
    def __init__(self) -> None:
        super().__init__(f"the server did not answer within {CALL_S:.0f} s")


def _bounded(inner: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """The same generator of waits, as long as it may take. Psycopg looks in ten times a second."""
    end_s = monotonic() + CALL_S
    try:
        wanted = next(inner)
        while True:
            ready = yield wanted
            if not ready and monotonic() > end_s:
                raise _TooLate
            wanted = inner.send(ready)
    except StopIteration as done:
        return done.value
