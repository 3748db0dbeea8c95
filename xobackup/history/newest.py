"""What is known of a VM now, from the tables: its newest good run, and what is unusual about it.

Kept in ``latest`` with every run that is written, so that questions about now read one row per VM and job.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from xobackup.history import schema
from xobackup.history.anomalies import RUNS, Run, anomalies, fulls_in_a_row

REASON_MAX = 2000


def _question() -> sa.Select[Any]:
    """The newest good runs of a VM, a row for each of their disks."""
    s, d = schema.subjects, schema.disks
    mine = sa.and_(s.c.uuid == sa.bindparam("uuid"), s.c.job == sa.bindparam("job"))
    columns = (s.c.id, s.c.began_at, s.c.mode, s.c.read_bytes, s.c.fallbacks)
    good = sa.select(*columns).where(mine, s.c.outcome == "ok", s.c.mode != "")
    newest = good.order_by(s.c.began_at.desc(), s.c.id.desc()).limit(RUNS).subquery()
    of_disks = (d.c.disk, d.c.name, d.c.packed, d.c.chain)
    return (
        sa.select(newest, *of_disks)
        .select_from(newest.join(d, d.c.subject == newest.c.id, isouter=True))
        .order_by(newest.c.began_at.desc(), newest.c.id.desc(), d.c.id)
    )


_RUNS = _question()


def newest_good(connection: sa.Connection, job: str, uuid: str) -> dict[str, Any]:
    """Columns ``fallbacks`` to ``odd`` of ``latest``; nothing when no good run is known."""
    rows = list(connection.execute(_RUNS, {"job": job, "uuid": uuid}))
    if not rows:
        return {}
    by_run: dict[int, list[Any]] = {}
    for row in rows:
        by_run.setdefault(row.id, []).append(row)
    runs = [_run(of_run) for of_run in by_run.values()]
    newest = rows[0]
    newest = rows[0]
    chains = [row.chain for row in by_run[newest.id] if row.chain is not None]
    return {
        "fallbacks": newest.fallbacks,
        "full_reason": _why_full(connection, newest.id) if newest.fallbacks else "",
        "chain": max(chains, default=None),
        "known": len(runs),
        "fulls": fulls_in_a_row(runs),
        "odd": json.dumps([one.as_data() for one in anomalies(runs)]),
    }


def _run(rows: Sequence[Any]) -> Run:
    first = rows[0]
    return Run(
        began_at=first.began_at,
        mode=first.mode,
        read_bytes=first.read_bytes,
        packed={row.disk: row.packed for row in rows if row.packed is not None},
        names={row.disk: row.name for row in rows if row.disk is not None},
    )


def _why_full(connection: sa.Connection, subject: int) -> str:
    m = schema.messages
    told = sa.select(m.c.text).where(m.c.subject == subject, m.c.kind == "fell-back-to-full").order_by(m.c.id)
    return "; ".join(dict.fromkeys(connection.scalars(told)))[:REASON_MAX]
