"""The database: SQLite (WAL) in the state directory, or PostgreSQL by URL.

* A run is written in one transaction, and written again as a whole when more is known: nobody sees half of one, two
  processes may write the same one, and a crash leaves the one before.
* Its row is written first, and so is held until the end: whoever writes the same run waits.
* Every error of a driver comes out as a :class:`~xobackup.history.errors.HistoryError` that says which database.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, SQLAlchemyError

from xobackup.history import schema
from xobackup.history.errors import HistoryDamaged, HistoryError, HistoryTooNew, HistoryUnavailable
from xobackup.history.facts import MessageFacts, PoolFacts, RunFacts, SoundnessFacts, SubjectFacts
from xobackup.history.newest import newest_good

BUSY_S = 30
"""How long a locked database is waited for."""
ROWS_AT_ONCE = 500
NAME = "history.db"


def default_url(state_directory: Path) -> str:
    return f"sqlite:///{state_directory / NAME}"


def with_password(url: str, password: str | None) -> str:
    """The URL with a password in it."""
    if password is None:
        return url
    return sa.make_url(url).set(password=password).render_as_string(hide_password=False)


def sqlite_path(url: str) -> Path | None:
    """The file that a URL means; ``None`` for a server."""
    parsed = sa.make_url(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


class Store:
    """One database; thread-safe. Made by :func:`open_store`."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.shown = engine.url.render_as_string(hide_password=True)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection, its errors ours."""
        with self._errors(), self.engine.connect() as connection:
            yield connection.execution_options(writing=False)

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction: all of it or nothing."""
        with self._errors(), self.engine.begin() as connection:
            yield connection

    def put(self, run: RunFacts, *, file: str = "", size: int = 0) -> None:
        """Write a run, and which file it came from up to which size. Replaces what was known of it."""
        with self.writing() as connection:
            key = self._run_row(connection, run)
            for table in (schema.messages, schema.subjects, schema.traffic):
                connection.execute(sa.delete(table).where(table.c.run == key))
            self._many(connection, schema.traffic, [{"run": key, **asdict(used)} for used in run.traffic])
            self._many(connection, schema.messages, [_message(told, key, None) for told in run.messages])
            for subject in run.subjects.values():
                self._subject(connection, key, run, subject)
            for subject in run.subjects.values():
                key_of = _fit(schema.latest, {"job": run.job, "uuid": subject.uuid})
                self._latest(connection, key_of["job"], key_of["uuid"], good=subject.outcome == "ok")
            for one in run.soundness:
                self._soundness(connection, run.job, one)
            for pool in run.pools:
                self._pool(connection, pool)
            if file:
                row = {"name": file, "size": size, "run_id": run.run_id, "ended": run.ended_at is not None}
                self._upsert(connection, schema.files, row, "name")

    def known_files(self) -> dict[str, tuple[int, bool]]:
        """Size and whether the run has ended, by the journal's name."""
        with self.reading() as connection:
            rows = connection.execute(sa.select(schema.files.c.name, schema.files.c.size, schema.files.c.ended))
            return {row.name: (row.size, row.ended) for row in rows}

    def forget_files(self, names: Sequence[str]) -> None:
        with self.writing() as connection:
            connection.execute(sa.delete(schema.files).where(schema.files.c.name.in_(names)))

    def put_sample(self, row: Mapping[str, Any]) -> None:
        with self.writing() as connection:
            self._many(connection, schema.samples, [row])

    def prune(self, *, runs_before: float, details_before: float) -> tuple[int, int]:
        """Delete runs that began before the first time, and what tells of runs in depth before the second.

        Returns how many runs went, and of how many VMs' runs the depth went. What is known as the latest stays.
        """
        with self.writing() as connection:
            gone = connection.execute(sa.delete(schema.runs).where(schema.runs.c.began_at < runs_before)).rowcount
            connection.execute(sa.delete(schema.messages).where(schema.messages.c.at < details_before))
            connection.execute(sa.delete(schema.samples).where(schema.samples.c.at < runs_before))
            if not _has_old_details(connection, details_before):
                return gone, 0
            old = sa.select(schema.subjects.c.id).where(schema.subjects.c.began_at < details_before)
            with_phases = sa.select(sa.func.count(schema.phases.c.subject.distinct()))
            thinned = connection.execute(with_phases.where(schema.phases.c.subject.in_(old))).scalar_one()
            for table in schema.DETAILS:
                connection.execute(sa.delete(table).where(table.c.subject.in_(old)))
            return gone, thinned

    def forget(self, uuid: str, job: str | None = None) -> int:
        """No longer count a VM that is gone, in one job or in all; its runs stay. Returns in how many it counted."""
        t, found = schema.latest, schema.soundness
        question = sa.delete(t).where(t.c.uuid == uuid)
        with self.writing() as connection:
            if job is None:
                connection.execute(sa.delete(found).where(found.c.uuid == uuid))
            return connection.execute(question if job is None else question.where(t.c.job == job)).rowcount

    def close(self) -> None:
        self.engine.dispose()

    # -- a run

    def _run_row(self, connection: sa.Connection, run: RunFacts) -> int:
        row = {
            "run_id": run.run_id,
            "verb": run.verb,
            "job": run.job,
            "job_id": run.job_id,
            "version": run.version,
            "host": run.host,
            "began_at": run.began_at,
            "ended_at": run.ended_at,
            "duration_s": run.duration_s,
            "outcome": run.outcome,
            "reason": run.reason,
            "ok": run.count("ok"),
            "failed": run.count("failed"),
            "skipped": run.count("skipped"),
            "read_bytes": run.read_bytes,
        }
        self._upsert(connection, schema.runs, row, "run_id")
        found = connection.execute(sa.select(schema.runs.c.id).where(schema.runs.c.run_id == row["run_id"]))
        return int(found.scalar_one())

    def _subject(self, connection: sa.Connection, run_key: int, run: RunFacts, one: SubjectFacts) -> None:
        plain = {key: getattr(one, key) for key in _SUBJECT_KEYS}
        inserted = connection.execute(
            sa.insert(schema.subjects).values(_fit(schema.subjects, {"run": run_key, "job": run.job, **plain}))
        )
        assert inserted.inserted_primary_key is not None
        key = int(inserted.inserted_primary_key[0])
        of_it = ((schema.disks, one.disks), (schema.phases, one.phases), (schema.points, one.points))
        for table, facts in (*of_it, (schema.checks, one.checks)):
            self._many(connection, table, [{"subject": key, **asdict(each)} for each in facts])
        self._many(connection, schema.messages, [_message(each, run_key, key) for each in one.messages])

    def _latest(self, connection: sa.Connection, job: str, uuid: str, *, good: bool) -> None:
        """From what is in the tables, so that the order in which runs come does not matter. ``good``: there is one
        more good run."""
        s, r = schema.subjects, schema.runs
        mine = sa.and_(s.c.uuid == uuid, s.c.job == job)
        joined = sa.select(s, r.c.run_id).join(r, s.c.run == r.c.id).where(mine)
        newest = joined.order_by(s.c.began_at.desc(), s.c.id.desc()).limit(1)
        row = connection.execute(newest).mappings().first()
        if row is None:
            return
        best = connection.execute(newest.where(s.c.outcome == "ok")).mappings().first()
        bad = sa.select(sa.func.count()).select_from(s).where(mine, s.c.outcome.in_(("failed", "interrupted")))
        if best is not None:
            bad = bad.where(s.c.began_at > best["began_at"])
        keys = ("kind", "name", "pool", "run_id", "began_at", "ended_at", "outcome", "reason", "mode")
        known = {key: row[key] for key in keys} | {"job": job, "uuid": uuid}
        if not known["pool"] and best is not None:
            known["pool"] = best["pool"]
        known |= {"good_at": best["began_at"] if best else None, "good_run_id": best["run_id"] if best else ""}
        if best is None:  # the run that succeeded may have been pruned
            before = connection.execute(
                sa.select(schema.latest.c.good_at, schema.latest.c.good_run_id).where(
                    schema.latest.c.job == job, schema.latest.c.uuid == uuid
                )
            ).first()
            if before is not None and before.good_at is not None and before.good_at < row["began_at"]:
                known |= {"good_at": before.good_at, "good_run_id": before.good_run_id}
        known["failures"] = connection.execute(bad).scalar_one()
        if good:
            known |= newest_good(connection, job, uuid)
        self._upsert(connection, schema.latest, known, "job", "uuid")

    def _soundness(self, connection: sa.Connection, job: str, one: SoundnessFacts) -> None:
        """The newest of either kind counts, in whatever order they come."""
        t = schema.soundness
        key = _fit(t, {"what": one.what, "uuid": one.uuid, "remote": one.remote})
        mine = sa.and_(*(t.c[name] == value for name, value in key.items()))
        before = connection.execute(sa.select(t).where(mine)).mappings().first()
        row: dict[str, Any] = dict(before or {"name": "", "damage": "", "hint": "", "job": "", "damaged_at": None})
        row |= {**key, "name": one.name or row["name"]}
        if one.damage and one.at >= (row["damaged_at"] or 0):
            row |= {"damaged_at": one.at, "damage": one.damage, "hint": one.hint, "job": job}
        if one.whole and not one.damage:
            row["whole_at"] = max(one.at, row.get("whole_at") or 0)
        self._upsert(connection, t, row, "what", "uuid", "remote")

    def _pool(self, connection: sa.Connection, one: PoolFacts) -> None:
        t = schema.pools
        key = _fit(t, {"pool": one.pool})
        newest = connection.execute(sa.select(t.c.at).where(t.c.pool == key["pool"])).scalar()
        if newest is None or newest <= one.at:
            row = {**key, "at": one.at, "vms": one.vms, "unprotected": json.dumps(one.unprotected)}
            self._upsert(connection, t, row, "pool")

    def _many(self, connection: sa.Connection, table: sa.Table, rows: Iterable[Mapping[str, Any]]) -> None:
        fitting = [_fit(table, row) for row in rows]
        for first in range(0, len(fitting), ROWS_AT_ONCE):
            connection.execute(sa.insert(table), fitting[first : first + ROWS_AT_ONCE])

    def _upsert(self, connection: sa.Connection, table: sa.Table, row: Mapping[str, Any], *keys: str) -> None:
        fitting = _fit(table, row)
        rest = {name: value for name, value in fitting.items() if name not in keys}
        insert = sqlite.insert if self.is_sqlite else postgresql.insert
        statement = insert(table).values(fitting)
        connection.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=rest))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise explained(error, self.shown) from error


