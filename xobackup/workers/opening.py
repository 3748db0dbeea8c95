"""Opening a board by its URL: SQLite brings tasks by itself, PostgreSQL by Procrastinate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from xobackup.workers import node_tables, schema, sharing_schema
from xobackup.workers.board import Board
from xobackup.workers.embedded import EmbeddedDispatch
from xobackup.workers.errors import BoardTooNew, WorkersError

if TYPE_CHECKING:
    from xobackup.workers.procrastinate_dispatch import ProcrastinateDispatch

BUSY_S = 30
"""How long a locked file is waited for."""
INSTALL = "pip install 'xobackup[workers]'"
MAKING = 7201990
"""The advisory lock of whoever makes tables."""


def open_board(url: str) -> Board:
    """The database ``url`` with its tables, made where they are missing. Raises :class:`WorkersError`."""
    try:
        parsed = sa.make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        engine = sa.create_engine(parsed, **_options(parsed))
    except (ArgumentError, NoSuchModuleError) as error:
        hint = "postgresql://user@host/database or sqlite:////path/engine.db"
        raise WorkersError(f"engine.database: {error}", hint=hint) from error
    except ModuleNotFoundError as error:
        raise WorkersError(f"engine.database: {error.name} is not installed", hint=INSTALL) from error
    dispatch: EmbeddedDispatch | ProcrastinateDispatch
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _sqlite_connected)
        sa.event.listen(engine, "begin", _sqlite_begin)
        dispatch = EmbeddedDispatch()
    else:
        sa.event.listen(engine, "do_connect", _server_connects)
        sa.event.listen(engine, "connect", _server_connected)
        dispatch = _procrastinate(url)
    board = Board(engine, dispatch)
    try:
        _make_tables(board)
        dispatch.attach(board)
    except BaseException:
        board.close()
        raise
    return board


def _procrastinate(url: str) -> ProcrastinateDispatch:
    try:
        from xobackup.workers.procrastinate_dispatch import ProcrastinateDispatch
    except ModuleNotFoundError as error:
        raise WorkersError(f"engine.database: {error.name} is not installed", hint=INSTALL) from error
    return ProcrastinateDispatch(url)


def _make_tables(board: Board) -> None:
    with board.writing() as connection:
        if not board.is_sqlite:  # two who begin at once
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({MAKING})"))
        assert node_tables.nodes.metadata is sharing_schema.shares.metadata is schema.metadata, "they are made too"
        schema.metadata.create_all(connection, checkfirst=True)
        found = connection.execute(sa.select(schema.about.c.version)).scalar()
        if found is None:
            connection.execute(sa.insert(schema.about).values(id=1, version=schema.VERSION))
    if found is not None and found > schema.VERSION:
        raise BoardTooNew(board.shown, found, schema.VERSION)


def _options(url: sa.URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        if url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        return {"connect_args": {"timeout": BUSY_S, "check_same_thread": False}, "poolclass": sa.QueuePool}
    from xobackup.workers.bounded import CALL_S, TCP

    arguments = {**TCP, "application_name": "xobackup"}
    sizes = {"pool_size": 10, "max_overflow": 20, "pool_timeout": CALL_S}
    return {"pool_pre_ping": True, **sizes, "connect_args": arguments}


def _server_connects(_dialect: object, _record: object, arguments: Any, named: Any) -> Any:
    from xobackup.workers.bounded import BoundedConnection

    return BoundedConnection.connect(*arguments, **named)


def _server_connected(connection: Any, _record: object) -> None:
    from xobackup.workers.bounded import SETTINGS

    for setting in SETTINGS:
        connection.execute(setting)
    connection.commit()


def _sqlite_connected(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")  # what a power cut loses here ends with the processes anyway
    cursor.close()


def _sqlite_begin(connection: sa.Connection) -> None:
    """A writer takes its turn at once, instead of failing halfway because another wrote meanwhile."""
    writing = connection.get_execution_options().get("writing", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
