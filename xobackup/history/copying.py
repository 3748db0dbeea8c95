"""The whole history into a file, and back: an SQLite database, whatever it was in before.

Of SQLite by its online backup, which others may write to meanwhile; of a server row by row, in one view of it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from xobackup.history import schema
from xobackup.history.errors import HistoryError, HistoryUnavailable
from xobackup.history.store import ROWS_AT_ONCE, Store, open_store, sqlite_path

PAGES_AT_ONCE = 1000


def save(store: Store, path: Path) -> None:
    """A new file at ``path`` with all that is in ``store``. Raises ``HistoryError``."""
    path.unlink(missing_ok=True)
    source = sqlite_path(store.engine.url.render_as_string(hide_password=False))
    if source is None:
        target = open_store(f"sqlite:///{path}")
        try:
            _copy(store, target)
        finally:
            target.close()
    try:
        with closing(sqlite3.connect(path)) as new:
            if source is not None:
                with closing(sqlite3.connect(source)) as old:
                    old.backup(new, pages=PAGES_AT_ONCE)
            new.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
    except sqlite3.Error as error:
        raise HistoryUnavailable(f"{store.shown}: {error}") from error


def load(path: Path, store: Store) -> int:
    """All that :func:`save` wrote into a ``store`` that is empty; how many runs. Raises ``HistoryError``."""
    with store.reading() as connection:
        if connection.execute(sa.select(sa.func.count()).select_from(schema.runs)).scalar_one():
            raise HistoryError(f"{store.shown} is not empty", hint="`xobackup history rebuild` sets it aside")
    source = open_store(f"sqlite:///{path}")
    try:
        return _copy(source, store)
    finally:
        source.close()


def _copy(source: Store, target: Store) -> int:
    runs = 0
    with source.reading() as reading, target.writing() as writing:
        if not source.is_sqlite:
            reading.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        for table in schema.metadata.sorted_tables:
            found = reading.execute(sa.select(table)).mappings()
            while rows := found.fetchmany(ROWS_AT_ONCE):
                writing.execute(sa.insert(table), [dict(row) for row in rows])
                runs += len(rows) if table is schema.runs else 0
        if not target.is_sqlite:
            for table in schema.metadata.sorted_tables:
                if "id" in table.c:
                    newest = f"(SELECT COALESCE(MAX(id), 0) + 1 FROM {table.name})"  # noqa: S608 - our own names
                    sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
                    writing.execute(sa.text(f"SELECT setval({sequence}, {newest}, false)"))
    return runs
