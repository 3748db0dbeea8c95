"""Questions to the database. Every one is bounded: by a number of rows, by a time, or by the VMs that there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from xobackup.history import schema
from xobackup.history.store import Store

Row = Mapping[str, Any]


def runs(
    store: Store, *, limit: int = 50, before: float | None = None, job: str | None = None, outcome: str | None = None
) -> list[Row]:
    """Runs, the newest first. ``before``: only those that began earlier, to page on."""
    t = schema.runs
    question = sa.select(t).order_by(t.c.began_at.desc(), t.c.id.desc()).limit(limit)
    if before is not None:
        question = question.where(t.c.began_at < before)
    if job is not None:
        question = question.where(t.c.job == job)
    if outcome is not None:
        question = question.where(t.c.outcome == outcome)
    return _all(store, question)


def run_ids(store: Store, beginning: str, *, limit: int = 3) -> list[str]:
    """Ids of runs that begin so, the newest first: people shorten them."""
    t = schema.runs
    question = sa.select(t.c.run_id).where(t.c.run_id.startswith(beginning, autoescape=True))
    with store.reading() as connection:
        return list(connection.scalars(question.order_by(t.c.began_at.desc()).limit(limit)))


def run(store: Store, run_id: str) -> dict[str, Any] | None:
    """One run in depth: its columns, ``subjects`` with ``disks``, ``phases``, ``points`` and ``messages`` each, and
    ``messages`` and ``traffic`` of its own. The depth is empty where it was pruned."""
    with store.reading() as connection:
        head = connection.execute(sa.select(schema.runs).where(schema.runs.c.run_id == run_id)).mappings().first()
        if head is None:
            return None
        found: dict[str, Any] = dict(head)
        key = found["id"]

        def of_run(table: sa.Table) -> list[dict[str, Any]]:
            rows = connection.execute(sa.select(table).where(table.c.run == key).order_by(table.c.id)).mappings()
            return [dict(row) for row in rows]

        found["subjects"] = of_run(schema.subjects)
        by_id = {one["id"]: one for one in found["subjects"]}
        for one in found["subjects"]:
            one |= {"disks": [], "phases": [], "points": [], "checks": [], "messages": []}
        mine = sa.select(schema.subjects.c.id).where(schema.subjects.c.run == key)
        for table in (*schema.DETAILS, schema.checks):
            question = sa.select(table).where(table.c.subject.in_(mine)).order_by(table.c.id)
            for row in connection.execute(question).mappings():
                by_id[row["subject"]][table.name].append(dict(row))
        found["messages"] = []
        for message in of_run(schema.messages):
            (by_id[message["subject"]] if message["subject"] else found)["messages"].append(message)
        found["traffic"] = of_run(schema.traffic)
    return found


def latest(store: Store, *, uuid: str | None = None) -> list[Row]:
    """What is known now of every VM of every job, or of one VM, by name."""
    t = schema.latest
    question = sa.select(t).order_by(t.c.name, t.c.uuid, t.c.job)
    return _all(store, question if uuid is None else question.where(t.c.uuid == uuid))


def subjects(
    store: Store, uuid: str, *, limit: int = 50, before: float | None = None, job: str | None = None
) -> list[Row]:
    """Runs of one VM or pool, the newest first, with their ``run_id``."""
    s = schema.subjects
    question = sa.select(s, schema.runs.c.run_id).join(schema.runs, s.c.run == schema.runs.c.id)
    question = question.where(s.c.uuid == uuid).order_by(s.c.began_at.desc(), s.c.id.desc()).limit(limit)
    if before is not None:
        question = question.where(s.c.began_at < before)
    if job is not None:
        question = question.where(s.c.job == job)
    return _all(store, question)


def checks(store: Store, uuid: str, *, limit: int = 10) -> list[Row]:
    """Health checks of one VM, the newest first."""
    c, s = schema.checks, schema.subjects
    question = sa.select(c, s.c.job).join(s, c.c.subject == s.c.id).where(s.c.uuid == uuid)
    return _all(store, question.order_by(c.c.at.desc(), c.c.id.desc()).limit(limit))


def uuids_called(store: Store, name: str) -> list[str]:
    """Uuids of what is counted and called so, or else of what was in any run; a uuid is its own name."""
    with store.reading() as connection:
        for t in (schema.latest, schema.subjects):
            question = sa.select(t.c.uuid).where(sa.or_(t.c.uuid == name, t.c.name == name)).distinct()
            if found := list(connection.scalars(question)):
                return found
    return []


def typical(store: Store, uuid: str, job: str, *, runs: int = 30) -> list[Row]:
    """The newest runs of one VM in one job that succeeded: what its usual delta and duration are judged by."""
    s = schema.subjects
    question = sa.select(s.c.began_at, s.c.duration_s, s.c.read_bytes, s.c.size_bytes, s.c.mode, s.c.fallbacks)
    question = question.where(s.c.uuid == uuid, s.c.job == job, s.c.outcome == "ok")
    return _all(store, question.order_by(s.c.began_at.desc()).limit(runs))


def days(store: Store, *, since: float, until: float) -> list[Row]:
    """Per day (UTC, its first second): VM runs by outcome, bytes read, seconds. Only days on which something ran."""
    s = schema.subjects
    day = sa.cast(sa.func.floor(s.c.began_at / 86400), sa.BigInteger) * 86400
    if store.is_sqlite:
        day = sa.cast(s.c.began_at / 86400, sa.Integer) * 86400
    columns: list[sa.ColumnElement[Any]] = [
        day.label("day"),
        *(_how_many(s.c.outcome == outcome).label(outcome) for outcome in ("ok", "failed", "skipped", "interrupted")),
        sa.func.sum(s.c.read_bytes).label("read_bytes"),
        sa.func.sum(s.c.merged_bytes).label("merged_bytes"),
        sa.func.sum(s.c.fallbacks).label("fallbacks"),
        sa.func.sum(s.c.duration_s).label("duration_s"),
    ]
    question = sa.select(*columns).where(s.c.began_at >= since, s.c.began_at < until).group_by(day).order_by(day)
    return [
        {key: int(value or 0) if key != "duration_s" else value for key, value in row.items()}
        for row in _all(store, question)
    ]


def problems(store: Store, *, since: float, limit: int = 100) -> list[Row]:
    """Warnings and errors since then, the newest first, with the run, job and VM they belong to."""
    m, r, s = schema.messages, schema.runs, schema.subjects
    question = (
        sa.select(m, r.c.run_id, r.c.job, s.c.uuid, s.c.name)
        .join(r, m.c.run == r.c.id)
        .join(s, m.c.subject == s.c.id, isouter=True)
        .where(m.c.at >= since, m.c.level.in_(("warning", "error")))
        .order_by(m.c.at.desc(), m.c.id.desc())
        .limit(limit)
    )
    return _all(store, question)


def fallbacks(store: Store, *, since: float) -> list[Row]:
    """How many disks were read whole although they were backed up before, by job and ``why``."""
    m, r = schema.messages, schema.runs
    question = (
        sa.select(r.c.job, m.c.error_class.label("why"), sa.func.count().label("count"))
        .join(r, m.c.run == r.c.id)
        .where(m.c.at >= since, m.c.kind == "fell-back-to-full")
        .group_by(r.c.job, m.c.error_class)
        .order_by(r.c.job, m.c.error_class)
    )
    return _all(store, question)


def stages(store: Store, *, since: float) -> list[Row]:
    """Seconds that VMs spent in each phase, by job."""
    p, s = schema.phases, schema.subjects
    question = (
        sa.select(s.c.job, p.c.phase, sa.func.sum(p.c.duration_s).label("seconds"))
        .join(s, p.c.subject == s.c.id)
        .where(s.c.began_at >= since, p.c.duration_s.is_not(None))
        .group_by(s.c.job, p.c.phase)
        .order_by(s.c.job, p.c.phase)
    )
    return _all(store, question)


def newest_samples(store: Store) -> dict[str, Row]:
    """The newest sample of each remote."""
    t = schema.samples
    newest = sa.select(sa.func.max(t.c.id)).group_by(t.c.remote)
    return {row["remote"]: row for row in _all(store, sa.select(t).where(t.c.id.in_(newest)))}


def samples(store: Store, remote: str, *, since: float) -> Sequence[Row]:
    """How full a remote was, the oldest first."""
    t = schema.samples
    return _all(store, sa.select(t).where(t.c.remote == remote, t.c.at >= since).order_by(t.c.at))


def damaged(store: Store) -> list[Row]:
    """What is known of the soundness of backups, by VM and remote; where damage was ever found."""
    t = schema.soundness
    return _all(store, sa.select(t).where(t.c.damaged_at.is_not(None)).order_by(t.c.name, t.c.uuid, t.c.remote))


def tests_since(store: Store, *, since: float) -> list[Row]:
    """Health checks, the newest first."""
    c, s = schema.checks, schema.subjects
    question = sa.select(c, s.c.name, s.c.uuid, s.c.job).join(s, c.c.subject == s.c.id).where(c.c.at >= since)
    return _all(store, question.order_by(c.c.at.desc(), c.c.id.desc()).limit(1000))


def pools(store: Store) -> list[Row]:
    """What the newest run that asked each pool found there."""
    return _all(store, sa.select(schema.pools).order_by(schema.pools.c.pool))


def about_locks(store: Store, classes: Sequence[str]) -> list[Row]:
    """What the newest run of each VM said of locks: its messages of these classes."""
    n, s, m = schema.latest, schema.subjects, schema.messages
    mine = sa.and_(s.c.uuid == n.c.uuid, s.c.job == n.c.job, s.c.began_at == n.c.began_at)
    question = (
        sa.select(n.c.job, n.c.uuid, n.c.name, m.c.error_class, m.c.remote, m.c.text, m.c.level)
        .select_from(n.join(s, mine).join(m, m.c.subject == s.c.id))
        .where(m.c.error_class.in_(classes))
        .order_by(n.c.name, m.c.id)
    )
    return _all(store, question)


def sums_by_job(store: Store, *, since: float) -> list[Row]:
    """Runs that began since then, by job and outcome, with what they read."""
    t = schema.runs
    columns = (t.c.job, t.c.outcome, sa.func.count().label("runs"), sa.func.sum(t.c.read_bytes).label("read_bytes"))
    question = sa.select(*columns).where(t.c.began_at >= since, t.c.job != "").group_by(t.c.job, t.c.outcome)
    return _all(store, question.order_by(t.c.job, t.c.outcome))


def _how_many(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.sum(sa.case((condition, 1), else_=0))


def _all(store: Store, question: sa.Select[Any]) -> list[Row]:
    with store.reading() as connection:
        found = connection.execute(question)
        names = list(found.keys())
        return [dict(zip(names, row, strict=True)) for row in found.all()]