def _has_old_details(connection: sa.Connection, before: float) -> bool:
    """Whether the oldest of the details are that old: asked after every run, so it must cost next to nothing."""
    for table in schema.DETAILS:
        oldest = sa.select(sa.func.min(table.c.subject)).scalar_subquery()
        question = sa.select(schema.subjects.c.began_at).where(schema.subjects.c.id == oldest)
        began_at = connection.execute(question).scalar()
        if began_at is not None and began_at < before:
            return True
    return False


_SUBJECT_KEYS = (
    "kind", "uuid", "name", "pool", "outcome", "reason", "began_at", "ended_at", "duration_s", "attempts", "mode",
    "fulls", "deltas", "fallbacks", "read_bytes", "size_bytes", "merged_blocks", "merged_bytes", "downtime_s",
)  # fmt: skip


def _message(one: MessageFacts, run: int, subject: int | None) -> dict[str, Any]:
    return {"run": run, "subject": subject, **asdict(one)}


def _fit(table: sa.Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """Texts as the column takes them: what a guest or a pool calls itself may be anything."""
    fitting: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, str):
            length = getattr(table.c[name].type, "length", None)
            fitting[name] = _clean(value)[:length]
        else:
            fitting[name] = value
    return fitting


def _clean(text: str) -> str:
    """Without what no database takes: NUL, halves of characters."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def open_store(url: str) -> Store:
    """The database with its tables as they are now, made or brought up to date. Raises ``HistoryError``."""
    try:
        parsed = sa.make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        engine = sa.create_engine(parsed, **_options(parsed))
    except (ArgumentError, NoSuchModuleError) as error:
        raise HistoryError(
            f"history.url: {error}", hint="sqlite:////path/history.db or postgresql://user@host/database"
        ) from error
    except ModuleNotFoundError as error:
        raise HistoryError(
            f"history.url: {error.name} is not installed", hint="pip install 'xobackup[postgresql]'"
        ) from error
    if engine.dialect.name not in ("sqlite", "postgresql"):
        raise HistoryError(f"history.url: {engine.dialect.name} is not supported", hint="sqlite or postgresql")
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _sqlite_connected)
        sa.event.listen(engine, "begin", _sqlite_begin)
    store = Store(engine)
    try:
        _up_to_date(store)
    except BaseException:
        store.close()
        raise
    return store


def _options(url: sa.URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        if url.database and url.database != ":memory:":
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        return {"connect_args": {"timeout": BUSY_S, "check_same_thread": False}, "poolclass": sa.QueuePool}
    return {"pool_pre_ping": True, "connect_args": {"connect_timeout": BUSY_S, "application_name": "xobackup"}}


def _sqlite_connected(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # journals are deleted on its word that their runs are in here
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _sqlite_begin(connection: sa.Connection) -> None:
    """A writer takes its turn at once, instead of failing halfway because another wrote meanwhile."""
    writing = connection.get_execution_options().get("writing", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


_UPGRADE = threading.Lock()


def _up_to_date(store: Store) -> None:
    """Alembic is only loaded when there is something to do."""
    from xobackup.history.migrations import HEAD, KNOWN, upgrade

    with store.reading() as connection:
        there = sa.inspect(connection).has_table("alembic_version")
        version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() if there else None
    if version == HEAD:
        return
    if version is not None and version not in KNOWN:
        raise HistoryTooNew(
            f"{store.shown} was changed by a newer xobackup (its tables are of revision {version}, known: {HEAD})",
            hint="use that version, or another history.url",
        )
    with _UPGRADE, store.writing() as connection:
        if not store.is_sqlite:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(7304161528)"))
        upgrade(connection)


def explained(error: SQLAlchemyError, shown: str) -> HistoryError:
    """Which database, what it said, what to do."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    text = f"{shown}: {str(cause).strip()}"
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return HistoryDamaged(text, hint="`xobackup history rebuild` makes a new one of the journals that are left")
    hints = {
        sqlite3.SQLITE_FULL: "make room; what is missing is taken from the journals at the next run",
        sqlite3.SQLITE_BUSY: "another program holds it; what is missing is taken from the journals at the next run",
        sqlite3.SQLITE_READONLY: "who runs xobackup has to be able to write it",
        sqlite3.SQLITE_CANTOPEN: "who runs xobackup has to be able to write there",
    }
    if code in hints:
        return HistoryUnavailable(text, hint=hints[code])
    if isinstance(error, OperationalError):
        return HistoryUnavailable(text, hint="is the server there, and does it let this user in?")
    return HistoryError(text)


__all__ = [
    "HistoryDamaged",
    "HistoryError",
    "HistoryTooNew",
    "HistoryUnavailable",
    "Store",
    "default_url",
    "open_store",
]
